package ebpf

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"semantos/ebpf/probe"
	"semantos/ebpf/runqlat"
)

// roleEnv makes the test binary a child: "hold" opens the set and waits to be killed; a mode opens the
// set in that mode where bpf(2) kills the process.
const roleEnv = "SEMANTOS_EBPF_TEST_ROLE"

func child(role string) int {
	mode := role
	if role == "hold" {
		mode = Auto
	} else if err := killOnBPF(); err != nil {
		fmt.Println(err)
		return 3
	}
	s, err := Open(context.Background(), Config{Mode: mode})
	if err != nil {
		fmt.Println(err)
		return 4
	}
	s.Read(newTally())
	s.Status()
	_ = s.Want(Ask{Probe: "runqlat", Until: time.Now().Add(time.Minute), Why: "test"})
	fmt.Println("open")
	if role == "hold" {
		time.Sleep(time.Minute)
	}
	if err := s.Close(); err != nil {
		return 5
	}
	return 0
}

// killOnBPF installs a seccomp filter in all threads under which bpf(2) ends the process.
func killOnBPF() error {
	const (
		loadNumber = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal      = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		answer     = unix.BPF_RET | unix.BPF_K
	)
	filter := []unix.SockFilter{
		{Code: loadNumber},
		{Code: equal, K: unix.SYS_BPF, Jf: 1},
		{Code: answer, K: unix.SECCOMP_RET_KILL_PROCESS},
		{Code: answer, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC,
		uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(filter)
	if errno != 0 {
		return fmt.Errorf("install filter: %w", errno)
	}
	return nil
}

func runChild(t *testing.T, role string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	return cmd
}

// TestOffNeverCallsBPF: where bpf(2) is deadly, off lives. That auto dies there shows that the trap works.
func TestOffNeverCallsBPF(t *testing.T) {
	t.Parallel()
	out, err := runChild(t, Off).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "open") {
		t.Errorf("off: %v %s", err, out)
	}
	cmd := runChild(t, Auto)
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Errorf("auto lived where bpf(2) is deadly: the trap does not work: %s", out)
	} else if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGSYS {
		t.Skipf("no seccomp trap here: %v %s", err, out)
	}
}

// programs lists the BPF programs a process holds.
func programs(t *testing.T, pid int) []ebpf.ProgramID {
	t.Helper()
	infos, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	var ids []ebpf.ProgramID
	for _, path := range infos {
		text, err := os.ReadFile(path)
		if err != nil || strings.Contains(string(text), "link_type") {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if v, ok := strings.CutPrefix(line, "prog_id:"); ok {
				id, err := strconv.ParseUint(strings.TrimSpace(v), 10, 32)
				if err != nil {
					t.Fatal(err)
				}
				ids = append(ids, ebpf.ProgramID(id))
			}
		}
	}
	return ids
}

func alive(ids []ebpf.ProgramID) int {
	n := 0
	for _, id := range ids {
		if p, err := ebpf.NewProgramFromID(id); err == nil {
			n++
			p.Close()
		}
	}
	return n
}

// needsRoot skips where probes cannot load.
func needsRoot(t *testing.T) {
	t.Helper()
	// One probe that asks for little: on a kernel that lacks what another needs, the set is tested all the same.
	s, err := Open(t.Context(), Config{Mode: On, Specs: []probe.Spec{runqlat.New()}})
	if err != nil {
		t.Skipf("probes do not load here: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestKilledLeavesNothing: programs die with the process that is killed.
func TestKilledLeavesNothing(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	cmd := runChild(t, "hold")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "open\n" {
		t.Fatalf("child said %q, %v", line, err)
	}
	ids := programs(t, cmd.Process.Pid)
	if len(ids) == 0 || alive(ids) != len(ids) {
		t.Fatalf("the child holds programs %v, of which %d live", ids, alive(ids))
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	for deadline := time.Now().Add(10 * time.Second); alive(ids) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d programs outlive the process", alive(ids), len(ids))
		}
	}
}

package cli

import (
	"bufio"
	bytesof "encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// memoryRole makes the test binary a process of the control group it names. It holds memory as it is told
// on stdin, one word a line: see [holdMemory].
const memoryRole = "SEMANTOS_TEST_MEMORY"

// holdMemory answers "MIB" by holding so much, 0 for none, with a line once it does. A negative number has it
// take that much and give it back over and over until the next word.
func holdMemory() int {
	if err := os.WriteFile(filepath.Join(os.Getenv(memoryRole), "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("here")
	var held []byte
	var churning chan struct{}
	var churned sync.WaitGroup
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		mib, err := strconv.Atoi(lines.Text())
		if churning != nil {
			close(churning)
			churned.Wait()
			churning = nil
		}
		if mib < 0 {
			churning = make(chan struct{})
			churned.Go(func() { churn(-mib<<20, churning) })
		}
		if held != nil {
			err = errors.Join(err, unix.Munmap(held))
			held = nil
		}
		if err == nil && mib > 0 {
			held, err = unix.Mmap(-1, 0, mib<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_POPULATE)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Println("held", mib)
	}
	return 0
}

// churn writes to fresh pages without end, before others where the kernel lets it.
func churn(size int, stop <-chan struct{}) {
	runtime.LockOSThread()
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, -20) // slower otherwise, and no less true
	noise := rand.New(rand.NewPCG(1, 2))
	for {
		m, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			panic(err)
		}
		_ = unix.Madvise(m, unix.MADV_NOHUGEPAGE) // a kernel without huge pages has no such advice
		for at := 0; at < size; at += 4096 {
			for i := at; i < at+4096; i += 128 { // not all alike, or zram stores one word
				bytesof.NativeEndian.PutUint64(m[i:], noise.Uint64())
			}
			select {
			case <-stop:
				_ = unix.Munmap(m)
				return
			default:
			}
		}
		_ = unix.Munmap(m)
	}
}

// memoryGroup is a control group with a memory limit, gone with the test.
func memoryGroup(t *testing.T, name string, mib int) (dir, group string) {
	t.Helper()
	group = fmt.Sprintf("/semantos-%s-%d", name, os.Getpid())
	root, limit := "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
	if _, err := os.Stat(filepath.Join(root, limit)); err != nil {
		root, limit = "/sys/fs/cgroup", "memory.max"
	}
	dir = filepath.Join(root, group)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skipf("needs root and the memory controller: %v", err)
	}
	t.Cleanup(func() { waitFor(t, 5*time.Second, "the group is empty", func() bool { return os.Remove(dir) == nil }) })
	if err := os.WriteFile(filepath.Join(dir, limit), []byte(strconv.Itoa(mib<<20)), 0); err != nil {
		t.Skipf("needs the memory controller: %v", err)
	}
	return dir, group
}

// holder is a process with [memoryRole].
type holder struct {
	cmd   *exec.Cmd
	in    io.Writer
	lines *bufio.Scanner
}

func newHolder(t *testing.T, dir string) *holder {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env, cmd.Stderr = []string{memoryRole + "=" + dir}, os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	h := &holder{cmd: cmd, in: in, lines: bufio.NewScanner(out)}
	if !h.lines.Scan() {
		t.Fatalf("the process in %s does not start", dir)
	}
	return h
}

// holds has it hold memory, and says whether it lives.
func (h *holder) holds(mib int) bool {
	_, err := fmt.Fprintln(h.in, mib)
	return err == nil && h.lines.Scan()
}

// killedIn has the kernel kill a process at the group's limit.
func killedIn(t *testing.T, dir string) {
	t.Helper()
	h := newHolder(t, dir)
	if h.holds(400) {
		t.Fatalf("a process holds 400 MiB in %s and lives", dir)
	}
	_ = h.cmd.Wait() // killed, and that is all
}

package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// fiFreeze and fiThaw are FIFREEZE and FITHAW of linux/fs.h: every write to the file system waits.
const fiFreeze, fiThaw = 0xC0045877, 0xC0045878

// onOwnDisk gives the machine a data folder on a file system of its own, which can be made to hang for writes: a
// process that writes there then ends by nothing before thaw, not even by kill -9.
func (m *machine) onOwnDisk(t *testing.T) (freeze, thaw func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: a loop mount")
	}
	mount, image := t.TempDir(), filepath.Join(t.TempDir(), "image")
	for _, c := range [][]string{{"truncate", "-s", "64M", image}, {"mkfs.ext4", "-q", image}, {"mount", "-o", "loop", image, mount}} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Skipf("no disk to freeze here: %s: %v: %s", strings.Join(c, " "), err, out)
		}
	}
	dir, err := os.Open(mount)
	if err != nil {
		t.Fatal(err)
	}
	frozen := false
	ask := func(what uint, on bool) func() {
		return func() {
			if frozen == on {
				return
			}
			if err := unix.IoctlSetInt(int(dir.Fd()), what, 0); err != nil {
				t.Errorf("ioctl %x: %v", what, err)
			}
			frozen = on
		}
	}
	freeze, thaw = ask(fiFreeze, true), ask(fiThaw, false)
	t.Cleanup(func() {
		thaw()
		_ = dir.Close()
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) { // what hung still ends
			out, err := exec.Command("umount", mount).CombinedOutput()
			if err == nil {
				return
			}
			if time.Now().After(deadline) {
				t.Errorf("umount: %v: %s", err, out)
				return
			}
		}
	})
	m.data = filepath.Join(mount, "data")
	return freeze, thaw
}

// goesSilent puts a file system before the data folder that never answers anything, as one whose server has gone.
func (m *machine) goesSilent(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: a mount")
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no FUSE here: %v", err)
	}
	if err := unix.Mount("silent", m.data, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)); err != nil {
		unix.Close(fd)
		t.Skipf("no FUSE here: %v", err)
	}
	t.Cleanup(func() { // nobody ever reads what it is asked, so all wait until the descriptor closes
		unix.Close(fd)
		for deadline := time.Now().Add(10 * time.Second); m.anyProcess() && time.Now().Before(deadline); {
			time.Sleep(50 * time.Millisecond) // what waited ends
		}
		if err := unix.Unmount(m.data, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// anyProcess reports whether a process of the machine's runs.
func (m *machine) anyProcess() bool {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range lines {
		if text, err := os.ReadFile(f); err == nil && strings.Contains(string(text), m.data) {
			return true
		}
	}
	return false
}

// endsBeside runs the real binary, which must be over, and its output with it, within limit.
func (m *machine) endsBeside(t *testing.T, limit time.Duration, args ...string) result {
	t.Helper()
	cmd := exec.Command(binary, append([]string{"--root", m.root, "--data-dir", m.data}, args...)...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, m.env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	start := time.Now()
	go func() { _ = cmd.Wait(); close(over) }()
	select {
	case <-over:
	case <-time.After(limit):
		t.Fatalf("%v is not over after %s, swappiness is %s", args, limit, m.read(t, "proc/sys/vm/swappiness"))
	}
	t.Logf("%v took %s", args, time.Since(start).Round(time.Millisecond))
	return result{exit: cmd.ProcessState.ExitCode(), stdout: out.String(), stderr: errs.String()}
}

// kept keeps a swappiness of 40 and gives the rollout.
func (m *machine) kept(t *testing.T) tune.Rollout {
	t.Helper()
	var r tune.Rollout
	got := m.run(t, "apply", "--set", "vm.swappiness=40", "--yes", "--stage-time", "1s", "--json")
	if got.decode(t, &r); got.exit != 0 {
		t.Fatal(got.stderr)
	}
	return r
}

// TestRollbackNeedsNoDisk: the disk of DATA_DIR hangs and no serve runs. A value that was kept is put back all the
// same, by any of its names, and the command ends; history hears of it once the disk answers.
func TestRollbackNeedsNoDisk(t *testing.T) {
	t.Parallel()
	for name, command := range map[string]func(tune.Rollout) []string{
		"recommendation": func(r tune.Rollout) []string { return []string{"rollback", r.Recommendation.ID, "--json"} },
		"undo":           func(tune.Rollout) []string { return []string{"undo"} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, nil)
			m.env = []string{"ALERT_WEBHOOK=http://127.0.0.1:1/"} // its spool lies there too
			freeze, thaw := m.onOwnDisk(t)
			r := m.kept(t)
			freeze()
			got := m.endsBeside(t, time.Minute, command(r)...)
			if v := m.read(t, "proc/sys/vm/swappiness"); v != "60" {
				t.Errorf("swappiness is %s", v)
			}
			if got.exit != 1 || !strings.Contains(got.stdout, "restored") || !strings.Contains(got.stderr, m.data) || !strings.Contains(got.stderr, "Try: ") {
				t.Errorf("exit %d\n%s%s", got.exit, got.stdout, got.stderr)
			}
			if name == "recommendation" && !json.Valid([]byte(got.stdout)) {
				t.Errorf("no one document:\n%s", got.stdout)
			}
			thaw()
			var doc historyDocument
			for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
				doc = historyDocument{}
				m.run(t, "history", "--json").decode(t, &doc)
				if len(doc.Rollouts) == 1 && doc.Rollouts[0].State == tune.RolledBack {
					return
				}
			}
			t.Errorf("history was never told: %+v", doc.Rollouts)
		})
	}
}

// TestRollbackOfAServeThatIsStuck: SQLite in serve waits for a hung disk, and may hold up all of serve. Its guard puts
// back what was tried. A rollback comes back and says which process to end, and then puts back what was kept.
func TestRollbackOfAServeThatIsStuck(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	freeze, thaw := m.onOwnDisk(t)
	defer thaw() // else nothing of serve's ends
	_, serve, _ := m.serving(t)
	m.ready(t)
	m.kept(t)
	if err := syscall.Kill(serve, syscall.SIGSTOP); err != nil { // the worst that can become of it, on any number of CPUs
		t.Fatal(err)
	}
	freeze()
	got := m.endsBeside(t, time.Minute, "rollback", "--all")
	pid := regexp.MustCompile(`stop it first: pid ([0-9]+)`).FindStringSubmatch(got.stderr)
	if got.exit != 1 || !strings.Contains(got.stderr, "serve does not answer") || pid == nil {
		t.Fatalf("exit %d\n%s%s", got.exit, got.stdout, got.stderr)
	}
	guard, err := strconv.Atoi(pid[1])
	if err != nil || guard != guardOf(t, serve) {
		t.Fatalf("it names pid %d: %v", guard, err)
	}
	if err := syscall.Kill(guard, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	got = m.endsBeside(t, 2*time.Minute, "rollback", "--all")
	if v := m.read(t, "proc/sys/vm/swappiness"); got.exit != 1 || v != "60" || !strings.Contains(got.stdout, "restored") {
		t.Errorf("swappiness is %s, exit %d\n%s%s", v, got.exit, got.stdout, got.stderr)
	}
}

// TestRollbackOfASilentDataDir: nothing of DATA_DIR can even be looked at; the copies in the run folder are enough.
func TestRollbackOfASilentDataDir(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	r := m.kept(t)
	m.goesSilent(t)
	m.env = []string{"ALERT_WEBHOOK=http://127.0.0.1:1/"}
	got := m.endsBeside(t, time.Minute, "rollback", r.ID)
	if v := m.read(t, "proc/sys/vm/swappiness"); v != "60" {
		t.Errorf("swappiness is %s", v)
	}
	if got.exit != 1 || !strings.Contains(got.stdout, "restored") || !strings.Contains(got.stderr, m.data) || !strings.Contains(got.stderr, "Try: ") {
		t.Errorf("exit %d\n%s%s", got.exit, got.stdout, got.stderr)
	}
}

// TestFreezeNeedsNoDisk: freezing and its end come back from a disk that hangs and say what stands.
func TestFreezeNeedsNoDisk(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"hung", "silent"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, nil)
			answers := func() {}
			if kind == "hung" {
				freeze, thaw := m.onOwnDisk(t)
				m.kept(t)
				if got := m.run(t, "freeze", "--why", "soon"); got.exit != 0 { // what is to be removed there
					t.Fatal(got.stderr)
				}
				freeze()
				answers = thaw
			} else {
				m.kept(t)
				m.goesSilent(t)
			}
			word := filepath.Join(m.root, "run/semantos/frozen")
			got := m.endsBeside(t, time.Minute, "freeze", "--why", "the disk is gone")
			if _, err := os.Stat(word); err != nil || !strings.Contains(got.stderr, m.data) || !strings.Contains(got.stdout, "the disk is gone") {
				t.Errorf("%v, exit %d\n%s%s", err, got.exit, got.stdout, got.stderr)
			}
			if kind == "silent" {
				return
			}
			got = m.endsBeside(t, time.Minute, "freeze", "--off")
			if _, err := os.Stat(word); err != nil || got.exit != 1 || !strings.Contains(got.stderr, m.data) || !strings.Contains(got.stderr, "stays frozen") {
				t.Errorf("--off on a disk that may say so: %v, exit %d\n%s%s", err, got.exit, got.stdout, got.stderr)
			}
			answers()
			if got := m.endsBeside(t, time.Minute, "freeze", "--off"); got.exit != 0 {
				t.Errorf("exit %d\n%s%s", got.exit, got.stdout, got.stderr)
			}
		})
	}
}

package host_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"semantos/internal/host"
	"semantos/internal/host/hosttest"
	"semantos/internal/tune"
)

func watchFiles(t *testing.T, h *host.Host) *host.FileWatch {
	t.Helper()
	w, err := h.WatchFiles()
	if errors.Is(err, tune.ErrNotPermitted) || errors.Is(err, tune.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// shell is a shell that does one thing and then waits until the test ends.
func shell(t *testing.T, script string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sh", "-c", script+"; echo done; read wait")
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
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait() // its status is its own affair
	})
	if _, err := io.ReadFull(out, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// TestFileWatchNamesWriters: of a device's file below /sys, with ours told apart.
func TestFileWatchNamesWriters(t *testing.T) {
	hosttest.Alone(t)
	loops, err := filepath.Glob("/sys/block/loop*/queue/read_ahead_kb")
	if err != nil || len(loops) == 0 || os.Geteuid() != 0 {
		t.Skip("needs root and a loop device")
	}
	file := loops[0]
	device := strings.Split(file, "/")[3]
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(file, before, 0o644); err != nil {
			t.Error(err)
		}
	})
	h := host.New(host.Config{})
	ahead := &tune.Tunable{Name: "block/{dev}/queue/read_ahead_kb", Scope: tune.ScopeDevice, Method: tune.MethodSysfs, Path: "block/{dev}/queue/read_ahead_kb", Kind: tune.KindInteger, Arity: 1}
	w := watchFiles(t, h)
	if seen := w.Writes(ahead, device); !seen.Since.IsZero() || seen.Why == "" {
		t.Errorf("before it is held: %+v", seen)
	}
	if err := w.Hold(ahead, device); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Write(ahead, device, "256"); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	cmd := shell(t, "echo 512 > "+file)
	seen := w.Writes(ahead, device)
	if len(seen.Writes) != 2 || seen.Since.IsZero() {
		t.Fatalf("seen %+v", seen)
	}
	if own := seen.Writes[0]; !own.Own || own.Value != "256" {
		t.Errorf("own: %+v", own)
	}
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	got := seen.Writes[1]
	if got.Own || got.PID != cmd.Process.Pid || got.Comm != "sh" || got.Exe != exe || got.UID != 0 || got.Parent != os.Getpid() || got.ParentComm == "" ||
		got.Value != "512" || got.Lost != 0 || got.Time.Before(start) || got.Time.After(time.Now()) {
		t.Errorf("the shell: %+v", got)
	}
}

// TestFileWatchOfGoneWriters: one that had ended is known by its number at least, and never by another's name.
func TestFileWatchOfGoneWriters(t *testing.T) {
	t.Parallel()
	w := watchFiles(t, host.New(host.Config{}))
	sleeper := exec.Command("sleep", "60")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = sleeper.Process.Kill(), sleeper.Wait() })
	target := fmt.Sprintf("pid:%d", sleeper.Process.Pid)
	adj := &tune.Tunable{Name: "process/oom_score_adj", Scope: tune.ScopeProcess, Method: tune.MethodProcess, Path: "oom_score_adj", Kind: tune.KindInteger, Arity: 1}
	if err := w.Hold(adj, target); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		cmd := exec.Command("sh", "-c", fmt.Sprintf("echo %d > /proc/%d/oom_score_adj", 700+i, sleeper.Process.Pid))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		seen := w.Writes(adj, target)
		if len(seen.Writes) != i+1 {
			t.Fatalf("seen %+v", seen)
		}
		if got := seen.Writes[i]; got.PID != cmd.Process.Pid || got.Comm != "sh" && got.Comm != "" || got.Value != tune.Value(fmt.Sprint(700+i)) {
			t.Errorf("%d: %+v", cmd.Process.Pid, got)
		}
	}
}

// TestFileWatchOfManyWrites: more than are remembered move the moment since which all are known; a target that
// is not there cannot be watched.
func TestFileWatchOfManyWrites(t *testing.T) {
	t.Parallel()
	w := watchFiles(t, host.New(host.Config{}))
	adj := &tune.Tunable{Name: "process/timerslack_ns", Scope: tune.ScopeProcess, Method: tune.MethodProcess, Path: "timerslack_ns", Kind: tune.KindInteger, Arity: 1}
	sleeper := shell(t, "true")
	target := fmt.Sprintf("pid:%d", sleeper.Process.Pid)
	if err := w.Hold(adj, target); err != nil {
		t.Fatal(err)
	}
	first := w.Writes(adj, target)
	for i := range 40 {
		if out, err := exec.Command("sh", "-c", fmt.Sprintf("echo %d > /proc/%d/timerslack_ns", 60000+i, sleeper.Process.Pid)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		w.Writes(adj, target)
	}
	seen := w.Writes(adj, target)
	if len(seen.Writes) != 32 || seen.Writes[31].Value != "60039" || !seen.Since.After(first.Since) {
		t.Errorf("%d writes since %v, first since %v", len(seen.Writes), seen.Since, first.Since)
	}
	if err := w.Hold(adj, "pid:2147483646"); err == nil {
		t.Error("watches nobody")
	}
	other := &tune.Tunable{Name: "process/mem", Scope: tune.ScopeProcess, Method: tune.MethodProcess, Path: "mem", Kind: tune.KindInteger, Arity: 1}
	if err := w.Hold(other, target); !errors.Is(err, tune.ErrDenied) {
		t.Errorf("watches what may not be written: %v", err)
	}
}

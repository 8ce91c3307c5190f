package cli

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"semantos/console"
	"semantos/internal/tune"
)

// freePort asks the kernel for a port nobody has.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// serving starts serve and waits for /healthz; it gives the address and how long that took.
func (m *machine) serving(t *testing.T, args ...string) (address string, pid int, took time.Duration) {
	t.Helper()
	address = freePort(t)
	start := time.Now()
	cmd, _ := m.start(t, append([]string{"serve", "--listen", address, "--sample-interval-sec", "0.5", "--poll-interval-sec", "1"}, args...)...)
	for {
		resp, err := http.Get("http://" + address + "/healthz")
		if err == nil {
			resp.Body.Close()
			return address, cmd.Process.Pid, time.Since(start)
		}
		if time.Since(start) > 30*time.Second {
			t.Fatalf("serve does not answer: %v", err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func get(t *testing.T, url string) int {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// ready waits for the control socket to do work.
func (m *machine) ready(t *testing.T) *client {
	t.Helper()
	a := &app{}
	a.cfg.DataDir = m.data
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		if c := a.serving(t.Context()); c != nil {
			var s console.Status
			if err := c.call(t.Context(), http.MethodGet, "/status", nil, &s); err == nil {
				return c
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("serve is not ready after 30 s")
	return nil
}

func TestServeAnswersWorksAndStops(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	address, pid, took := m.serving(t)
	t.Logf("/healthz answered after %s", took)
	m.ready(t)
	for path, want := range map[string]int{"/healthz": 200, "/metrics": 200, "/status": 404, "/apply": 404} {
		if got := get(t, "http://"+address+path); got != want {
			t.Errorf("%s answered %d, want %d", path, got, want)
		}
	}
	info, err := os.Stat(filepath.Join(m.data, "semantos.sock"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("control socket: %v %v", info, err)
	}
	if got := m.run(t, "serve", "--listen", freePort(t)); got.exit != 1 || !strings.Contains(got.stderr, "another semantos") {
		t.Errorf("a second serve: exit %d %s", got.exit, got.stderr)
	}
	m.worksThroughServe(t)
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	m.gone(t, pid, 5*time.Second)
}

// worksThroughServe uses the commands as beside no serve.
func (m *machine) worksThroughServe(t *testing.T) {
	t.Helper()
	var doc advice
	if got := m.run(t, "recommend", "--window", "2s", "--json"); got.exit != 0 {
		t.Errorf("recommend: exit %d %s", got.exit, got.stderr)
	} else if got.decode(t, &doc); doc.Snapshot.Ticks < 2 || doc.Recommendations == nil || doc.Symptoms == nil {
		t.Errorf("recommend: %s", got.stdout)
	}
	var r tune.Rollout
	got := m.run(t, "apply", "--set", "vm.swappiness=40", "--meter", steady(t), "--stage-time", "3s", "--json")
	got.decode(t, &r)
	if got.exit != 0 || r.State != tune.Committed || !strings.HasPrefix(r.Meter, "cmd:") || r.Effect == nil {
		t.Errorf("apply: exit %d, %+v\n%s", got.exit, r, got.stderr)
	}
	var status statusDocument
	m.run(t, "status", "--json").decode(t, &status)
	if len(status.Managed) != 1 || status.Managed[0].State != "committed" {
		t.Errorf("status: %+v", status.Managed)
	}
	got = m.run(t, "apply", "--set", "vm.swappiness=500", "--yes", "--json")
	if got.exit != exitUsage {
		t.Errorf("out of range through serve: exit %d %s", got.exit, got.stdout)
	}
	if got := m.run(t, "undo"); got.exit != 0 || m.read(t, "proc/sys/vm/swappiness") != "60" {
		t.Errorf("undo: exit %d, swappiness %s\n%s%s", got.exit, m.read(t, "proc/sys/vm/swappiness"), got.stdout, got.stderr)
	}
	if got := m.run(t, "rollback", "nothing-1"); got.exit != exitUsage {
		t.Errorf("rollback of an unknown id: exit %d %s", got.exit, got.stderr)
	}
}

func (m *machine) gone(t *testing.T, pid int, limit time.Duration) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d still runs after %s", pid, limit)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestHealthzAnswersAtOnce: the listeners open first, the rest follows. The best of some starts counts,
// because other tests keep the CPUs busy.
func TestHealthzAnswersAtOnce(t *testing.T) {
	t.Parallel()
	best := time.Hour
	for range 8 {
		m := newMachine(t, nil)
		_, pid, took := m.serving(t)
		best = min(best, took)
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if best < 300*time.Millisecond {
			return
		}
	}
	t.Errorf("/healthz answered after %s at best, want less than 300 ms", best)
}

func TestStoppingServePutsATrialBack(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	_, pid, _ := m.serving(t)
	m.ready(t)
	done := make(chan result, 1)
	go func() {
		done <- m.run(t, "apply", "--set", "vm.swappiness=40", "--meter", steady(t), "--stage-time", "60s", "--json")
	}()
	m.becomes(t, "proc/sys/vm/swappiness", "40", 30*time.Second)
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	m.gone(t, pid, 10*time.Second)
	if v := m.read(t, "proc/sys/vm/swappiness"); v != "60" {
		t.Errorf("swappiness is %s", v)
	}
	// Its meter ran in the command line: no other serve could go on with it.
	var r tune.Rollout
	got := <-done
	if got.decode(t, &r); got.exit != 3 || r.State != tune.RolledBack {
		t.Errorf("apply: exit %d, %s\n%s", got.exit, got.stdout, got.stderr)
	}
}

func TestInterruptedApplyThroughServePutsBack(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	m.serving(t)
	m.ready(t)
	cmd, out := m.start(t, "apply", "--set", "vm.swappiness=40", "--yes", "--stage-time", "60s", "--json")
	m.becomes(t, "proc/sys/vm/swappiness", "40", 30*time.Second)
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the status is read below
	var r tune.Rollout
	result{stdout: out.String()}.decode(t, &r)
	if cmd.ProcessState.ExitCode() != 3 || r.State != tune.RolledBack || m.read(t, "proc/sys/vm/swappiness") != "60" {
		t.Errorf("exit %d, %s %s, swappiness %s", cmd.ProcessState.ExitCode(), r.State, r.Reason, m.read(t, "proc/sys/vm/swappiness"))
	}
}

func TestServeEnds1WhenItsGuardDies(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	address := freePort(t)
	cmd, _ := m.start(t, "serve", "--listen", address)
	m.ready(t)
	if err := syscall.Kill(guardOf(t, cmd.Process.Pid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }() // the status is read below
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("serve goes on without a guard")
	}
	if code := cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit %d, want 1", code)
	}
}

func TestNotifyTellsTheServiceManager(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenPacket("unixgram", name)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	m := newMachine(t, nil)
	m.env = []string{"NOTIFY_SOCKET=" + name}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	deadline, _ := ctx.Deadline()
	if err := l.SetReadDeadline(deadline); err != nil {
		t.Fatal(err)
	}
	m.serving(t)
	buf := make([]byte, 64)
	n, _, err := l.ReadFrom(buf)
	if err != nil || string(buf[:n]) != "READY=1" {
		t.Errorf("got %q, %v", buf[:n], err)
	}
}

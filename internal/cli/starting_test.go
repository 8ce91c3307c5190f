package cli

import (
	"errors"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// TestCommandsWaitForAStartingServe: the listeners answer before the rooms are open, and a command that
// comes between waits instead of failing.
func TestCommandsWaitForAStartingServe(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	m.serving(t)
	if got := m.run(t, "status", "--json"); got.exit != 0 {
		t.Errorf("status: exit %d %s", got.exit, got.stderr)
	}
}

// TestServeToldToEndWhileItStarts: that is an end and no failure, whatever was being opened.
func TestServeToldToEndWhileItStarts(t *testing.T) {
	t.Parallel()
	for _, wait := range []time.Duration{20, 50, 100, 200, 400} {
		m := newMachine(t, nil)
		cmd, _ := m.start(t, "serve", "--listen", freePort(t))
		m.listens(t)
		time.Sleep(wait * time.Millisecond)
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		err := cmd.Wait()
		if exit := new(exec.ExitError); errors.As(err, &exit) {
			t.Errorf("%d ms after it listened: %v", wait, exit)
		}
	}
}

// listens waits for the control socket to answer.
func (m *machine) listens(t *testing.T) {
	t.Helper()
	a := &app{}
	a.cfg.DataDir = m.data
	for deadline := time.Now().Add(30 * time.Second); a.serving(t.Context()) == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("serve does not listen after 30 s")
		}
	}
}

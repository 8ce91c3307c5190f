package cli

import (
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"semantos/console"
	"semantos/internal/tune"
)

// history gives all rollouts as a person sees them.
func (m *machine) history(t *testing.T) []tune.Rollout {
	t.Helper()
	var doc historyDocument
	m.run(t, "history", "--json").decode(t, &doc)
	return doc.Rollouts
}

// until waits for the newest rollout to be as wanted.
func (m *machine) until(t *testing.T, what string, is func(tune.Rollout) bool) tune.Rollout {
	t.Helper()
	var last tune.Rollout
	for deadline := time.Now().Add(90 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		var doc statusDocument
		got := m.run(t, "status", "--json")
		if got.exit != 0 {
			continue // serve is starting
		}
		got.decode(t, &doc)
		if len(doc.Rollouts) > 0 {
			if last = doc.Rollouts[0]; is(last) {
				return last
			}
		}
	}
	t.Fatalf("no rollout that %s; the newest is %s %s in stage %d: %s", what, last.State, last.Reason, len(last.Stages), last.Detail)
	return last
}

func ended(r tune.Rollout) bool { return !r.Ended.IsZero() }

func stage(n int) func(tune.Rollout) bool {
	return func(r tune.Rollout) bool { return len(r.Stages) >= n }
}

func (m *machine) signal(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
	m.gone(t, pid, 15*time.Second)
	m.becomes(t, "proc/sys/vm/swappiness", "60", 10*time.Second)
}

// apply asks serve for an unmeasured change, which is kept when no limit broke, and gives the outcome later.
func (m *machine) later(t *testing.T, args ...string) <-chan result {
	t.Helper()
	done := make(chan result, 1)
	go func() {
		done <- m.run(t, append([]string{"apply", "--set", "vm.swappiness=40", "--yes", "--json"}, args...)...)
	}()
	return done
}

// TestServeKilledInAStageGoesOn: kill -9 in the second stage, and another serve ends the rollout.
func TestServeKilledInAStageGoesOn(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	_, pid, _ := m.serving(t)
	m.ready(t)
	client := m.later(t, "--stage-time", "5s")
	before := m.until(t, "is in its second stage", stage(2))
	m.signal(t, pid, syscall.SIGKILL)
	if got := <-client; got.exit != 1 {
		t.Errorf("the client of a killed serve: exit %d\n%s", got.exit, got.stderr)
	}
	if r := m.history(t)[0]; r.State != tune.Running || !strings.Contains(r.Detail, "goes on when serve starts again") {
		t.Errorf("between two serves: %s %q", r.State, r.Detail)
	}
	m.serving(t)
	m.ready(t)
	r := m.until(t, "has ended", ended)
	if r.ID != before.ID || r.State != tune.Committed || r.Resumed != 1 || len(r.Stages) < 2 || !r.Started.Equal(before.Started) {
		t.Errorf("it went on as %+v", r)
	}
	if all := m.history(t); len(all) != 1 || m.read(t, "proc/sys/vm/swappiness") != "40" {
		t.Errorf("%d rollouts in history, swappiness %s", len(all), m.read(t, "proc/sys/vm/swappiness"))
	}
	if got := m.run(t, "rollback", r.ID); got.exit != 0 || m.read(t, "proc/sys/vm/swappiness") != "60" {
		t.Errorf("rollback by its id: exit %d\n%s", got.exit, got.stderr)
	}
	if r := m.history(t)[0]; r.Undone.IsZero() || r.State != tune.RolledBack {
		t.Errorf("put back: %+v", r)
	}
}

// TestServeEndedWhileHeldIsHeldAgain, by SIGTERM and by kill -9, and goes on when a person says so.
func TestServeEndedWhileHeldIsHeldAgain(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, nil)
			_, pid, _ := m.serving(t)
			m.ready(t)
			client := m.later(t, "--stage-time", "3s", "--hold")
			held := func(r tune.Rollout) bool { return r.State == tune.Held }
			before := m.until(t, "is held", held)
			m.signal(t, pid, sig)
			got := <-client
			if sig == syscall.SIGTERM {
				var r tune.Rollout
				if got.decode(t, &r); got.exit != exitDone || r.State != tune.Held || !strings.Contains(r.Detail, "goes on when serve starts again") {
					t.Errorf("the client was told: exit %d, %s %q", got.exit, r.State, r.Detail)
				}
			}
			m.serving(t)
			m.ready(t)
			r := m.until(t, "is held again", func(r tune.Rollout) bool { return held(r) && r.Resumed == 1 })
			if r.ID != before.ID {
				t.Errorf("held as %+v", r)
			}
			if got := m.run(t, "advance"); got.exit != 0 || !strings.Contains(got.stdout, r.ID+" goes on") {
				t.Errorf("advance: exit %d %s%s", got.exit, got.stdout, got.stderr)
			}
			if r = m.until(t, "has ended", ended); r.State != tune.Committed {
				t.Errorf("ended %s %s", r.State, r.Detail)
			}
			if got := m.run(t, "advance"); got.exit != exitUsage {
				t.Errorf("advance of nothing: exit %d %s", got.exit, got.stderr)
			}
		})
	}
}

// TestServeDoesNotGoOn where the ground has moved: it ends in history, with the reason, and nothing is written.
func TestServeDoesNotGoOn(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		moves func(t *testing.T, m *machine)
		says  string
		live  string
		state tune.State
	}{
		"another boot": {func(t *testing.T, m *machine) {
			m.write(t, "proc/sys/kernel/random/boot_id", "6f1a1c52-0000-4000-8000-000000000002\n")
		}, "booted since", "60", tune.RolledBack},
		"another writer": {func(t *testing.T, m *machine) { m.write(t, "proc/sys/vm/swappiness", "33\n") }, `is now "33"`, "33", tune.RolledBack},
		"frozen": {func(t *testing.T, m *machine) {
			if got := m.run(t, "freeze", "--why", "release day"); got.exit != 0 {
				t.Error(got)
			}
		}, "release day", "60", tune.RolledBack},
		"aborted": {func(t *testing.T, m *machine) {
			id := m.history(t)[0].ID
			if got := m.run(t, "abort", id, "--why", "no need"); got.exit != 0 || !strings.Contains(got.stdout, "no need") {
				t.Errorf("abort: exit %d %s%s", got.exit, got.stdout, got.stderr)
			}
		}, "no need", "60", tune.RolledBack},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, nil)
			_, pid, _ := m.serving(t)
			m.ready(t)
			client := m.later(t, "--stage-time", "60s")
			m.becomes(t, "proc/sys/vm/swappiness", "40", 60*time.Second)
			time.Sleep(time.Second) // and is saved
			m.signal(t, pid, syscall.SIGKILL)
			<-client
			tc.moves(t, m)
			m.serving(t)
			m.ready(t)
			r := m.until(t, "has ended", ended)
			if r.State != tc.state || !strings.Contains(r.Detail, tc.says) || m.read(t, "proc/sys/vm/swappiness") != tc.live {
				t.Errorf("ended %s %s: %q, swappiness %s", r.State, r.Reason, r.Detail, m.read(t, "proc/sys/vm/swappiness"))
			}
		})
	}
}

// TestForegroundApplyIsNeverResumed: its command line is gone, and with it who asked.
func TestForegroundApplyIsNeverResumed(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	cmd, _ := m.start(t, "apply", "--set", "vm.swappiness=40", "--yes", "--stage-time", "60s")
	m.becomes(t, "proc/sys/vm/swappiness", "40", 60*time.Second)
	time.Sleep(time.Second)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // its end is all that matters
	m.becomes(t, "proc/sys/vm/swappiness", "60", 10*time.Second)
	m.serving(t)
	c := m.ready(t)
	var s console.Status
	if err := c.call(t.Context(), http.MethodGet, "/status", nil, &s); err != nil {
		t.Fatal(err)
	}
	if s.Rollouts[0].State != tune.RolledBack || s.Rollouts[0].Reason != tune.ReasonInterrupted || m.read(t, "proc/sys/vm/swappiness") != "60" {
		t.Errorf("%s %s, swappiness %s", s.Rollouts[0].State, s.Rollouts[0].Reason, m.read(t, "proc/sys/vm/swappiness"))
	}
}

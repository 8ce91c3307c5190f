package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"semantos/internal/tune"
)

// removeRun is what a boot does to /run.
func (m *machine) removeRun(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(m.root, "run")); err != nil {
		t.Fatal(err)
	}
}

// TestSecondApplyWaitsItsTurn in a queue that status shows, can be aborted there, and is looked at again
// before it begins.
func TestSecondApplyWaitsItsTurn(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	m.serving(t)
	m.ready(t)
	first := m.later(t, "--stage-time", "60s")
	m.becomes(t, "proc/sys/vm/swappiness", "40", 60*time.Second)
	running := m.until(t, "runs", func(r tune.Rollout) bool { return r.State == tune.Running })
	other := make(chan result, 1)
	go func() {
		other <- m.run(t, "apply", "--set", "vm.vfs_cache_pressure=90", "--yes", "--stage-time", "1s", "--json")
	}()
	queued := m.until(t, "waits", func(r tune.Rollout) bool { return r.State == tune.Queued })
	if !strings.Contains(queued.Detail, "waits for rollout "+running.ID) {
		t.Errorf("it waits for %q", queued.Detail)
	}
	if got := m.run(t, "status"); !strings.Contains(got.stdout, "queued") {
		t.Errorf("status:\n%s", got.stdout)
	}
	if got := m.run(t, "abort", queued.ID, "--why", "not today"); got.exit != 0 {
		t.Errorf("abort: exit %d %s", got.exit, got.stderr)
	}
	var r tune.Rollout
	got := <-other
	if got.decode(t, &r); got.exit != exitVetoed || r.ID != queued.ID || r.Reason != tune.ReasonOperator || !strings.Contains(got.stderr, "waits for rollout") ||
		m.read(t, "proc/sys/vm/vfs_cache_pressure") != "100" {
		t.Errorf("exit %d %s\n%s", got.exit, got.stdout, got.stderr)
	}
	// Its ground moves while it waits: it is refused as stale when its turn comes.
	stale, fresh := make(chan result, 1), make(chan result, 1)
	go func() {
		stale <- m.run(t, "apply", "--set", "vm.vfs_cache_pressure=90", "--yes", "--stage-time", "1s", "--json")
	}()
	m.until(t, "waits", func(r tune.Rollout) bool { return r.State == tune.Queued })
	m.write(t, "proc/sys/vm/vfs_cache_pressure", "120\n")
	go func() {
		fresh <- m.run(t, "apply", "--set", "vm.dirty_ratio=30", "--yes", "--stage-time", "1s", "--json")
	}()
	m.until(t, "waits behind it", func(r tune.Rollout) bool {
		return r.State == tune.Queued && r.Recommendation.Changes[0].Tunable == "vm.dirty_ratio"
	})
	if got := m.run(t, "abort", running.ID); got.exit != 0 || m.read(t, "proc/sys/vm/swappiness") != "60" {
		t.Errorf("abort of what runs: exit %d %s", got.exit, got.stderr)
	}
	if got := <-first; got.exit != exitVetoed {
		t.Errorf("what ran: exit %d", got.exit)
	}
	if got := <-stale; got.exit != exitUsage || !strings.Contains(got.stdout, "stale") || m.read(t, "proc/sys/vm/vfs_cache_pressure") != "120" {
		t.Errorf("what went stale: exit %d %s", got.exit, got.stdout)
	}
	if got := <-fresh; got.exit != 0 || m.read(t, "proc/sys/vm/dirty_ratio") != "30" {
		t.Errorf("the last one: exit %d %s", got.exit, got.stderr)
	}
}

// TestSteeringWithNobodyThere says what to do instead.
func TestSteeringWithNobodyThere(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	for _, args := range [][]string{{"hold"}, {"hold", "x"}, {"advance"}, {"advance", "x"}, {"abort", "x"}} {
		if got := m.run(t, args...); got.exit != exitFailed || !strings.Contains(got.stderr, "no serve runs") || !strings.Contains(got.stderr, "Try: ") {
			t.Errorf("%v: exit %d\n%s", args, got.exit, got.stderr)
		}
	}
	m.serving(t)
	m.ready(t)
	for _, args := range [][]string{{"hold", "x"}, {"advance", "x"}, {"abort", "x"}} {
		if got := m.run(t, args...); got.exit != exitUsage || !strings.Contains(got.stderr, "neither runs nor waits") {
			t.Errorf("%v: exit %d\n%s", args, got.exit, got.stderr)
		}
	}
	if got := m.run(t, "hold", "--why", "lunch"); got.exit != 0 {
		t.Errorf("hold: exit %d %s", got.exit, got.stderr)
	}
	var doc statusDocument
	if m.run(t, "status", "--json").decode(t, &doc); doc.Loop.Held != "lunch" {
		t.Errorf("held for %q", doc.Loop.Held)
	}
	if got := m.run(t, "advance"); got.exit != 0 || !strings.Contains(got.stdout, "may start rollouts again") {
		t.Errorf("advance: exit %d %s%s", got.exit, got.stdout, got.stderr)
	}
}

// TestCoolDownIsAVetoThatYesPasses: harm an hour of minutes ago warns a person too, from history alone.
func TestCoolDownIsAVetoThatYesPasses(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	a := &app{}
	a.cfg.DataDir = m.data
	store, err := a.openStore(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	worse := tune.Rollout{ID: "0123456789ab-1", State: tune.RolledBack, Reason: tune.ReasonWorse, Stages: []tune.Stage{}, Started: time.Now().Add(-2 * time.Minute),
		Ended: time.Now().Add(-time.Minute), Recommendation: tune.Recommendation{ID: "0123456789ab", Changes: []tune.Change{{
			Tunable: "vm.swappiness", Scope: tune.ScopeHost, Target: "host", Current: "60", Proposed: "1"}}}}
	if err := store.SaveRollout(t.Context(), worse); err != nil {
		t.Fatal(err)
	}
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	var r tune.Rollout
	got := m.run(t, "apply", "--set", "vm.swappiness=40", "--stage-time", "1s", "--json")
	if got.decode(t, &r); got.exit != exitVetoed || r.State != tune.Vetoed || !strings.Contains(r.Reason, "vm.swappiness rests until") {
		t.Errorf("exit %d, %s %s", got.exit, r.State, r.Reason)
	}
	got = m.run(t, "apply", "--set", "vm.swappiness=40", "--stage-time", "1s", "--yes", "--json")
	if got.decode(t, &r); got.exit != 0 || r.State != tune.Committed {
		t.Errorf("--yes: exit %d, %s %s", got.exit, r.State, r.Reason)
	}
	// A bundle of two classes is one more, and the report says why.
	got = m.run(t, "apply", "--set", "vm.vfs_cache_pressure=90", "--set", "kernel.sched_autogroup_enabled=0", "--stage-time", "1s", "--json")
	if got.decode(t, &r); got.exit != exitVetoed || !strings.Contains(r.Reason, "memory and cpu") {
		t.Errorf("mixed: exit %d, %s", got.exit, r.Reason)
	}
	got = m.run(t, "apply", "--set", "vm.vfs_cache_pressure=90", "--set", "kernel.sched_autogroup_enabled=0", "--stage-time", "1s", "--yes", "--json")
	if got.decode(t, &r); got.exit != 0 || !strings.Contains(r.Detail, "cannot be told apart") {
		t.Errorf("mixed with --yes: exit %d, %s %q", got.exit, r.State, r.Detail)
	}
}

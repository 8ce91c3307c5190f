package cli

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"semantos/console"
	"semantos/internal/tune"
)

// TestFreezeWithoutServe: nothing starts, what was kept stays and can be taken back, and it outlives a boot.
func TestFreezeWithoutServe(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	if got := m.run(t, "apply", "--set", "vm.swappiness=40", "--yes", "--stage-time", "1s"); got.exit != 0 {
		t.Fatal(got)
	}
	var doc console.FreezeResult
	got := m.run(t, "freeze", "--why", "release day", "--json")
	if got.decode(t, &doc); got.exit != 0 || doc.Frozen == nil || doc.Frozen.By != "uid 0" || doc.Frozen.Why != "release day" {
		t.Fatalf("exit %d %s%s", got.exit, got.stdout, got.stderr)
	}
	other := &machine{root: m.root, data: filepath.Join(t.TempDir(), "other")}
	refused := func(who *machine, when string) {
		t.Helper()
		got := who.run(t, "apply", "--set", "vm.vfs_cache_pressure=90", "--yes", "--stage-time", "1s", "--json")
		var doc errorDocument
		if got.decode(t, &doc); got.exit != exitVetoed || !strings.Contains(doc.Error.Message, "release day") || !strings.Contains(doc.Error.Hint, "freeze --off") {
			t.Errorf("%s: exit %d, %+v", when, got.exit, doc)
		}
	}
	refused(m, "frozen")
	refused(other, "under another DATA_DIR")
	for _, args := range [][]string{{"status"}, {"doctor"}, {"apply", "--set", "vm.swappiness=30", "--dry-run"}} {
		if got := m.run(t, args...); got.exit != 0 || !strings.Contains(strings.ToLower(got.stdout), "frozen by uid 0") {
			t.Errorf("%v: exit %d\n%s%s", args, got.exit, got.stdout, got.stderr)
		}
	}
	if v := m.read(t, "proc/sys/vm/swappiness"); v != "40" {
		t.Errorf("what was kept is %s", v)
	}
	if got := m.run(t, "undo"); got.exit != 0 || m.read(t, "proc/sys/vm/swappiness") != "60" {
		t.Errorf("undo: exit %d %s", got.exit, got.stderr)
	}
	m.write(t, "proc/sys/kernel/random/boot_id", "6f1a1c52-0000-4000-8000-000000000002\n")
	m.removeRun(t)
	refused(m, "after a boot")
	if got := m.run(t, "freeze", "--off"); got.exit != 0 || !strings.Contains(got.stdout, "Not frozen") {
		t.Errorf("off: exit %d %s%s", got.exit, got.stdout, got.stderr)
	}
	if got := other.run(t, "apply", "--set", "vm.vfs_cache_pressure=90", "--yes", "--stage-time", "1s"); got.exit != 0 {
		t.Errorf("thawed: exit %d %s", got.exit, got.stderr)
	}
	if got := m.run(t, "freeze", "--off", "--why", "x"); got.exit != exitUsage {
		t.Errorf("a reason to thaw: exit %d", got.exit)
	}
}

// TestFreezeEndsAForegroundApplyOfAnotherDataDir within a second or so, and says why it ended.
func TestFreezeEndsAForegroundApplyOfAnotherDataDir(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	cmd, out := m.start(t, "apply", "--set", "vm.swappiness=40", "--yes", "--stage-time", "60s", "--json")
	m.becomes(t, "proc/sys/vm/swappiness", "40", 60*time.Second)
	other := &machine{root: m.root, data: filepath.Join(t.TempDir(), "other")}
	got := other.run(t, "freeze", "--why", "release day")
	if got.exit != 0 || m.read(t, "proc/sys/vm/swappiness") != "60" || !strings.Contains(got.stdout, "vm.swappiness") {
		t.Errorf("freeze: exit %d, swappiness %s\n%s%s", got.exit, m.read(t, "proc/sys/vm/swappiness"), got.stdout, got.stderr)
	}
	_ = cmd.Wait() // the status is read below
	var r tune.Rollout
	result{stdout: out.String()}.decode(t, &r)
	if cmd.ProcessState.ExitCode() != exitVetoed || r.State != tune.RolledBack || !strings.Contains(r.Detail, "release day") {
		t.Errorf("exit %d, %s %s: %q", cmd.ProcessState.ExitCode(), r.State, r.Reason, r.Detail)
	}
}

// TestFreezeThroughServe puts back what runs, turns away what waits, and holds for the next serve too.
func TestFreezeThroughServe(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	_, pid, _ := m.serving(t)
	m.ready(t)
	running := m.later(t, "--stage-time", "60s")
	m.becomes(t, "proc/sys/vm/swappiness", "40", 60*time.Second)
	waiting := make(chan result, 1)
	go func() { waiting <- m.run(t, "apply", "--set", "vm.vfs_cache_pressure=90", "--yes", "--json") }()
	m.until(t, "waits", func(r tune.Rollout) bool { return r.State == tune.Queued })
	var doc console.FreezeResult
	start := time.Now()
	got := m.run(t, "freeze", "--why", "release day", "--json")
	got.decode(t, &doc)
	if got.exit != 0 || m.read(t, "proc/sys/vm/swappiness") != "60" || len(doc.Rollouts) != 1 || doc.Rollouts[0].State != tune.RolledBack {
		t.Errorf("freeze: exit %d, %+v\n%s", got.exit, doc, got.stderr)
	}
	t.Logf("frozen and put back after %s", time.Since(start))
	var r tune.Rollout
	first := <-running
	if first.decode(t, &r); first.exit != exitVetoed || r.Reason != tune.ReasonInterrupted || !strings.Contains(r.Detail, "release day") {
		t.Errorf("what ran: exit %d, %s %q", first.exit, r.Reason, r.Detail)
	}
	if second := <-waiting; second.exit != exitVetoed || !strings.Contains(second.stderr, "release day") {
		t.Errorf("what waited: exit %d %s", second.exit, second.stderr)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	m.gone(t, pid, 15*time.Second)
	m.serving(t)
	m.ready(t)
	if got := m.run(t, "apply", "--set", "vm.swappiness=40", "--yes", "--json"); got.exit != exitVetoed {
		t.Errorf("the next serve: exit %d %s", got.exit, got.stderr)
	}
	if got := m.run(t, "freeze", "--off"); got.exit != 0 {
		t.Errorf("off: exit %d %s", got.exit, got.stderr)
	}
	if got := m.run(t, "apply", "--set", "vm.swappiness=40", "--yes", "--stage-time", "1s"); got.exit != 0 {
		t.Errorf("thawed: exit %d %s", got.exit, got.stderr)
	}
}

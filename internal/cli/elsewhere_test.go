package cli

import (
	"path/filepath"
	"strings"
	"testing"

	"semantos/internal/tune"
)

// What another DATA_DIR committed is named with that folder, and does not stand in the way of undo.
func TestUndoTakesOwnRolloutsAndNamesThoseOfAnotherDataDir(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	other := filepath.Join(t.TempDir(), "other dir")
	var own, theirs tune.Rollout
	m.run(t, "apply", "--set", "vm.vfs_cache_pressure=80", "--yes", "--stage-time", "1s", "--json", "--data-dir", other).decode(t, &theirs)
	m.run(t, "apply", "--set", "vm.swappiness=40", "--yes", "--stage-time", "1s", "--json").decode(t, &own)
	if own.State != tune.Committed || theirs.State != tune.Committed {
		t.Fatalf("%s, %s", own.State, theirs.State)
	}
	if got := m.run(t, "undo", "--print"); !strings.Contains(got.stdout, "vm.swappiness=60") || strings.Contains(got.stdout, "vfs_cache") {
		t.Errorf("undo --print: %s", got.stdout)
	}
	if got := m.run(t, "undo"); got.exit != 0 || m.read(t, "proc/sys/vm/swappiness") != "60" || m.read(t, "proc/sys/vm/vfs_cache_pressure") != "80" {
		t.Errorf("undo: exit %d\n%s%s", got.exit, got.stdout, got.stderr)
	}
	how := "--data-dir '" + other + "'"
	for _, args := range [][]string{{"rollback", theirs.ID}, {"rollback", "--all"}, {"undo"}, {"status"}, {"undo", "--print"}} {
		got := m.run(t, args...)
		if !strings.Contains(got.stderr, "semantos rollback "+theirs.ID+" "+how) || strings.Contains(got.stdout, "as it was found") {
			t.Errorf("%v does not say how: exit %d\n%s%s", args, got.exit, got.stdout, got.stderr)
		}
	}
	if got := m.run(t, "rollback", theirs.ID, "--data-dir", other); got.exit != 0 || m.read(t, "proc/sys/vm/vfs_cache_pressure") != "100" {
		t.Errorf("the line it named: exit %d\n%s%s", got.exit, got.stdout, got.stderr)
	}
}

func TestDryRunRefusesAMeterThatCannotWork(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	for _, spec := range []string{"nonsense", "http:notaurl", "cmd:", "prom:http://127.0.0.1:1/"} {
		got := m.run(t, "apply", "--set", "vm.swappiness=40", "--dry-run", "--meter", spec)
		if got.exit != 2 || !strings.Contains(got.stderr, spec) || !strings.Contains(got.stderr, "Try: ") {
			t.Errorf("%s: exit %d\n%s", spec, got.exit, got.stderr)
		}
	}
}

func TestTunablesRefusesADomainOrScopeThatNoneHas(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	for _, args := range [][]string{{"--domain", "swap-ish"}, {"--scope", "galaxy"}} {
		got := m.run(t, append([]string{"tunables"}, args...)...)
		if got.exit != 2 || !strings.Contains(got.stderr, args[1]) || !strings.Contains(got.stderr, "Try: choose one of") {
			t.Errorf("%v: exit %d\n%s", args, got.exit, got.stderr)
		}
	}
	if got := m.run(t, "tunables", "--domain", "vm", "--scope", "host"); got.exit != 0 || !strings.Contains(got.stdout, "vm.swappiness") {
		t.Errorf("exit %d\n%s", got.exit, got.stdout)
	}
}

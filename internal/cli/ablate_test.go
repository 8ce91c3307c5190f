package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"semantos/internal/tune"
)

// workload is a meter of a fake host whose p95 is ten times as long while a tunable has a value.
func (m *machine) workload(t *testing.T, file, bad string) string {
	t.Helper()
	script := filepath.Join(t.TempDir(), "workload")
	text := fmt.Sprintf("#!/bin/sh\nsleep 0.1\nif [ \"$(cat %s)\" = %s ]; then echo 10.0,20.0,100,0; else echo 1.0,2.0,100,0; fi\n",
		filepath.Join(m.root, file), bad)
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return "cmd:" + script
}

// What earns nothing goes back, everywhere: on the host, in what the next boot reads, in every command that
// tells; the rest stays and can still be rolled back.
func TestAblateUndoesWhatEarnsNothing(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	meter := m.workload(t, "proc/sys/vm/swappiness", "60")
	var r tune.Rollout
	got := m.run(t, "apply", "--set", "vm.swappiness=40", "--set", "vm.vfs_cache_pressure=80", "--yes", "--persist", "--stage-time", "1s", "--json")
	if got.decode(t, &r); r.State != tune.Committed {
		t.Fatalf("exit %d, %s %s\n%s", got.exit, r.State, r.Detail, got.stderr)
	}
	var doc tune.Ablation
	got = m.run(t, "ablate", r.ID, "--meter", meter, "--stage-time", "5s", "--json")
	got.decode(t, &doc)
	if got.exit != 0 || len(doc.Changes) != 2 || doc.Changes[0].Verdict != tune.Earns || doc.Changes[0].Undone ||
		doc.Changes[1].Verdict != tune.Nothing || !doc.Changes[1].Undone {
		t.Fatalf("exit %d, %+v\n%s", got.exit, doc, got.stderr)
	}
	if e := doc.Changes[0].Effect; e == nil || e.Ratio < 5 || e.Metric != "p95_ms" {
		t.Errorf("effect without it %+v", e)
	}
	if a, b := m.read(t, "proc/sys/vm/swappiness"), m.read(t, "proc/sys/vm/vfs_cache_pressure"); a != "40" || b != "100" {
		t.Errorf("swappiness %s, vfs_cache_pressure %s", a, b)
	}
	files, _ := filepath.Glob(filepath.Join(m.root, "etc/sysctl.d/*semantos*"))
	if len(files) != 1 {
		t.Fatalf("files %v", files)
	}
	if text, err := os.ReadFile(files[0]); err != nil || !strings.Contains(string(text), "swappiness = 40") || strings.Contains(string(text), "vfs") {
		t.Errorf("the next boot reads %s, %v", text, err)
	}
	var status statusDocument
	m.run(t, "status", "--json").decode(t, &status)
	if len(status.Managed) != 1 || status.Managed[0].Tunable != "vm.swappiness" || status.Managed[0].State != "persisted" {
		t.Errorf("status %+v", status.Managed)
	}
	for args, want := range map[string]string{"history": "(undone)", "explain " + r.ID: "nothing, undone", "export": "vm.swappiness = 40"} {
		if got := m.run(t, strings.Fields(args)...); !strings.Contains(got.stdout, want) {
			t.Errorf("%s does not say %q:\n%s", args, want, got.stdout)
		}
	}
	if got := m.run(t, "export"); strings.Contains(got.stdout, "vfs_cache_pressure") {
		t.Errorf("export has what was undone:\n%s", got.stdout)
	}
	if got := m.run(t, "ablate", r.ID, "--meter", meter); got.exit != 2 || !strings.Contains(got.stderr, "one change only") {
		t.Errorf("again: exit %d %s", got.exit, got.stderr)
	}
	if got := m.run(t, "rollback", r.ID); got.exit != 0 || m.read(t, "proc/sys/vm/swappiness") != "60" {
		t.Errorf("rollback: exit %d %s", got.exit, got.stderr)
	}
	if left, _ := filepath.Glob(filepath.Join(m.root, "etc/sysctl.d/*semantos*")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func TestAblateRefuses(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	var one, two tune.Rollout
	m.run(t, "apply", "--set", "vm.swappiness=40", "--yes", "--stage-time", "1s", "--json").decode(t, &one)
	m.run(t, "apply", "--set", "vm.dirty_ratio=30", "--set", "vm.vfs_cache_pressure=80", "--yes", "--stage-time", "1s", "--json").decode(t, &two)
	if one.State != tune.Committed || two.State != tune.Committed {
		t.Fatalf("%s, %s", one.State, two.State)
	}
	for _, c := range []struct {
		args []string
		exit int
		says string
	}{
		{[]string{"ablate"}, 2, "arg"},
		{[]string{"ablate", "nothing-such", "--meter", steady(t)}, 2, "no rollout has this id"},
		{[]string{"ablate", one.ID, "--meter", steady(t)}, 2, "one change only"},
		{[]string{"ablate", two.ID}, 2, "no symptom says what to measure it by"},
		{[]string{"ablate", two.ID, "--meter", "nothing"}, 2, "meter"},
		{[]string{"ablate", two.ID, "--meter", steady(t), "--stage-time", "1ms"}, 2, "1ms"},
	} {
		if got := m.run(t, c.args...); got.exit != c.exit || !strings.Contains(got.stderr, c.says) || !strings.Contains(got.stderr, "Try:") {
			t.Errorf("%v: exit %d %s", c.args, got.exit, got.stderr)
		}
	}
	m.run(t, "rollback", two.ID)
	if got := m.run(t, "ablate", two.ID, "--meter", steady(t)); got.exit != 2 || !strings.Contains(got.stderr, "rolled_back") {
		t.Errorf("of what is back: exit %d %s", got.exit, got.stderr)
	}
}

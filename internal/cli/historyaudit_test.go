package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"semantos/safety/audit"
)

// tried is a machine on which one change was kept and rolled back.
func tried(t *testing.T) (m *machine, log string) {
	t.Helper()
	m = newMachine(t, nil)
	if r := m.run(t, "apply", "--set", "vm.swappiness=10", "--yes", "--stage-time", "1s"); r.exit != exitDone {
		t.Fatalf("apply: %d %s", r.exit, r.stderr)
	}
	if r := m.run(t, "rollback", "--all"); r.exit != exitDone {
		t.Fatalf("rollback: %d %s", r.exit, r.stderr)
	}
	logs, err := filepath.Glob(filepath.Join(m.data, "journal", "audit-*.jsonl"))
	if err != nil || len(logs) != 1 {
		t.Fatal(logs, err)
	}
	return m, logs[0]
}

func TestHistoryVerify(t *testing.T) {
	t.Parallel()
	m, log := tried(t)
	var doc audit.Report
	r := m.run(t, "history", "--verify", "--json")
	if r.decode(t, &doc); r.exit != exitDone || !doc.Verified || doc.Records < 8 || len(doc.Problems) != 0 || doc.Head == "" {
		t.Fatalf("%d %s %s", r.exit, r.stdout, r.stderr)
	}
	if r := m.run(t, "history", "--verify", "--head", doc.Head); r.exit != exitDone || !strings.Contains(r.stdout, "The log is whole") {
		t.Errorf("%d %s %s", r.exit, r.stdout, r.stderr)
	}
	other := strings.Repeat("0", 64)
	if r := m.run(t, "history", "--verify", "--head", other); r.exit != exitFailed || !strings.Contains(r.stdout, "what you noted") {
		t.Errorf("%d %s %s", r.exit, r.stdout, r.stderr)
	}
	whole, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	spoil := func(edit func(lines []string) []string) {
		t.Helper()
		lines := edit(strings.SplitAfter(strings.TrimSuffix(string(whole), "\n"), "\n"))
		if err := os.WriteFile(log, []byte(strings.TrimSuffix(strings.Join(lines, ""), "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		edit func([]string) []string
		says []string
	}{
		{"altered", func(l []string) []string { l[1] = strings.Replace(l[1], `"10"`, `"11"`, 1); return l },
			[]string{"NOT whole", log + ", line 2, record 2", "altered"}},
		{"taken out", func(l []string) []string { return slices.Delete(l, 2, 3) }, []string{log + ", line 3, record 4", "records 3 to 3 are missing"}},
		{"cut", func(l []string) []string { return l[:4] }, []string{log + ", line 5, record", "the log ends at record 4", "audit-", "how to begin a new log"}},
	} {
		spoil(c.edit)
		r := m.run(t, "history", "--verify")
		for _, s := range c.says {
			if r.exit != exitFailed || !strings.Contains(strings.Join(strings.Fields(r.stdout), " "), s) {
				t.Errorf("%s: exit %d, does not say %q:\n%s%s", c.name, r.exit, s, r.stdout, r.stderr)
			}
		}
		if r := m.run(t, "history", "--verify", "--json"); r.exit != exitFailed {
			t.Errorf("%s: exit %d", c.name, r.exit)
		} else if r.decode(t, &doc); doc.Verified || len(doc.Problems) == 0 {
			t.Errorf("%s: %+v", c.name, doc)
		}
	}
}

func TestHistoryAudit(t *testing.T) {
	t.Parallel()
	m, _ := tried(t)
	var doc auditDocument
	r := m.run(t, "history", "--audit", "--json", "--limit", "100")
	if r.decode(t, &doc); r.exit != exitDone || len(doc.Records) < 8 || doc.Records[0].Seq < doc.Records[1].Seq {
		t.Fatalf("%d %s", r.exit, r.stdout)
	}
	rollout := ""
	var kinds []audit.Kind
	for _, rec := range slices.Backward(doc.Records) {
		if rec.Kind != audit.Began && rec.Rollout != "" {
			rollout = rec.Rollout
			kinds = append(kinds, rec.Kind)
		}
		if rec.Kind == audit.Wrote && (rec.Tunable != "vm.swappiness" || rec.Old != "60" || rec.New == "" || rec.ReadBack != rec.New || rec.Actor != "uid 0") {
			t.Errorf("%+v", rec)
		}
	}
	for _, k := range []audit.Kind{audit.Chosen, audit.Gate, audit.Wrote, audit.Stage, audit.Commit, audit.Ended, audit.Restored, audit.Closed} {
		if !slices.Contains(kinds, k) {
			t.Errorf("no %s among %v", k, kinds)
		}
	}
	r = m.run(t, "history", "--audit", "--rollout", rollout, "--limit", "3")
	if r.exit != exitDone || strings.Count(r.stdout, rollout) != 3 || !strings.Contains(r.stdout, "vm.swappiness") || !strings.Contains(r.stdout, " older: --limit ") {
		t.Errorf("%d %s", r.exit, r.stdout)
	}
}

func TestHistoryRefuses(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	for _, c := range []struct {
		args []string
		exit int
		says string
	}{
		{[]string{"--verify", "--audit"}, exitUsage, "exclude"},
		{[]string{"--head", "1:aa"}, exitUsage, "1:aa"},
		{[]string{"--verify", "--head", "xyz"}, exitUsage, "xyz"},
		{[]string{"--rollout", "r-1"}, exitUsage, "r-1"},
		{[]string{"--audit", "--rollout", "r-1"}, exitUsage, "r-1"},
		{[]string{"--audit", "--limit", "0"}, exitUsage, "0"},
		{[]string{"--audit"}, exitDone, ""},
		{[]string{"--verify"}, exitFailed, ""}, // missing data is no pass
	} {
		r := m.run(t, append([]string{"history"}, c.args...)...)
		if r.exit != c.exit || !strings.Contains(r.stderr, c.says) {
			t.Errorf("%v: exit %d, %s%s", c.args, r.exit, r.stdout, r.stderr)
		}
	}
}

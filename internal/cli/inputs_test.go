package cli

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"semantos/internal/tune"
	"semantos/kb/sqlite"
)

// bad is one wrong input: what it must say, with which exit status.
type bad struct {
	name    string
	prepare func(t *testing.T, m *machine)
	args    []string
	exit    int
	says    string // the thing named, on stderr
}

func badInputs() []bad {
	set := func(text string) []string { return []string{"apply", "--set", text, "--yes", "--stage-time", "1s"} }
	return []bad{
		{name: "unknown tunable", args: set("vm.swapiness=10"), exit: 2, says: "vm.swappiness"},
		{name: "wrong arity", args: set("net.ipv4.tcp_rmem=4096,131072"), exit: 2, says: "net.ipv4.tcp_rmem"},
		{name: "wrong type", args: set("vm.swappiness=often"), exit: 2, says: "vm.swappiness"},
		{name: "out of the hard range", args: set("vm.swappiness=201"), exit: 2, says: "0 to 200"},
		{name: "elements decrease", args: set("net.ipv4.tcp_rmem=9000,5000,100"), exit: 2, says: "net.ipv4.tcp_rmem"},
		{name: "broken invariant", args: set("vm.dirty_background_ratio=60"), exit: 2, says: "dirty_background_ratio"},
		{name: "set twice", args: append(set("vm.swappiness=1"), "--set", "vm.swappiness=2"), exit: 2, says: "vm.swappiness"},
		{name: "the value it has", args: set("vm.swappiness=60"), exit: 2, says: "already"},
		{name: "no value", args: set("vm.swappiness"), exit: 2, says: "vm.swappiness"},
		{name: "absent tunable", args: set("vm.page-cluster=3"), exit: 4, says: "vm.page-cluster"},
		{name: "template without a device", args: set("block/{device}/queue/read_ahead_kb=4"), exit: 2, says: "read_ahead_kb"},
		{name: "device that is not there", args: set("block/sdz/queue/read_ahead_kb=4"), exit: 4, says: "sdz"},
		{name: "pattern for the host", args: set("vm.swappiness@*=10"), exit: 2, says: "whole host"},
		{name: "pattern that fits nothing", args: set("block/zz*/queue/read_ahead_kb=4"), exit: 2, says: "zz*"},
		{name: "read-only tunable", prepare: func(t *testing.T, m *machine) {
			if err := os.Chmod(filepath.Join(m.root, "proc/sys/vm/swappiness"), 0o444); err != nil {
				t.Fatal(err)
			}
		}, args: set("vm.swappiness=10"), exit: 4, says: "vm.swappiness"},
		{name: "unknown id", args: []string{"apply", "0123456789ab"}, exit: 2, says: "0123456789ab"},
		{name: "id and set", args: append(set("vm.swappiness=1"), "0123456789ab"), exit: 2, says: "--set"},
		{name: "nothing to apply", args: []string{"apply"}, exit: 2, says: "apply"},
		{name: "stage time", args: []string{"apply", "--set", "vm.swappiness=1", "--stage-time", "1ms"}, exit: 2, says: "--stage-time"},
		{name: "meter", args: append(set("vm.swappiness=1"), "--meter", "guess:it"), exit: 2, says: "guess:it"},
		{name: "steps", args: append(set("vm.swappiness=1"), "--steps", "50,20"), exit: 2, says: "ROLLOUT_STEPS"},
		{name: "stale recommendation", prepare: storeRecommendation, args: []string{"apply", staleID()}, exit: 2, says: "vm.swappiness"},
		{name: "unknown rollout", args: []string{"rollback", "nothing-1"}, exit: 2, says: "nothing-1"},
		{name: "rollback of nothing named", args: []string{"rollback"}, exit: 2, says: "--all"},
		{name: "explain unknown", args: []string{"explain", "0123456789ab"}, exit: 2, says: "0123456789ab"},
		{name: "unknown command", args: []string{"bench"}, exit: 2, says: "bench"},
		{name: "unknown flag", args: []string{"status", "--colour"}, exit: 2, says: "--colour"},
		{name: "too many arguments", args: []string{"status", "now"}, exit: 2, says: "now"},
		{name: "window", args: []string{"recommend", "--window", "1s"}, exit: 2, says: "--window"},
		{name: "no duration", args: []string{"recommend", "--window", "long"}, exit: 2, says: "--window"},
		{name: "export format", args: []string{"export", "--format", "puppet"}, exit: 2, says: "puppet"},
		{name: "unknown name to explain", args: []string{"tunables", "net.core.somaxcon"}, exit: 2, says: "net.core.somaxconn"},
		{name: "unknown node", args: []string{"kb", "path", "net.core.somaxconn", "nowhere"}, exit: 2, says: "nowhere"},
		{name: "configuration value", args: []string{"status", "--tau", "2"}, exit: 2, says: "TAU"},
		{name: "configuration key", prepare: func(t *testing.T, m *machine) { m.env = []string{"SEMANTOS_TAO=1"} },
			args: []string{"status"}, exit: 2, says: "SEMANTOS_TAO"},
		{name: "DATA_DIR is a file", prepare: func(t *testing.T, m *machine) {
			if err := os.WriteFile(m.data, []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, args: set("vm.swappiness=10"), exit: 1, says: "data"},
		{name: "corrupted database", prepare: func(t *testing.T, m *machine) {
			m.dataFile(t, sqlite.File, strings.Repeat("not a database ", 1000))
		}, args: []string{"history"}, exit: 1, says: sqlite.File},
		{name: "corrupted journal", prepare: func(t *testing.T, m *machine) {
			m.dataFile(t, "journal/journal.log", strings.Repeat("\x00garbage\n", 20))
		}, args: []string{"status"}, exit: 1, says: "journal"},
		{name: "corrupted journal stops changes", prepare: func(t *testing.T, m *machine) {
			m.dataFile(t, "journal/journal.log", strings.Repeat("\x00garbage\n", 20))
		}, args: set("vm.swappiness=10"), exit: 1, says: "journal"},
		{name: "denied path in a catalogue", prepare: deniedCatalogue, args: []string{"tunables"}, exit: 2, says: "core_pattern"},
		{name: "port in use", prepare: func(t *testing.T, m *machine) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			m.env = []string{"LISTEN=" + l.Addr().String()}
		}, args: []string{"serve"}, exit: 1, says: "in use"},
	}
}

func staleID() string {
	return tune.RecommendationID([]tune.Change{staleChange()})
}

func staleChange() tune.Change {
	return tune.Change{Tunable: "vm.swappiness", Scope: tune.ScopeHost, Target: "host", Current: "30", Proposed: "10", TakesEffect: tune.Immediately}
}

// storeRecommendation keeps one whose current value is not what stands.
func storeRecommendation(t *testing.T, m *machine) {
	store, err := sqlite.Open(t.Context(), m.data)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	rec := tune.Recommendation{ID: staleID(), Changes: []tune.Change{staleChange()}, Admissible: true, Risk: tune.RiskLow}
	if err := store.SaveRecommendations(t.Context(), []tune.Recommendation{rec}, time.Now()); err != nil {
		t.Fatal(err)
	}
}

func deniedCatalogue(t *testing.T, m *machine) {
	dir := filepath.Join(t.TempDir(), "catalog")
	if err := os.MkdirAll(filepath.Join(dir, "tunables"), 0o755); err != nil {
		t.Fatal(err)
	}
	entry := `tunables:
  - name: kernel.core_pattern
    scope: host
    method: sysctl
    path: kernel/core_pattern
    type: text
    pattern: .*
    arity: 1
    unit: ""
    takes_effect: immediately
    settle_ms: 0
    risk: high
    summary: What runs when a program crashes.
    source: none
`
	if err := os.WriteFile(filepath.Join(dir, "tunables", "mine.yaml"), []byte(entry), 0o644); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: a catalogue folder is root-owned")
	}
	m.env = append(m.env, "CATALOG_DIR="+dir)
}

func (m *machine) dataFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(filepath.Join(m.data, name)), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(m.data, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestBadInput: a clear error that names the thing and what to try, the right status, one document with
// --json, and nothing changed.
func TestBadInput(t *testing.T) {
	t.Parallel()
	for _, c := range badInputs() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, nil)
			if c.prepare != nil {
				c.prepare(t, m)
			}
			before := m.kernel(t)
			got := m.run(t, c.args...)
			if got.exit != c.exit {
				t.Errorf("exit status %d, want %d\n%s%s", got.exit, c.exit, got.stdout, got.stderr)
			}
			if !strings.Contains(got.stderr, c.says) {
				t.Errorf("stderr does not name %q:\n%s", c.says, got.stderr)
			}
			if !strings.Contains(got.stderr, "semantos: ") || !strings.Contains(got.stderr, "\nTry: ") {
				t.Errorf("stderr has no sentence or nothing to try:\n%s", got.stderr)
			}
			if got.stdout != "" {
				t.Errorf("stdout without --json:\n%s", got.stdout)
			}
			var doc errorDocument
			got = m.run(t, append(c.args, "--json")...)
			got.decode(t, &doc)
			if got.exit != c.exit || doc.Error.Exit != c.exit || doc.Error.Message == "" || doc.Error.Hint == "" {
				t.Errorf("exit status %d, document %+v", got.exit, doc)
			}
			if diff := cmp.Diff(before, m.kernel(t)); diff != "" {
				t.Errorf("something changed: %s", diff)
			}
		})
	}
}

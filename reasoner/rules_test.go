package reasoner_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"semantos/internal/tune"
	"semantos/kb"
	"semantos/reasoner"
)

// mediumHost is what vectors assume where they give no facts of their own.
func mediumHost() tune.Facts {
	return tune.Facts{
		Num: map[string]float64{"mem_total_bytes": 25276755968, "cpus": 2, "numa_nodes": 1, "swap_total_bytes": 0,
			"page_size": 4096, "kernel": 6018, "is_zram_swap": 0, "rotational_any": 0},
		Text: map[string]string{"kernel": "6.18.0", "arch": "x86_64", "virt": "kvm", "distro": "debian"},
	}
}

func load(t testing.TB) ([]tune.Rule, *kb.Catalogue) {
	t.Helper()
	rules, err := kb.LoadRules(kb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	cat, err := kb.Load(kb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return rules, cat
}

func embedded(t testing.TB) (*reasoner.Reasoner, []tune.Rule) {
	t.Helper()
	rules, cat := load(t)
	r, err := reasoner.New(rules, cat)
	if err != nil {
		t.Fatal(err)
	}
	return r, rules
}

// snapshotOf puts a vector into the place of a snapshot.
func snapshotOf(r tune.Rule, c tune.Case) tune.Snapshot {
	facts := mediumHost()
	maps.Copy(facts.Num, c.Facts)
	snap := tune.Snapshot{Window: 10, Ticks: 10, Facts: facts, Signals: c.Signals, Entities: map[string][]tune.Entity{}}
	if r.For != "" {
		labels := map[string]string{"netns": "netns:1", "device": "dev0", "cgroup": "/app", "process": "pid:7",
			"socket": "tcp:0.0.0.0:1;netns=1;cookie=1", "comm": "app", "port": "1", "cpu": "0"}
		maps.Copy(labels, c.Labels)
		snap.Entities[r.For] = []tune.Entity{{Kind: r.For, ID: "entity", Labels: labels, Signals: c.Entity}}
	}
	return snap
}

// currentOf gives a vector's values; a rx-1 that no vector means ends the search for queues.
func currentOf(c tune.Case) reasoner.Current {
	return func(name, target string) (tune.Value, error) {
		v, ok := c.Current[name]
		if !ok || strings.HasSuffix(target, "-1") || target == "cpu1" {
			return "", fmt.Errorf("read %s: %w", name, tune.ErrUnsupported)
		}
		return tune.Value(v), nil
	}
}

// TestVectors runs every test of every rule: the symptom is present, absent or unseen as it says, and
// the first recommendation holds the values it names.
func TestVectors(t *testing.T) {
	t.Parallel()
	rules, cat := load(t)
	for _, rule := range rules {
		r, err := reasoner.New([]tune.Rule{rule}, cat)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		for _, c := range rule.TestCases {
			t.Run(rule.Name+"/"+c.Name, func(t *testing.T) {
				t.Parallel()
				runVector(t, r, rule, c)
			})
		}
	}
}

func runVector(t *testing.T, r *reasoner.Reasoner, rule tune.Rule, c tune.Case) {
	snap := snapshotOf(rule, c)
	symptoms, unseen := r.Diagnose(snap, currentOf(c))
	got := "absent"
	switch {
	case len(unseen) > 0:
		got = "no_data"
	case len(symptoms) > 0:
		got = "present"
	}
	if got != c.Expect {
		t.Fatalf("symptom is %s, want %s (unseen %+v)", got, c.Expect, unseen)
	}
	if got != "present" {
		return
	}
	if strings.Contains(symptoms[0].Summary, "unknown") {
		t.Errorf("summary has holes: %s", symptoms[0].Summary)
	}
	recs := r.Recommend(symptoms, snap, currentOf(c), reasoner.Evidence{})
	if len(recs) == 0 {
		t.Fatal("no recommendation")
	}
	for name, want := range c.Proposes {
		found := false
		for _, ch := range recs[0].Changes {
			if tn := nameOf(ch); tn == name || ch.Tunable == name {
				found = true
				if string(ch.Proposed) != want {
					t.Errorf("%s: proposes %s, want %s", name, ch.Proposed, want)
				}
			}
		}
		if !found {
			t.Errorf("%s is not in the first recommendation: %+v", name, recs[0].Changes)
		}
	}
}

// nameOf undoes the filling of a template by the vector's own targets.
func nameOf(c tune.Change) string {
	name := strings.Replace(c.Tunable, "/"+strings.Split(c.Target, "/")[0]+"/", "/{device}/", 1)
	name = strings.Replace(name, "/rx-0/", "/{queue}/", 1)
	return strings.Replace(name, "cpu/cpu0/", "cpu/{device}/", 1)
}

// TestVectorsProposeSomething: a rule without a single expected value is untested where it matters.
func TestVectorsProposeSomething(t *testing.T) {
	t.Parallel()
	rules, _ := load(t)
	if len(rules) < 45 {
		t.Errorf("%d rules, want at least 45", len(rules))
	}
	for _, r := range rules {
		n := 0
		for _, c := range r.TestCases {
			n += len(c.Proposes)
		}
		if n == 0 {
			t.Errorf("%s: %s: no test names a proposed value", r.Pos, r.Name)
		}
	}
}

func TestUnknownNamesAreRefused(t *testing.T) {
	t.Parallel()
	rules, cat := load(t)
	bad := rules[0]
	bad.When = `s["no.such.signal"] > 1 && cur("no.such.tunable") > 0`
	_, err := reasoner.New([]tune.Rule{bad}, cat, reasoner.WithSignals(func(string, string) (tune.Signal, bool) { return tune.Signal{}, false }))
	if !errors.Is(err, tune.ErrUnknown) {
		t.Fatalf("got %v, want an unknown name", err)
	}
	for _, want := range []string{bad.Pos.String(), "when", "no.such.signal", "no.such.tunable"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

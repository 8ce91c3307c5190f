package cli

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"semantos/console"
	"semantos/internal/tune"
	"semantos/kb/sqlite"
)

// measured is a meter that reads one value while swappiness is 40 and another otherwise, with a little
// noise.
func (m *machine) measured(t *testing.T, treated, untreated string) string {
	t.Helper()
	script := filepath.Join(t.TempDir(), "measured")
	text := fmt.Sprintf(`#!/bin/sh
sleep 0.2
n=$(( $(date +%%N | sed 's/^0*//') / 1000 %% 100 ))
if [ "$(cat %s/proc/sys/vm/swappiness)" = 40 ]; then echo "1.0,%s$n,100,0"; else echo "1.0,%s$n,100,0"; fi
`, m.root, treated, untreated)
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return "cmd:" + script
}

const (
	provenSymptom = "swapping_in_and_out"
	provenTunable = "vm.swappiness"
)

// advised stores a recommendation for a symptom whose relief the graph knows.
func (m *machine) advised(t *testing.T) string {
	t.Helper()
	store, err := sqlite.Open(t.Context(), m.data)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	changes := []tune.Change{{Tunable: provenTunable, Scope: tune.ScopeHost, Target: "host", Current: "60", Proposed: "40",
		TakesEffect: tune.Immediately, Risk: tune.RiskLow}}
	rec := tune.Recommendation{ID: tune.RecommendationID(changes), Changes: changes, Admissible: true, Risk: tune.RiskLow,
		Provenance: tune.Provenance{Symptom: provenSymptom}}
	if err := store.SaveRecommendations(t.Context(), []tune.Recommendation{rec}, time.Now()); err != nil {
		t.Fatal(err)
	}
	return rec.ID
}

func (m *machine) relief(t *testing.T) edgeDocument {
	t.Helper()
	var doc edgeDocument
	got := m.run(t, "kb", "show", provenSymptom, "relieves", provenTunable, "--json")
	if got.exit != 0 {
		t.Fatal(got.stderr)
	}
	got.decode(t, &doc)
	return doc
}

// TestAnOutcomeMovesItsEdge: a trial kept as better speaks for the relief it tried, one undone as worse
// against it; each leaves one trace, and both are in the edge's history.
func TestAnOutcomeMovesItsEdge(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		treated, untreated string
		state              tune.State
		observed           float64
	}{
		"better": {"1.0", "5.0", tune.Committed, 1},
		"worse":  {"9.0", "1.0", tune.RolledBack, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, nil)
			before := m.relief(t)
			got := m.run(t, "apply", m.advised(t), "--meter", m.measured(t, tc.treated, tc.untreated), "--stage-time", "3s", "--yes", "--json")
			var r tune.Rollout
			got.decode(t, &r)
			if r.State != tc.state {
				t.Fatalf("the trial is %s (%s %s), want %s\n%s", r.State, r.Reason, r.Detail, tc.state, got.stderr)
			}
			after := m.relief(t)
			if len(after.History) != 1 || after.History[0].Observed != tc.observed || after.History[0].Trace != r.ID {
				t.Fatalf("history %+v", after.History)
			}
			if moved := after.Edge.Evidence - before.Edge.Evidence; moved < 0.99 || moved > 1.01 {
				t.Errorf("evidence grew by %v", moved)
			}
			want := (8*before.Edge.Seed + tc.observed) / 9
			if d := after.Edge.Weight - want; d < -0.01 || d > 0.01 {
				t.Errorf("weight %.3f after seed %.3f, want %.3f", after.Edge.Weight, before.Edge.Seed, want)
			}
			m.keptOneTrace(t, r)
		})
	}
}

// keptOneTrace looks at what a rollout left.
func (m *machine) keptOneTrace(t *testing.T, r tune.Rollout) {
	t.Helper()
	var stats statsDocument
	m.run(t, "kb", "stats", "--json").decode(t, &stats)
	if stats.Traces != 1 || stats.Learned != 1 {
		t.Errorf("stats %+v", stats)
	}
	store, err := sqlite.Open(t.Context(), m.data)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	trace, err := store.Trace(t.Context(), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	if trace.State != r.State || trace.Effect == nil || len(trace.Changes) != 1 || trace.Facts.Num["cpus"] != 4 ||
		len(trace.Symptoms) != 1 || len(trace.Before) == 0 || len(trace.After) == 0 || trace.Actor != "uid 0" || trace.Text == "" {
		t.Errorf("trace %+v", trace)
	}
}

// TestServeSeesWhatACommandTaught: an edge that another process induced is in serve's graph at once.
func TestServeSeesWhatACommandTaught(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	m.serving(t)
	c := m.ready(t)
	path := func() float64 {
		var out struct {
			Strength float64 `json:"strength"`
		}
		body := map[string]any{"from": "vm.page-cluster", "to": "net.core.somaxconn", "types": []string{"synergizes_with"}}
		if err := c.call(t.Context(), http.MethodPost, "/kb/dependency_path", body, &out); err != nil {
			t.Fatal(err)
		}
		return out.Strength
	}
	if before := path(); before != 0 {
		t.Fatalf("joined with strength %v before anything was taught", before)
	}
	file := fixture(t, sweepText("vm.page-cluster", "net.core.somaxconn", 2))
	taught := m.run(t, "kb", "induce", file)
	if taught.exit != 0 {
		t.Fatal(taught.stderr)
	}
	if after := path(); after <= 0 {
		t.Errorf("serve does not see the induced edge: %s", taught.stdout)
	}
	var found struct {
		Hits []console.SearchHit `json:"hits"`
	}
	if err := c.call(t.Context(), http.MethodPost, "/kb/search", map[string]any{"text": "accept queue"}, &found); err != nil || len(found.Hits) == 0 {
		t.Errorf("serve finds %+v, %v", found, err)
	}
}

// TestNeo4jAway: with nothing at NEO4J_URI every command does its work from the last known graph and says
// once what is missing; the password is nowhere.
func TestNeo4jAway(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	m.env = []string{"NEO4J_URI=bolt://" + freePort(t), "NEO4J_USER=neo4j", "NEO4J_PASS=s3cretpass"}
	for _, args := range [][]string{{"kb", "stats"}, {"kb", "search", "accept", "queue"}, {"recommend", "--window", "2s"}, {"doctor"},
		{"kb", "neighborhood", "vm.swappiness"}} {
		got := m.run(t, args...)
		said := strings.Count(got.stdout+got.stderr, "unreachable")
		once := said == 1 || args[0] == "doctor" && said == 2 // a note, and a line of its table
		if got.exit != 0 || !once || strings.Contains(got.stdout+got.stderr, "s3cretpass") {
			t.Errorf("%v: exit %d, unreachable said %d times\n%s\n%s", args, got.exit, said, got.stdout, got.stderr)
		}
	}
	m.env[0] = "NEO4J_URI=http://localhost:7687"
	if got := m.run(t, "kb", "stats"); got.exit != 2 || !strings.Contains(got.stderr, "http") {
		t.Errorf("a wrong scheme: exit %d, %s", got.exit, got.stderr)
	}
}

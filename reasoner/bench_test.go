package reasoner_test

import (
	"fmt"
	"testing"
	"time"

	"semantos/internal/tune"
	"semantos/kb"
	"semantos/reasoner"
)

// busyHost is a snapshot of ordinary size: every vector's signals at once would be no host, so it
// carries the present vector of a few rules and quiet entities of each kind.
func busyHost(t testing.TB) (tune.Snapshot, reasoner.Current) {
	t.Helper()
	rules, _ := load(t)
	snap := tune.Snapshot{Window: 10, Ticks: 10, Facts: mediumHost(), Signals: map[string]float64{}, Entities: map[string][]tune.Entity{}}
	values := map[string]string{}
	entity := map[string]map[string]float64{}
	for _, r := range rules {
		for _, c := range r.TestCases {
			if c.Expect != "absent" {
				continue
			}
			for k, v := range c.Signals {
				snap.Signals[k] = v
			}
			if entity[r.For] == nil {
				entity[r.For] = map[string]float64{}
			}
			for k, v := range c.Entity {
				entity[r.For][k] = v
			}
			for k, v := range c.Current {
				values[k] = v
			}
		}
	}
	for kind, signals := range entity {
		if kind == "" {
			continue
		}
		for i := range map[string]int{"process": 32, "device": 4, "listener": 6, "cgroup": 20}[kind] + 1 {
			id := fmt.Sprintf("%s-%02d", kind, i)
			snap.Entities[kind] = append(snap.Entities[kind], tune.Entity{Kind: kind, ID: id, Signals: signals,
				Labels: map[string]string{"netns": "netns:1", "device": id, "cgroup": "/" + id, "process": id, "socket": id}})
		}
	}
	return snap, func(name, _ string) (tune.Value, error) {
		if v, ok := values[name]; ok {
			return tune.Value(v), nil
		}
		return "", tune.ErrUnsupported
	}
}

func BenchmarkDiagnoseAndRecommend(b *testing.B) {
	r, _ := embedded(b)
	snap, cur := busyHost(b)
	b.ReportAllocs()
	for b.Loop() {
		symptoms, _ := r.Diagnose(snap, cur)
		r.Recommend(symptoms, snap, cur, reasoner.Evidence{})
	}
}

func BenchmarkNew(b *testing.B) {
	rules, cat := load(b)
	for b.Loop() {
		if _, err := reasoner.New(rules, cat); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoadRules(b *testing.B) {
	for b.Loop() {
		if _, err := kb.LoadRules(kb.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

// TestFastPath holds the budget of one decision, with a wide margin for a loaded machine.
func TestFastPath(t *testing.T) {
	if testing.Short() {
		t.Skip("measures time")
	}
	r, _ := embedded(t)
	snap, cur := busyHost(t)
	best := time.Hour
	for range 20 {
		start := time.Now()
		symptoms, _ := r.Diagnose(snap, cur)
		r.Recommend(symptoms, snap, cur, reasoner.Evidence{})
		best = min(best, time.Since(start))
	}
	if best > 10*time.Millisecond {
		t.Errorf("diagnosis and recommendation took %v, budget 10ms", best)
	}
}

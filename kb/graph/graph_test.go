package graph

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"semantos/internal/tune"
)

var types = []tune.EdgeType{tune.DependsOn, tune.ConflictsWith, tune.SynergizesWith, tune.Affects}

// random makes a graph of n nodes and m edges, no two alike.
func random(t testing.TB, seed uint64, n, m int) *Graph {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	nodes := make([]tune.Node, n)
	for i := range nodes {
		nodes[i] = tune.Node{ID: fmt.Sprintf("n%05d", i), Kind: tune.NodeTunable}
	}
	seen := map[string]bool{}
	var edges []tune.Edge
	for len(edges) < m {
		a, b, k := r.IntN(n), r.IntN(n), types[r.IntN(len(types))]
		key := fmt.Sprint(a, k, b)
		if a == b || seen[key] {
			continue
		}
		seen[key] = true
		w := math.Round(r.Float64()*1000) / 1000
		edges = append(edges, tune.Edge{From: nodes[a].ID, Type: k, To: nodes[b].ID, Sign: 1, Weight: w, Seed: w})
	}
	g, err := New(nodes, edges, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// strengths is brute force: the largest product over chains of at most depth edges (Bellman and Ford).
func strengths(g *Graph, from string, depth int, allowed mask) map[string]float64 {
	best := map[string]float64{from: 1}
	for range depth {
		next := map[string]float64{}
		for k, v := range best {
			next[k] = v
		}
		for _, e := range g.edges {
			if !allowed.allows(e.Type) {
				continue
			}
			next[e.To] = max(next[e.To], best[e.From]*e.Weight)
			next[e.From] = max(next[e.From], best[e.To]*e.Weight)
		}
		best = next
	}
	for k, v := range best {
		if v == 0 || k == from {
			delete(best, k)
		}
	}
	return best
}

func TestAgainstBruteForce(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		g := random(t, seed, 30, 20+int(seed)*2)
		some := types[:1+seed%4]
		for depth := 1; depth <= 3; depth++ {
			want := strengths(g, "n00000", depth, newMask(some))
			got, err := g.Neighborhood("n00000", Around{Depth: depth, Types: some})
			if err != nil || len(got) != len(want) {
				t.Fatalf("seed %d depth %d: %d nodes, want %d, %v", seed, depth, len(got), len(want), err)
			}
			for i, r := range got {
				if !near(r.Strength, want[r.Node.ID]) {
					t.Fatalf("seed %d depth %d: %s has strength %v, want %v", seed, depth, r.Node.ID, r.Strength, want[r.Node.ID])
				}
				if i > 0 && got[i-1].Strength < r.Strength {
					t.Fatal("not strongest first")
				}
				if r.Depth > depth || r.Edge.From != r.Node.ID && r.Edge.To != r.Node.ID {
					t.Fatalf("last edge %v of %s at depth %d", r.Edge, r.Node.ID, r.Depth)
				}
			}
		}
		whole := strengths(g, "n00000", 30, newMask(some))
		for _, n := range g.nodes[1:] {
			c, err := g.Path("n00000", n.ID, some...)
			if err != nil || !near(c.Strength, whole[n.ID]) {
				t.Fatalf("seed %d: path to %s has strength %v, want %v, %v", seed, n.ID, c.Strength, whole[n.ID], err)
			}
			checkChain(t, c, "n00000", n.ID)
		}
	}
}

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-12+1e-9*math.Abs(b) }

// checkChain walks a chain from end to end.
func checkChain(t *testing.T, c Chain, from, to string) {
	t.Helper()
	if c.Strength == 0 {
		if len(c.Edges) != 0 {
			t.Fatal("edges without strength")
		}
		return
	}
	at, product := from, 1.0
	for _, e := range c.Edges {
		switch at {
		case e.From:
			at = e.To
		case e.To:
			at = e.From
		default:
			t.Fatalf("edge %v does not go on from %s", e, at)
		}
		product *= e.Weight
	}
	if at != to || !near(product, c.Strength) {
		t.Fatalf("chain ends at %s with %v, want %s with %v", at, product, to, c.Strength)
	}
}

func TestRelations(t *testing.T) {
	t.Parallel()
	node := func(ids ...string) (out []tune.Node) {
		for _, id := range ids {
			out = append(out, tune.Node{ID: id, Kind: tune.NodeTunable})
		}
		return out
	}
	edge := func(from string, k tune.EdgeType, to string, w float64) tune.Edge {
		return tune.Edge{From: from, Type: k, To: to, Sign: 1, Weight: w, Seed: w}
	}
	retired := edge("s", tune.Relieves, "d", 0.9)
	retired.Retired = true
	g, err := New(node("s", "a", "b", "c", "d"), []tune.Edge{
		edge("s", tune.Relieves, "a", 0.5), edge("s", tune.Relieves, "b", 0.8), retired,
		edge("a", tune.DependsOn, "c", 1), edge("c", tune.DependsOn, "d", 1),
		edge("a", tune.ConflictsWith, "b", 0.7), edge("b", tune.SynergizesWith, "a", 0.2),
	}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := g.Reliefs("s")
	if err != nil || len(got) != 2 || got[0].Tunable != "b" || got[1].Tunable != "a" {
		t.Fatalf("reliefs %+v, %v", got, err)
	}
	if want := []string{"d", "c"}; !slices.Equal(got[1].Requires, want) || len(got[1].Conflicts) != 1 || len(got[1].Helped) != 1 {
		t.Errorf("a requires %v, want %v; conflicts %v, helped %v", got[1].Requires, want, got[1].Conflicts, got[1].Helped)
	}
	if c := g.Conflicts([]string{"a", "b", "c"}); len(c) != 1 || c[0].Weight != 0.7 {
		t.Errorf("conflicts %v", c)
	}
	if c := g.Conflicts([]string{"a", "c"}); len(c) != 0 {
		t.Errorf("conflicts where there are none: %v", c)
	}
	for _, bad := range []func() error{
		func() error { _, err := g.Path("a", "zz"); return err },
		func() error { _, err := g.Neighborhood("zz", Around{Depth: 1}); return err },
		func() error { _, err := g.Requires([]string{"zz"}); return err },
	} {
		if err := bad(); !errors.Is(err, tune.ErrUnknown) {
			t.Errorf("an unknown node gives %v", err)
		}
	}
	if _, err := g.Neighborhood("a", Around{Depth: 0}); !errors.Is(err, tune.ErrOutOfRange) {
		t.Errorf("depth 0 gives %v", err)
	}
	if _, err := New(node("a"), []tune.Edge{edge("a", tune.Affects, "x", 1)}, time.Time{}); !errors.Is(err, tune.ErrCorrupt) {
		t.Errorf("an edge to nowhere gives %v", err)
	}
}

func TestWeightAt(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	e := tune.Edge{Seed: 0.2, Learned: 1, Evidence: 8, Updated: start}
	if w := WeightAt(e, start); !near(w, 0.6) {
		t.Errorf("as much evidence as the seed counts gives %v, want the middle", w)
	}
	if n := EvidenceAt(e, start.Add(48*time.Hour)); !near(n, 8*0.98*0.98) {
		t.Errorf("two days leave %v", n)
	}
	if w := WeightAt(e, start.AddDate(5, 0, 0)); math.Abs(w-0.2) > 1e-6 {
		t.Errorf("five years leave weight %v, want the seed", w)
	}
	if w := WeightAt(e, start.Add(-time.Hour)); !near(w, 0.6) {
		t.Errorf("a clock that went back gives %v", w)
	}
	e.Documented = true
	if w := WeightAt(e, start.AddDate(5, 0, 0)); !near(w, 0.6) {
		t.Errorf("a documented edge decayed to %v", w)
	}
}

func BenchmarkNeighborhood(b *testing.B) {
	g := random(b, 1, 10_000, 100_000)
	for depth := 1; depth <= 3; depth++ {
		b.Run(fmt.Sprint("depth", depth), func(b *testing.B) {
			measure(b, func(r *rand.Rand) {
				if _, err := g.Neighborhood(g.nodes[r.IntN(10_000)].ID, Around{Depth: depth, Limit: 100}); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

func BenchmarkPath(b *testing.B) {
	g := random(b, 1, 10_000, 100_000)
	measure(b, func(r *rand.Rand) {
		if _, err := g.Path(g.nodes[r.IntN(10_000)].ID, g.nodes[r.IntN(10_000)].ID); err != nil {
			b.Fatal(err)
		}
	})
}

// measure reports the 99th percentile beside the mean.
func measure(b *testing.B, ask func(r *rand.Rand)) {
	r := rand.New(rand.NewPCG(7, 7))
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		ask(r)
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
}

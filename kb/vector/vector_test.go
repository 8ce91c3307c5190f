package vector

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"sort"
	"testing"

	"semantos/internal/tune"
)

// brute is the reference: float64, every vector, ties by ID.
func brute(stored map[string][]float32, q []float32, k int, keep func(string) bool) []Match {
	var out []Match
	for id, v := range stored {
		if keep == nil || keep(id) {
			out = append(out, Match{id, float32(distance(q, v))})
		}
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].Distance != out[j].Distance {
			return out[i].Distance < out[j].Distance
		}
		return out[i].ID < out[j].ID
	})
	return out[:max(0, min(k, len(out)))]
}

func distance(a, b []float32) float64 {
	var dot, aa, bb float64
	for i := range a {
		dot += float64(a[i]) * float64(b[i])
		aa += float64(a[i]) * float64(a[i])
		bb += float64(b[i]) * float64(b[i])
	}
	return 1 - dot/math.Sqrt(aa)/math.Sqrt(bb)
}

func fill(t testing.TB, x *Live, data [][]float32) {
	t.Helper()
	for i, v := range data {
		if err := x.Upsert(name(i), v); err != nil {
			t.Fatal(err)
		}
	}
}

func index(t testing.TB, kind string, dim int) *Live {
	t.Helper()
	x, err := New(Config{Dim: dim, Kind: kind})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x
}

func build(t testing.TB, x *Live) {
	t.Helper()
	if err := x.Build(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// sorted holds the order of an answer: by distance, equal ones by ID, each ID once.
func sorted(t testing.TB, got []Match) {
	t.Helper()
	seen := map[string]bool{}
	for i, m := range got {
		if seen[m.ID] {
			t.Fatalf("%s comes twice", m.ID)
		}
		seen[m.ID] = true
		if i > 0 && (got[i-1].Distance > m.Distance || got[i-1].Distance == m.Distance && got[i-1].ID >= m.ID) {
			t.Fatalf("answers %d and %d out of order: %v, %v", i-1, i, got[i-1], m)
		}
	}
}

// recall is the share of the ten true neighbours that were found, over all queries. The truth comes
// from a plain float scan, not from the code under test.
func recall(t testing.TB, x *Live, data, queries [][]float32, keep func(i int) bool) float64 {
	t.Helper()
	unit := make([][]float32, len(data))
	for i, v := range data {
		unit[i] = make([]float32, padWidth(len(v)))
		if err := normalise(unit[i], v); err != nil {
			t.Fatal(err)
		}
	}
	byID := func(id string) bool {
		var i int
		_, _ = fmt.Sscanf(id, "v%d", &i)
		return keep(i)
	}
	if keep == nil {
		byID = nil
	}
	found, total := 0, 0
	kern := detect()
	u := make([]float32, padWidth(x.Dim()))
	for _, q := range queries {
		if err := normalise(u, q); err != nil {
			t.Fatal(err)
		}
		var best []float64
		for i := range unit {
			if keep == nil || keep(i) {
				best = append(best, float64(1-kern.dot(u, unit[i])))
			}
		}
		sort.Float64s(best)
		best = best[:min(10, len(best))]
		got, err := x.Search(q, 10, byID)
		if err != nil {
			t.Fatal(err)
		}
		sorted(t, got)
		if len(got) != len(best) {
			t.Fatalf("%d answers, want %d", len(got), len(best))
		}
		total += len(best)
		for _, m := range got {
			if byID != nil && !byID(m.ID) {
				t.Fatalf("%s is not wanted", m.ID)
			}
			if float64(m.Distance) <= best[len(best)-1]+1e-6 {
				found++
			}
		}
	}
	return float64(found) / float64(total)
}

// TestRecall is the gate: recall@10 at every kind, size and sort of data, with and without filters.
// A walk is also forced where a scan would be cheaper, so that the graph itself is held to the gate.
func TestRecall(t *testing.T) {
	sizes, queries := []int{1000, 10000}, 100
	if os.Getenv("SOAK") != "" {
		sizes, queries = append(sizes, 100000), 200
	}
	for _, n := range sizes {
		data, qs := clustered(3, n, queries, 256)
		gate(t, "clustered", KindAuto, walkCost, data, qs)
		gate(t, "clustered", KindExact, walkCost, data, qs)
		gate(t, "clustered", KindGraph, 0, data, qs)
		if n <= 1000 {
			gate(t, "clustered", KindCoder, 0, data, qs)
		}
		data, qs = uniform(3, n, queries, 256)
		gate(t, "uniform", KindAuto, walkCost, data, qs)
		if n <= 1000 {
			gate(t, "uniform", KindGraph, 0, data, qs)
			gate(t, "uniform", KindCoder, 0, data, qs)
		}
	}
}

func gate(t *testing.T, sort, kind string, cost float64, data, qs [][]float32) {
	t.Run(fmt.Sprintf("%s/%d/%s", sort, len(data), kind), func(t *testing.T) {
		x := index(t, kind, 256)
		x.cost = cost
		fill(t, x, data)
		build(t, x)
		filters := map[string]func(int) bool{"all": nil, "half": func(i int) bool { return i%2 == 0 },
			"one in 20": func(i int) bool { return i%20 == 3 }, "one in 500": func(i int) bool { return i%500 == 7 }}
		want := 0.99
		if x.walker == nil {
			want = 1
		}
		for what, keep := range filters {
			if got := recall(t, x, data, qs, keep); got < want {
				t.Errorf("filter %s: recall %.4f, want %v (plan %+v)", what, got, want, x.plan)
			}
		}
		if kind == KindGraph && x.walker == nil {
			t.Error("no walk was held to the gate")
		}
	})
}

// TestRefused: what has no place in the index leaves no trace.
func TestRefused(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, kind := range []string{KindExact, KindGraph, KindCoder, KindAuto} {
		x := index(t, kind, 3)
		for what, c := range map[string]struct {
			id  string
			v   []float32
			err error
		}{
			"short": {"a", []float32{1, 2}, tune.ErrType}, "long": {"a", []float32{1, 2, 3, 4}, tune.ErrType},
			"nil": {"a", nil, tune.ErrType}, "nan": {"a", []float32{1, nan, 0}, tune.ErrOutOfRange},
			"inf": {"a", []float32{1, -inf, 0}, tune.ErrOutOfRange}, "zero": {"a", []float32{0, 0, 0}, tune.ErrOutOfRange},
			"no id": {"", []float32{1, 2, 3}, tune.ErrUsage},
		} {
			if err := x.Upsert(c.id, c.v); !errors.Is(err, c.err) {
				t.Errorf("%s: upsert %s: %v, want %v", kind, what, err, c.err)
			}
			if what == "no id" {
				continue
			}
			if _, err := x.Search(c.v, 3, nil); !errors.Is(err, c.err) {
				t.Errorf("%s: search %s: %v, want %v", kind, what, err, c.err)
			}
		}
		if got, err := x.Search([]float32{1, 0, 0}, 5, nil); err != nil || len(got) != 0 || x.Len() != 0 {
			t.Errorf("%s: %v %v, %d stored; want nothing", kind, got, err, x.Len())
		}
		if err := x.Delete("nobody"); err != nil {
			t.Error(err)
		}
	}
	for _, cfg := range []Config{{Dim: 3, Kind: "hnsw"}, {Dim: 0}, {Dim: -1}, {Dim: maxDim + 1}} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
	if _, err := New(Config{Dim: 3, Kind: "hnsw"}); !errors.Is(err, tune.ErrUnknown) {
		t.Error(err)
	}
}

// TestExtremes: directions survive the largest and smallest magnitudes; k has no bad value.
func TestExtremes(t *testing.T) {
	x := index(t, KindExact, 2)
	for id, v := range map[string][]float32{"huge": {math.MaxFloat32, math.MaxFloat32}, "tiny": {math.SmallestNonzeroFloat32, 0},
		"against": {-1, -1}, "b": {2, 2}, "a": {5, 5}} {
		if err := x.Upsert(id, v); err != nil {
			t.Fatal(err)
		}
	}
	got, err := x.Search([]float32{3, 3}, math.MaxInt, nil)
	if err != nil || len(got) != 5 {
		t.Fatal(got, err)
	}
	sorted(t, got)
	if got[0].ID != "a" || got[1].ID != "b" || got[2].ID != "huge" || got[3].ID != "tiny" || got[4].ID != "against" {
		t.Errorf("%v", got)
	}
	if math.Abs(float64(got[4].Distance-2)) > 1e-6 || math.Abs(float64(got[3].Distance)-(1-1/math.Sqrt2)) > 1e-6 || got[0].Distance > 1e-6 {
		t.Errorf("distances: %v", got)
	}
	for _, k := range []int{0, -1, math.MinInt} {
		if got, err := x.Search([]float32{3, 3}, k, nil); err != nil || len(got) != 0 {
			t.Error(k, got, err)
		}
	}
	if got, _ := x.Search([]float32{1, 1}, 3, func(string) bool { return false }); len(got) != 0 {
		t.Error(got)
	}
}

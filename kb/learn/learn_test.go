package learn

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"semantos/internal/tune"
	"semantos/kb/graph"
)

// noise is the stated one: the metric's coefficient of variation from run to run.
const noise = 0.05

// sweepOf simulates a full pairwise sweep over n tunables: single effects of either sign, the given
// interactions, runs per cell, log-normal noise.
func sweepOf(r *rand.Rand, n, runs int, cv float64, interactions map[[2]int]float64) Sweep {
	s := Sweep{Metric: "p95_ms", Better: "lower"}
	single := make([]float64, n)
	for i := range single {
		single[i] = 0.3 * r.NormFloat64()
	}
	name := func(i int) string { return fmt.Sprintf("vm.t%02d", i) }
	run := func(on []string, gain float64) {
		for range runs {
			s.Runs = append(s.Runs, Run{On: on, Value: 10 * math.Exp(-gain+cv*r.NormFloat64())})
		}
	}
	run(nil, 0)
	for i := range n {
		run([]string{name(i)}, single[i])
		for j := i + 1; j < n; j++ {
			run([]string{name(j), name(i)}, single[i]+single[j]+interactions[[2]int{i, j}])
		}
	}
	return s
}

// TestInduceRecoversTheGraph: 10 tunables, 45 pairs, 10 of them interacting by a factor of 1.3 to 2 in
// either direction, 6 runs a cell at 5 % noise.
func TestInduceRecoversTheGraph(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(20261124, 5))
	right, kept, there := 0, 0, 0
	for sim := range simulations(20) {
		truth := map[[2]int]float64{}
		for len(truth) < 10 {
			i, j := r.IntN(10), r.IntN(10)
			if i < j {
				truth[[2]int{i, j}] = math.Copysign(math.Log(1.3)+r.Float64()*math.Log(2/1.3), r.Float64()-0.5)
			}
		}
		found, err := Induce(sweepOf(r, 10, 6, noise, truth), Options{Resamples: 400, Seed: uint64(sim)})
		if err != nil || len(found) != 45 {
			t.Fatalf("%d findings, %v", len(found), err)
		}
		there += len(truth)
		for _, f := range found {
			if !f.Kept {
				continue
			}
			kept++
			var i, j int
			fmt.Sscanf(f.A+" "+f.B, "vm.t%d vm.t%d", &i, &j)
			if x := truth[[2]int{i, j}]; x*f.Interaction > 0 {
				right++
			}
		}
	}
	precision, recall := float64(right)/float64(kept), float64(right)/float64(there)
	t.Logf("precision %.3f, recall %.3f of %d interactions", precision, recall, there)
	if precision < 0.9 || recall < 0.8 {
		t.Errorf("precision %.3f, recall %.3f; want at least 0.9 and 0.8", precision, recall)
	}
}

// TestInduceInventsNothing: sweeps without any interaction; at 15 pairs, the share of sweeps with an
// edge is the chance of inventing one.
func TestInduceInventsNothing(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(20261124, 6))
	sims := simulations(300)
	invented := 0
	for sim := range sims {
		found, err := Induce(sweepOf(r, 6, 4, []float64{0.02, noise, 0.2}[sim%3], nil), Options{Resamples: 400, Seed: uint64(sim)})
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(found, func(f Finding) bool { return f.Kept }) {
			invented++
		}
	}
	rate := float64(invented) / float64(sims)
	t.Logf("an edge was invented in %.1f %% of %d sweeps", 100*rate, sims)
	// two standard errors of a rate of 5 % over this many sweeps
	if rate > 0.05+2*math.Sqrt(0.05*0.95/float64(sims)) {
		t.Errorf("an edge was invented in %.1f %% of sweeps", 100*rate)
	}
}

// TestInduceUnequalCells: no interaction, 2 to 9 runs a cell, and noise that differs from cell to cell by
// up to a factor of 20: the share of sweeps with an invented edge stays below the level.
func TestInduceUnequalCells(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(20261124, 8))
	sims := simulations(300)
	invented := 0
	for sim := range sims {
		s := Sweep{Metric: "p95_ms", Better: "lower"}
		for _, on := range [][]string{nil, {"a"}, {"b"}, {"c"}, {"d"}, {"a", "b"}, {"a", "c"}, {"a", "d"}, {"b", "c"}, {"b", "d"}, {"c", "d"}} {
			cv := 0.01 * math.Exp(3*r.Float64())
			for range 2 + r.IntN(8) {
				s.Runs = append(s.Runs, Run{On: on, Value: 10 * math.Exp(cv*r.NormFloat64())})
			}
		}
		found, err := Induce(s, Options{Resamples: 300, Seed: uint64(sim)})
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(found, func(f Finding) bool { return f.Kept }) {
			invented++
		}
	}
	rate := float64(invented) / float64(sims)
	t.Logf("an edge was invented in %.1f %% of %d sweeps", 100*rate, sims)
	if rate > 0.05+2*math.Sqrt(0.05*0.95/float64(sims)) {
		t.Errorf("an edge was invented in %.1f %% of sweeps", 100*rate)
	}
}

func simulations(n int) int {
	if os.Getenv("SOAK") == "1" {
		return 10 * n
	}
	return n
}

func TestInduceRefuses(t *testing.T) {
	t.Parallel()
	two := func(on ...string) []Run { return []Run{{On: on, Value: 1}, {On: on, Value: 2}} }
	for name, s := range map[string]Sweep{
		"no direction":   {Runs: two("a", "b")},
		"no pair":        {Better: "lower", Runs: two("a")},
		"missing cell":   {Better: "lower", Runs: append(two("a", "b"), two("a")...)},
		"value 0":        {Better: "lower", Runs: []Run{{Value: 0}}},
		"NaN":            {Better: "lower", Runs: []Run{{Value: math.NaN()}}},
		"three at once":  {Better: "lower", Runs: two("a", "b", "c")},
		"one twice":      {Better: "lower", Runs: two("a", "a")},
		"a nameless one": {Better: "lower", Runs: two("", "a")},
	} {
		if _, err := Induce(s, Options{}); !errors.Is(err, tune.ErrUsage) || tune.Hint(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInduceRefusesOptions(t *testing.T) {
	t.Parallel()
	s := sweepOf(rand.New(rand.NewPCG(1, 1)), 2, 3, noise, nil)
	for _, o := range []Options{{Level: -1}, {Level: 1}, {Level: math.NaN()}, {Resamples: -1}, {Resamples: 5}, {Resamples: 1 << 40}} {
		if _, err := Induce(s, o); !errors.Is(err, tune.ErrUsage) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func outcome(state tune.State, verdict tune.Verdict, reason string) tune.Trace {
	return tune.Trace{ID: "t1", State: state, Verdict: verdict, Reason: reason, Symptoms: []string{"s"},
		Effect:  &tune.Effect{Metric: "p95_ms", Ratio: 0.5, Low: 0.4, High: 0.6},
		Changes: []tune.Change{{Tunable: "a"}, {Tunable: "b", Current: "1 2", Proposed: "1 8"}}}
}

func TestObserve(t *testing.T) {
	t.Parallel()
	edges := []tune.Edge{
		{From: "s", Type: tune.Relieves, To: "a"}, {From: "s", Type: tune.Relieves, To: "c"}, {From: "x", Type: tune.Relieves, To: "a"},
		{From: "b", Type: tune.Affects, To: "p95_ms", Sign: -1}, {From: "b", Type: tune.Affects, To: "other", Sign: -1},
	}
	kept := Observe(outcome(tune.Committed, tune.Pass, "better"), edges)
	if len(kept) != 2 || kept[0].Value != 1 || kept[0].Count != 0.5 || kept[1].Value != 1 {
		t.Errorf("a kept bundle of two says %+v", kept)
	}
	if got := Observe(outcome(tune.RolledBack, tune.Fail, "worse"), edges); len(got) != 2 || got[0].Value != 0 {
		t.Errorf("a worse one says %+v", got)
	}
	if got := Observe(outcome(tune.RolledBack, tune.Inconclusive, tune.ReasonNoEffect), edges); len(got) != 2 || got[0].Value != 0 {
		t.Errorf("one without effect says %+v", got)
	}
	for name, c := range map[string]struct {
		change func(o *tune.Trace)
		want   []float64 // of "s relieves a", "b affects p95_ms" (sign -1)
	}{
		"one tunable, two targets": {func(o *tune.Trace) { o.Changes = append(o.Changes[1:], o.Changes[1]) }, []float64{1}},
		"b lowered":                {func(o *tune.Trace) { o.Changes[1].Proposed = "1 1" }, []float64{1, 0}},
		"b has no order":           {func(o *tune.Trace) { o.Changes[1].Proposed = "bbr x" }, []float64{1}},
		"b in two directions":      {func(o *tune.Trace) { o.Changes[1].Proposed = "0 9" }, []float64{1}},
		"kept as not worse":        {func(o *tune.Trace) { o.Effect.High = 1.05; o.Reason = tune.ReasonNotWorse }, nil},
		"throughput fell":          {func(o *tune.Trace) { o.Effect.Better = "higher" }, nil},
		"stopped by a person":      {func(o *tune.Trace) { o.State, o.Verdict, o.Reason = tune.RolledBack, tune.Fail, tune.ReasonOperator }, nil},
	} {
		o := outcome(tune.Committed, tune.Pass, "better")
		c.change(&o)
		var got []float64
		for _, x := range Observe(o, edges) {
			got = append(got, x.Value)
			if name == "one tunable, two targets" && x.Count != 1 {
				t.Errorf("%s: counted %v times", name, x.Count)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s says %v, want %v", name, got, c.want)
		}
	}
	against := []tune.Edge{{From: "s", Type: tune.Relieves, To: "a", Sign: -1}}
	if got := Observe(outcome(tune.Committed, tune.Pass, "better"), against); len(got) != 1 || got[0].Value != 0 {
		t.Errorf("a tunable said to worsen a symptom helped: %+v", got)
	}
	silent := outcome(tune.Committed, tune.Pass, "unmeasured")
	silent.Effect = nil
	for name, o := range map[string]tune.Trace{"unmeasured": silent, "aborted": outcome(tune.RolledBack, tune.Inconclusive, "aborted"),
		"vetoed": outcome(tune.Vetoed, "", "veto")} {
		if got := Observe(o, edges); got != nil {
			t.Errorf("%s says %+v", name, got)
		}
	}
}

func TestApplyShrinksToTheSeed(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	e := tune.Edge{From: "s", Type: tune.Relieves, To: "a", Seed: 0.5}
	one, event, err := Apply(e, Observation{Value: 1, Count: 1}, "t", at)
	if err != nil || math.Abs(one.Weight-5.0/9) > 1e-9 || event.Weight != one.Weight || event.Evidence != 1 {
		t.Errorf("one outcome makes %v (%+v), %v; want (8*0.5+1)/9", one.Weight, event, err)
	}
	newer := e
	newer.Updated = at.AddDate(0, 0, 100)
	if late, _, err := Apply(newer, Observation{Value: 1, Count: 1}, "t", at); err != nil || math.Abs(late.Evidence-math.Pow(0.98, 100)) > 1e-9 {
		t.Errorf("an outcome 100 days older than what is known counts %v, %v", late.Evidence, err)
	}
	for _, bad := range []Observation{{Value: 1.1, Count: 1}, {Value: math.NaN(), Count: 1}, {Value: 1}, {Value: 1, Count: math.Inf(1)}} {
		if got, _, err := Apply(e, bad, "", at); !errors.Is(err, tune.ErrOutOfRange) || got != e {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestRetirement(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	fails := func(e tune.Edge, n int, value float64) tune.Edge {
		for range n {
			var err error
			if e, _, err = Apply(e, Observation{Value: value, Count: 1}, "t", at); err != nil {
				t.Fatal(err)
			}
		}
		return e
	}
	e := tune.Edge{From: "s", Type: tune.Relieves, To: "a", Seed: 0.5}
	if fails(e, 10, 0).Retired {
		t.Error("ten failures retire an edge the catalogue seeds with 0.5")
	}
	if !fails(e, 60, 0).Retired {
		t.Error("sixty failures do not retire it")
	}
	gone := fails(e, 60, 0)
	if back, _, err := Apply(gone, Observation{Value: 1, Count: 1}, "t", at.Add(graph.RetiredFor)); err != nil || back.Retired ||
		graph.Resting(gone, at.Add(graph.RetiredFor)) || !graph.Resting(gone, at.AddDate(0, 0, 30)) {
		t.Errorf("a retired edge after its rest: %+v, %v", back, err)
	}
	if fails(e, 60, 0.5).Retired {
		t.Error("an edge that holds half the time is retired")
	}
	e.Documented = true
	if fails(e, 200, 0).Retired {
		t.Error("a documented edge is retired")
	}
	if w := fails(e, 5, 1); graph.WeightAt(w, at.AddDate(1, 0, 0)) != w.Weight {
		t.Error("a documented edge decays")
	}
}

package rollout

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"semantos/internal/tune"

	"pgregory.net/rapid"
)

// Whatever is seen, in whatever order: a rollout ends committed or exactly restored, never goes on from
// a stage that was not passed, and takes no step back.
func TestAnyStoryEndsCommittedOrRestored(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		plan := drawPlan(rt)
		p := Policy{Margin: 0.1,
			Measured: rapid.Bool().Draw(rt, "measured"), Set: rapid.Bool().Draw(rt, "set"),
			Yes: rapid.Bool().Draw(rt, "yes"), Hold: rapid.Bool().Draw(rt, "hold"), Gates: rapid.Bool().Draw(rt, "gates"),
			Limits: Limits{MaxP95MS: rapid.SampledFrom([]float64{0, 35}).Draw(rt, "limit")}}
		trial, now := NewTrial(plan, p), time.Unix(0, 0)
		standing := "" // what is on the machine beside the originals
		pending := []Observation{{Kind: KindBegin}}
		for n := 0; !trial.Over(); n++ {
			if n > 6000 {
				rt.Fatalf("does not end: %+v", trial.Stages)
			}
			var o Observation
			if len(pending) > 0 {
				o, pending = pending[0], pending[1:]
			} else {
				o = drawObservation(rt, n)
			}
			if n > 0 && rapid.IntRange(0, 40).Draw(rt, "restart") == 0 { // the process ends, the guard restores, another one goes on
				down := time.Duration(rapid.IntRange(0, 5000).Draw(rt, "down")) * time.Second
				trial, standing, now, pending = reload(rt, trial, now), "", now.Add(down), nil
				o = Observation{Kind: KindResume, Down: down}
			} else if rapid.IntRange(0, 9).Draw(rt, "reload") == 0 {
				trial = reload(rt, trial, now)
			}
			before := len(trial.Stages)
			old := trial
			var effects []Effect
			trial, effects = Step(trial, o, now)
			checkStages(rt, trial, before)
			if len(trial.Stages) > before && before > 0 && old.phase == phaseSlots && p.Measured &&
				old.current.block.id != 0 && !old.current.block.last {
				rt.Fatalf("stage %d was cut short in a block", before)
			}
			if len(old.Stages) != before || old.Over() {
				rt.Fatal("Step changed its argument")
			}
			for _, e := range effects {
				switch e.Do {
				case DoExpose:
					standing = string(e.Changes[0].Proposed)
				case DoRevert, DoRollback:
					standing = ""
				case DoMeasure:
					now = now.Add(e.Settle + e.Sample)
					if trial.Treated() != (standing != "") {
						rt.Fatalf("slot treated %v, machine %q", trial.Treated(), standing)
					}
					if want := string(trial.plan().Changes[0].Proposed); standing != "" && standing != want {
						rt.Fatalf("stage %d measures %q, its dose is %q", len(trial.Stages), standing, want)
					}
				}
				if e.Do == DoCommit || e.Do == DoRollback {
					pending = append(pending, Observation{Kind: rapid.SampledFrom([]Kind{KindDone, KindDone, KindDone, KindFault}).Draw(rt, "answer")})
				}
			}
		}
		checkEnd(rt, trial, standing)
	})
}

func checkEnd(rt *rapid.T, trial Trial, standing string) {
	p, plan := trial.Policy, trial.Plan
	final := string(plan.Stages[len(plan.Stages)-1].Changes[0].Proposed)
	switch {
	case trial.State == tune.Committed && standing != final:
		rt.Fatalf("committed with %q on the machine", standing)
	case trial.State == tune.RolledBack && standing != "":
		rt.Fatalf("rolled back with %q on the machine", standing)
	case trial.State != tune.Committed && trial.State != tune.RolledBack:
		rt.Fatalf("ended %s", trial.State)
	case trial.State == tune.Committed && p.Measured && (trial.Effect == nil || trial.Effect.Low > 1 && trial.Effect.Better == betterLower && !p.Set):
		rt.Fatalf("kept with effect %+v", trial.Effect)
	case trial.State == tune.Committed && !p.Measured && !p.Yes:
		rt.Fatal("kept unmeasured without --yes")
	}
}

func checkStages(rt *rapid.T, trial Trial, before int) {
	for i, st := range trial.Stages {
		if i < len(trial.Stages)-1 && st.Verdict != tune.Pass {
			rt.Fatalf("went past stage %d, which was %s", i, st.Verdict)
		}
		if st.Verdict == tune.Pass && trial.Policy.Measured && st.Effect == nil {
			rt.Fatalf("stage %d passed without a comparison", i)
		}
	}
	if len(trial.Stages) < before {
		rt.Fatal("a stage vanished")
	}
}

func drawPlan(rt *rapid.T) Plan {
	changes := someone()
	entry := &tune.Tunable{Name: changes[0].Tunable, Kind: tune.KindInteger}
	if rapid.Bool().Draw(rt, "dose") {
		changes[0].TakesEffect, changes[0].Proposed = tune.NewSockets, "4096"
	}
	p, err := NewPlan(PlanRequest{Changes: changes, Steps: []float64{5, 25, 50, 100},
		StageTime: time.Duration(rapid.IntRange(1, 30).Draw(rt, "stage")) * time.Second},
		book1(entry), rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0)))
	if err != nil {
		rt.Fatal(err)
	}
	return p
}

func drawObservation(rt *rapid.T, n int) Observation {
	if n > 5000 {
		return Observation{Kind: KindAbort, Actor: "test"} // a hold may last for ever
	}
	switch rapid.IntRange(0, 60).Draw(rt, "what") {
	case 0:
		return Observation{Kind: rapid.SampledFrom([]Kind{KindAbort, KindInterrupt, KindFault, KindYield, KindLimit, KindHold}).Draw(rt, "kind")}
	case 1, 2, 3:
		return Observation{Kind: KindAdvance}
	case 4, 5, 6:
		return Observation{Kind: KindSlot, Why: "silent"}
	case 7: // what a broken meter prints
		s := sample(math.NaN(), math.Inf(1), -1)
		return Observation{Kind: KindSlot, Sample: &s}
	}
	s := sample(rapid.Float64Range(0, 60).Draw(rt, "p95"), rapid.Float64Range(0, 2000).Draw(rt, "rate"),
		rapid.SampledFrom([]float64{0, 0, 0.01, 0.5}).Draw(rt, "errors"))
	return Observation{Kind: KindSlot, Sample: &s}
}

// simulate plays rollouts on a workload with lognormal noise and returns how they ended.
func simulate(t *testing.T, runs int, stage time.Duration, noise float64, p Policy,
	truth func(r *rand.Rand, treated bool, slot int) tune.MeterSample) map[string]int {
	t.Helper()
	ends := map[string]int{}
	for seed := range runs {
		r := rand.New(rand.NewPCG(uint64(seed), 7))
		plan := testPlan(t, stage)
		n := 0
		s := newStory(t, plan, p)
		s.playWith(func(on bool) *tune.MeterSample {
			v := truth(r, on, n)
			n++
			v.P95MS *= math.Exp(noise * r.NormFloat64())
			v.Throughput *= math.Exp(noise / 3 * r.NormFloat64())
			return &v
		})
		ends[s.trial.Reason]++
	}
	return ends
}

func TestSimulatedRollouts(t *testing.T) {
	t.Parallel()
	const runs = 200
	base := sample(20, 500, 0.001)
	factor := func(p95, rate float64) func(*rand.Rand, bool, int) tune.MeterSample {
		return func(_ *rand.Rand, on bool, _ int) tune.MeterSample {
			v := base
			if on {
				v.P95MS, v.Throughput = v.P95MS*p95, v.Throughput*rate
			}
			return v
		}
	}
	for _, tc := range []struct {
		name     string
		stage    time.Duration
		noise    float64
		truth    func(*rand.Rand, bool, int) tune.MeterSample
		reason   string
		min, max float64 // share of runs that end so
	}{
		{"equal is seldom kept", 12 * time.Second, 0.10, factor(1, 1), tune.ReasonBetter, 0, 0.05},
		{"equal and noisy is seldom kept", 12 * time.Second, 0.40, factor(1, 1), tune.ReasonBetter, 0, 0.05},
		{"equal in short stages is seldom kept", 5 * time.Second, 0.20, factor(1, 1), tune.ReasonBetter, 0, 0.05},
		{"equal is seldom called worse", 12 * time.Second, 0.20, factor(1, 1), tune.ReasonWorse, 0, 0.03},
		{"equal and noisy is seldom called worse", 12 * time.Second, 0.40, factor(1, 1), tune.ReasonWorse, 0, 0.06},
		{"a fifth better is kept", 12 * time.Second, 0.10, factor(0.8, 1), tune.ReasonBetter, 0.95, 1},
		{"a fifth better is kept in short stages", 5 * time.Second, 0.08, factor(0.8, 1), tune.ReasonBetter, 0.90, 1},
		{"four times better amid noise is kept", 5 * time.Second, 0.80, factor(0.25, 1), tune.ReasonBetter, 0.88, 1},
		{"twice as bad is undone", 12 * time.Second, 0.10, factor(2, 1), tune.ReasonWorse, 1, 1},
		{"twice as bad and noisy is never kept", 12 * time.Second, 0.40, factor(2, 1), tune.ReasonBetter, 0, 0},
		{"a load that eases is no cure", 12 * time.Second, 0.10, func(_ *rand.Rand, _ bool, n int) tune.MeterSample {
			v := base
			if n > 20 {
				v.P95MS /= 1.15
			}
			return v
		}, tune.ReasonBetter, 0, 0.20},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			ends := simulate(t, runs, tc.stage, tc.noise, policy(), tc.truth)
			if got := float64(ends[tc.reason]) / float64(runs); got < tc.min || got > tc.max {
				t.Errorf("%s in %.3f of runs, want %.2f to %.2f: %v", tc.reason, got, tc.min, tc.max, ends)
			}
			t.Log(tc.name, ends)
		})
	}
}

// A kernel signal that falls from hundreds to nothing is a ratio far below 1, and zero to zero is 1.
func TestZerosInASignal(t *testing.T) {
	t.Parallel()
	p := policy()
	p.Measure = tune.Measure{Signal: "tcp.listen_overflows", Better: betterLower, Floor: 1}
	value := func(v float64) *tune.MeterSample { return &tune.MeterSample{Value: &v} }
	s := newStory(t, testPlan(t, 5*time.Second), p)
	s.playWith(func(on bool) *tune.MeterSample {
		if on {
			return value(0)
		}
		return value(500)
	})
	s.want(tune.Committed, tune.ReasonBetter)
	if e := s.trial.Effect; math.Abs(e.Ratio-1.0/500) > 1e-9 || e.High >= 0.01 {
		t.Errorf("effect %+v", e)
	}
	s = newStory(t, testPlan(t, 5*time.Second), p)
	s.playWith(func(bool) *tune.MeterSample { return value(0) })
	s.want(tune.RolledBack, tune.ReasonNoEffect)
	if e := s.trial.Effect; math.Abs(e.Ratio-1) > 1e-8 {
		t.Errorf("effect %+v", e)
	}
	p.Measure.Better = betterHigher
	s = newStory(t, testPlan(t, 5*time.Second), p)
	s.playWith(func(on bool) *tune.MeterSample {
		if on {
			return value(900)
		}
		return value(300)
	})
	s.want(tune.Committed, tune.ReasonBetter)
}

package rollout

import (
	"math"
	"testing"

	"semantos/internal/tune"
	"semantos/safety/effect"
)

// repeat gives six slots of one sample with a little noise on its p95.
func repeat(v tune.MeterSample) []tune.MeterSample {
	out := make([]tune.MeterSample, 6)
	for i := range out {
		out[i] = v
		out[i].P95MS *= 1 + 0.01*float64(i%3)
	}
	return out
}

func TestAssessTogether(t *testing.T) {
	t.Parallel()
	a := assess(effect.LogT{}, metricsOf(tune.Measure{}, 0), 0.1, repeat(sample(5, 200, 0)), repeat(sample(10, 100, 0.2)))
	f, ok := a.better()
	if !ok || f.metric.name != metricP95 {
		t.Errorf("p95 is not preferred: %v", f)
	}
	if _, worse := a.worse(0.95); worse {
		t.Error("better in everything is worse")
	}
	for _, m := range a.findings {
		e := m.effect()
		if e.Low > e.Ratio || e.Ratio > e.High || math.IsInf(e.High, 0) || math.IsNaN(e.Low) {
			t.Errorf("effect %+v", e)
		}
		if higher := e.Metric == metricThroughput; higher != (e.Better == betterHigher) || higher != (e.Ratio > 1) {
			t.Errorf("direction of %+v", e)
		}
	}
	if a := assess(effect.LogT{}, metricsOf(tune.Measure{Signal: "x"}, 0), 0.1, repeat(sample(1, 1, 1)), repeat(sample(1, 1, 1))); a.known() {
		t.Error("a signal without a value was compared")
	}
}

// Two treated slots, one three times and one fifty times as bad: too uneven for an interval, and plain.
func TestUnevenHarmIsHarm(t *testing.T) {
	t.Parallel()
	u := []tune.MeterSample{sample(10, 100, 0), sample(11, 100, 0), sample(9, 100, 0)}
	a := assess(effect.LogT{}, metricsOf(tune.Measure{}, 0), 0.1, []tune.MeterSample{sample(30, 100, 0), sample(500, 100, 0)}, u)
	if _, worse := a.worse(actLevel); !worse {
		t.Error("not called worse")
	}
	a = assess(effect.LogT{}, metricsOf(tune.Measure{}, 0), 0.1, []tune.MeterSample{sample(500, 100, 0)}, u)
	if _, worse := a.worse(actLevel); worse {
		t.Error("one slot was enough")
	}
}

// TestCostCountsTheLost: measured with nginx and wrk, the p95 of what finishes under an accept queue of
// eight is a tenth of the cured one, while one attempt in forty waits a second.
func TestCostCountsTheLost(t *testing.T) {
	t.Parallel()
	slots := func(p95, lost float64) []tune.MeterSample {
		out := repeat(sample(p95, 22000, 0))
		for i := range out {
			out[i].Lost = &lost
		}
		return out
	}
	cured, overflowing := slots(8, 0), slots(0.8, 0.026)
	if f, worse := assess(effect.LogT{}, metricsOf(tune.Measure{}, 0), 0.1, cured, overflowing).worse(actLevel); !worse {
		t.Fatalf("the survivors' p95 alone no longer misleads: %v", f)
	}
	a := assess(effect.LogT{}, metricsOf(tune.Measure{}, 1000), 0.1, cured, overflowing)
	if f, worse := a.worse(actLevel); worse {
		t.Errorf("the cure is judged worse: %v", f)
	}
	if f, ok := a.better(); !ok || f.metric.name != metricCost {
		t.Errorf("the cure is not judged better by its cost: %v %v", f, ok)
	}
	if a := assess(effect.LogT{}, metricsOf(tune.Measure{}, 1000), 0.1, repeat(sample(8, 1, 0)), slots(1, 0)); a.named(metricCost) != nil {
		t.Error("a sample nobody counted losses for has a cost")
	}
}

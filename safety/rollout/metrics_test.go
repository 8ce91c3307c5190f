package rollout

import (
	"math"
	"slices"
	"testing"

	"semantos/internal/tune"
)

// pairsOf gives n drawn pairs of one treated and one untreated sample, with a little noise on p95.
func pairsOf(n int, treated, untreated tune.MeterSample) []reading {
	var out []reading
	for i := range n {
		for j := range 2 {
			r := reading{treated: (i/2+j)%2 == 0, block: block{id: i + 1, size: 2, last: j == 1}}
			v := untreated
			if r.treated {
				v = treated
			}
			v.P95MS *= 1 + 0.01*float64((i+j)%3)
			r.sample = &v
			out = append(out, r)
		}
	}
	return out
}

func TestAssessTogether(t *testing.T) {
	t.Parallel()
	a := assess(metricsOf(tune.Measure{}, 0), 0.1, pairsOf(10, sample(5, 200, 0), sample(10, 100, 0.2)), 0)
	f, ok := a.better()
	if !ok || f.metric.name != metricP95 {
		t.Errorf("p95 is not preferred: %v", f)
	}
	if _, worse := a.worse(); worse {
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
	same := pairsOf(10, sample(1, 1, 1), sample(1, 1, 1))
	if a := assess(metricsOf(tune.Measure{Signal: "x"}, 0), 0.1, same, 0); a.known() {
		t.Error("a signal without a value was compared")
	}
}

// Better in latency, and the one slot in which clients were lost gave no latency at all: where data is
// missing in treated slots only, nothing speaks for the change.
func TestGapsOfTreatedSlotsForbidAClaim(t *testing.T) {
	t.Parallel()
	lose := func(treated bool) []reading {
		rs := pairsOf(20, sample(5, 100, 0), sample(10, 100, 0))
		lost := 0
		for i := range rs {
			if rs[i].treated == treated && lost < 5 {
				rs[i].sample = nil
				lost++
			}
		}
		return rs
	}
	a := assess(metricsOf(tune.Measure{}, 0), 0.1, lose(true), 0)
	if f, ok := a.better(); ok {
		t.Errorf("five treated slots are missing, no untreated one, yet %v", f)
	}
	if f, ok := a.gaps(); !ok || f.metric.name != metricP95 {
		t.Errorf("the gaps are not named: %v", f)
	}
	if _, ok := assess(metricsOf(tune.Measure{}, 0), 0.1, lose(false), 0).better(); !ok {
		t.Error("missing untreated slots forbid a claim")
	}
}

// TestCostCountsTheLost: measured with nginx and wrk, the p95 of what finishes under an accept queue of
// eight is a tenth of the cured one, while one attempt in forty waits a second.
func TestCostCountsTheLost(t *testing.T) {
	t.Parallel()
	slots := func(p95, lost float64) tune.MeterSample {
		v := sample(p95, 22000, 0)
		v.Lost = &lost
		return v
	}
	rs := pairsOf(10, slots(8, 0), slots(0.8, 0.026))
	if f, worse := assess(metricsOf(tune.Measure{}, 0), 0.1, rs, 0).worse(); !worse {
		t.Fatalf("the survivors' p95 alone no longer misleads: %v", f)
	}
	a := assess(metricsOf(tune.Measure{}, 1000), 0.1, rs, 0)
	if f, worse := a.worse(); worse {
		t.Errorf("the cure is judged worse: %v", f)
	}
	if f, ok := a.better(); !ok || f.metric.name != metricCost {
		t.Errorf("the cure is not judged better by its cost: %v %v", f, ok)
	}
	none := pairsOf(10, sample(8, 1, 0), sample(1, 1, 0))
	for _, f := range assess(metricsOf(tune.Measure{}, 1000), 0.1, none, 0).findings {
		if f.metric.name == metricCost {
			t.Error("a sample nobody counted losses for has a cost")
		}
	}
}

// TestThoseLetInShare: while nine of ten attempts are turned away, the few that get in have the server to
// themselves. That they are a quarter slower beside the others is no harm; that half the work is lost is.
func TestThoseLetInShare(t *testing.T) {
	t.Parallel()
	slots := func(throughput, lost, failed float64) tune.MeterSample {
		v := sample(8, throughput, failed)
		v.Lost = &lost
		return v
	}
	for _, c := range []struct {
		name      string
		cured     tune.MeterSample
		untreated tune.MeterSample
		worse     bool
	}{
		{"nine of ten are let in", slots(10000, 0, 0), slots(13000, 0.9, 0), false},
		{"one in forty waits a second", slots(10000, 0, 0), slots(13000, 0.025, 0), false},
		{"the meter saw them fail", slots(10000, 0, 0), slots(13000, 0, 0.9), false},
		{"half the work is lost", slots(6000, 0, 0), slots(13000, 0.9, 0), true},
		{"nobody is let in", slots(10000, 0.9, 0), slots(13000, 0.9, 0), true},
		{"nobody was turned away", slots(10000, 0, 0), slots(13000, 0.005, 0), true},
	} {
		a := assess(metricsOf(tune.Measure{}, 1000), 0.1, pairsOf(12, c.cured, c.untreated), 0)
		if f, worse := a.worse(); worse != c.worse {
			t.Errorf("%s: worse %v, %v", c.name, worse, f)
		}
		if f, ok := a.suspect(); ok != c.worse {
			t.Errorf("%s: suspect %v, %v", c.name, ok, f)
		}
	}
}

// Two runs of treated slots, one three times and one fifty times as bad: too uneven for an interval, and
// plain. One alone is a burst.
func TestUnevenHarmIsHarm(t *testing.T) {
	t.Parallel()
	var rs []reading
	add := func(treated bool, p95 float64) {
		v := sample(p95, 100, 0)
		rs = append(rs, reading{treated: treated, block: block{id: 1 + len(rs)/4, size: 4, last: len(rs)%4 == 3}, sample: &v})
	}
	alarm := func() bool {
		_, plain := assess(metricsOf(tune.Measure{}, 0), 0.1, rs, 0).alarm(alarmRuns)
		return plain
	}
	add(true, 500)
	for _, p95 := range []float64{10, 11, 9} {
		add(false, p95)
	}
	if alarm() {
		t.Error("one slot was enough")
	}
	add(true, 30)
	add(false, 10)
	if !alarm() {
		t.Error("not called worse")
	}
	// The same beside untreated slots that were as bad is a load that rose.
	for i := range rs {
		v := sample(500, 100, 0)
		rs[i].sample = &v
	}
	if alarm() {
		t.Error("a burst over everything is the change's fault")
	}
}

// A meter's latency is judged as what it is: a mean under its own name, and not at all where there is none.
func TestMetricsOfAMeterWithoutPercentiles(t *testing.T) {
	t.Parallel()
	names := func(m tune.Measure) (out []string) {
		for _, one := range metricsOf(m, 0) {
			out = append(out, one.name)
		}
		return out
	}
	for latency, want := range map[string][]string{
		"":               {metricP95, metricThroughput, metricErrors},
		tune.LatencyMean: {metricMean, metricThroughput, metricErrors},
		tune.LatencyNone: {metricThroughput, metricErrors},
	} {
		if got := names(tune.Measure{Latency: latency}); !slices.Equal(got, want) {
			t.Errorf("latency %q: %v, want %v", latency, got, want)
		}
	}
	if f := metricsOf(tune.Measure{Latency: tune.LatencyMean}, 1000)[0]; f.name != metricMean || !f.isLatency() {
		t.Errorf("a mean with losses is judged as %s", f.name)
	}
}

package rollout

import (
	"math"

	"semantos/internal/tune"
)

// Drawn is one slot of a block whose order was drawn, for others than [Step] to be judged: the ablation of
// a kept bundle asks what leaving one change out does.
type Drawn struct {
	Block   int // the same for the slots of one block, which stand together
	Size    int // slots of the block
	Treated bool
	Sample  *tune.MeterSample // nil: it gave no data
}

// Marginal is what drawn slots say of a treatment by the rules of a rollout. Worse and Better: the interval
// excludes 1. NotWorse: by the margin, in every metric. Leaning: one looks better by the margin. Alarm: plainly worse in the newest two. Limit: what
// the newest treated slots broke, "" for nothing; Plain: and by far more than the untreated came near it.
type Marginal struct {
	Effect                         *tune.Effect // nil: too few slots
	Worse, Better, NotWorse, Alarm bool
	Leaning                        bool
	Limit                          string
	Plain                          bool
}

// Marginal judges slots in the order of time. The evidence of a block counts from its end.
func (p Policy) Marginal(slots []Drawn) Marginal {
	readings := make([]reading, len(slots))
	var treated, untreated []tune.MeterSample
	for i, s := range slots {
		readings[i] = reading{treated: s.Treated, sample: s.Sample, block: block{id: s.Block, size: s.Size}}
		switch {
		case s.Sample == nil:
		case s.Treated:
			treated = append(treated, *s.Sample)
		default:
			untreated = append(untreated, *s.Sample)
		}
	}
	a := assess(metricsOf(p.Measure, p.LossMS), p.Margin, readings, 0)
	out := Marginal{Effect: a.effect(), NotWorse: a.notWorse()}
	_, better := a.better()
	_, gaps := a.gaps()
	out.Better = better && !gaps
	for _, f := range a.findings {
		out.Leaning = out.Leaning || f.seq.Estimate() < -a.margin
		out.Worse = out.Worse || a.counts(f) && f.worse(0)
	}
	if n := len(slots); n > 0 && !slots[n-1].Treated {
		_, out.Alarm = a.alarm(alarmRuns)
	}
	if p.Measure.Signal == "" {
		if said, broke := p.Limits.broken(treated, untreated, a); broke {
			out.Limit, out.Plain = said, p.Limits.plainly(treated, untreated)
		}
	}
	return out
}

// plainly reports that what breaks a limit is as far from untreated as an alarm asks.
func (l Limits) plainly(treated, untreated []tune.MeterSample) bool {
	for _, m := range metricsOf(tune.Measure{}, 0) {
		limit := map[string]float64{metricP95: l.MaxP95MS, metricErrors: l.MaxErrorRate}[m.name]
		t, u := valuesOf(m, tail(treated, recentTreated)), valuesOf(m, untreated)
		if limit <= 0 || len(t) == 0 || len(u) == 0 || median(t) <= limit {
			continue
		}
		if median(t) >= math.Exp(alarmLeast)*max(median(u), m.floor(0)) {
			return true
		}
	}
	return false
}

// PolicyOf is how an experiment beside a rollout is judged by a meter.
func PolicyOf(m Meter, margin float64, limits Limits) Policy {
	p := Policy{Measured: true, LossMS: lossOf(m), Margin: margin, Limits: limits}
	if one, ok := m.(Sensor); ok {
		p.Measure = one.Measure()
	}
	return p
}

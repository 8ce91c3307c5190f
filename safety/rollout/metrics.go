package rollout

import (
	"fmt"
	"math"
	"slices"

	"semantos/internal/tune"
	"semantos/safety/effect"
)

// A metric is one number of a meter's sample and what of it is better.
type metric struct {
	name   string
	higher bool
	floor  func(untreated []float64) float64
	read   func(tune.MeterSample) (float64, bool)
}

const (
	metricP95        = "p95_ms"
	metricCost       = "cost_ms"
	metricThroughput = "throughput"
	metricErrors     = "error_rate"

	betterLower, betterHigher = "lower", "higher"

	p95Floor = 0.01 // ms; below it a latency is noise of the clock
	// errorFloor is the share of failed requests that counts as none: one lost request in a slot of a
	// few hundred is chance.
	errorFloor = 0.005
)

// metricsOf says what is compared. A meter outside the kernel is judged by three numbers together,
// because losing clients can make the latency of the rest look fine; a meter of one value by that.
// Where the kernel counts what clients lost, lossMS a piece, the cost replaces the p95 of survivors.
func metricsOf(m tune.Measure, lossMS float64) []metric {
	if m.Signal != "" {
		floor := m.Floor
		return []metric{{
			name: m.Signal, higher: m.Better == betterHigher,
			floor: func(u []float64) float64 { return max(floor, largest(u)*1e-6, 1e-9) },
			read: func(s tune.MeterSample) (float64, bool) {
				if s.Value == nil || math.IsNaN(*s.Value) || math.IsInf(*s.Value, 0) {
					return 0, false
				}
				return *s.Value, true
			},
		}}
	}
	fixed := func(f float64) func([]float64) float64 { return func([]float64) float64 { return f } }
	latency := metric{name: metricP95, floor: fixed(p95Floor), read: func(s tune.MeterSample) (float64, bool) {
		// Nothing completed: there is no latency, and throughput and errors say what happened.
		return s.P95MS, finite(s.P95MS) && (s.P95MS > 0 || s.Throughput > 0)
	}}
	if lossMS > 0 {
		latency = withLoss(latency, lossMS)
	}
	return []metric{
		latency,
		{name: metricThroughput, higher: true,
			// A hundredth of what untreated gives stands for "nothing gets through": units are the meter's own.
			floor: func(u []float64) float64 { return max(largest(u)/100, 1e-9) },
			read:  func(s tune.MeterSample) (float64, bool) { return s.Throughput, finite(s.Throughput) }},
		{name: metricErrors, floor: fixed(errorFloor),
			read: func(s tune.MeterSample) (float64, bool) { return s.ErrorRate, finite(s.ErrorRate) }},
	}
}

// withLoss adds to the p95 of what finished what the lost cost their clients. An attempt that was
// dropped before the meter's clock started is in nobody's latency, and letting it in lengthens the
// queue of the others: by the survivors' p95 alone the cure of a short accept queue looks like harm.
func withLoss(p95 metric, lossMS float64) metric {
	return metric{name: metricCost, floor: p95.floor, read: func(s tune.MeterSample) (float64, bool) {
		v, ok := p95.read(s)
		if !ok || s.Lost == nil || !finite(*s.Lost) {
			return 0, false
		}
		return v + lossMS**s.Lost, true
	}}
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) && x >= 0 }

func largest(x []float64) float64 {
	return slices.Max(append([]float64{0}, x...))
}

// finding is one metric's comparison, turned so that positive is worse.
type finding struct {
	metric metric
	cmp    effect.Comparison
}

func (f finding) worseBy() float64 {
	if f.metric.higher {
		return -f.cmp.Log
	}
	return f.cmp.Log
}

// bounds gives the interval of the log ratio turned so that positive is worse.
func (f finding) bounds(confidence float64) (low, high float64) {
	low, high = f.cmp.Bounds(confidence)
	if f.metric.higher {
		return -high, -low
	}
	return low, high
}

func (f finding) effect() *tune.Effect {
	low, high := f.cmp.Bounds(reportLevel)
	e := &tune.Effect{Metric: f.metric.name, Better: betterLower,
		Ratio: bounded(f.cmp.Log), Low: bounded(low), High: bounded(high)}
	if f.metric.higher {
		e.Better = betterHigher
	}
	return e
}

// bounded keeps what two readings cannot bound printable as JSON.
func bounded(log float64) float64 { return math.Exp(max(-27, min(27, log))) }

const (
	reportLevel = 0.95  // the interval people read, and a stage's verdict at its end
	actLevel    = 0.99  // what is asked after every slot, and of what is kept
	recentLevel = 0.999 // for the newest slots alone, asked again and again
	leanLevel   = 0.80  // enough to wait for more slots, never enough to act
)

// assessment is what all metrics together say of treated against untreated.
type assessment struct {
	findings []finding
	margin   float64 // logarithm of 1+MARGIN
}

// assess compares every metric that has readings on both sides.
func assess(cmp effect.Comparer, metrics []metric, margin float64, treated, untreated []tune.MeterSample) assessment {
	a := assessment{margin: math.Log1p(margin)}
	for _, m := range metrics {
		t, u := readings(m, treated), readings(m, untreated)
		floor := m.floor(u)
		lift(t, floor)
		lift(u, floor)
		if c, ok := cmp.Compare(t, u); ok {
			a.findings = append(a.findings, finding{metric: m, cmp: c})
		}
	}
	if cured := a.named(metricErrors); cured != nil && lossy(untreated) {
		if _, high := cured.bounds(actLevel); high < 0 {
			a.findings = slices.DeleteFunc(a.findings, func(f finding) bool {
				return (f.metric.name == metricP95 || f.metric.name == metricCost) && f.worseBy() > 0
			})
		}
	}
	return a
}

// survivors is the share of failed requests from which the p95 of the others says nothing: one request
// in twenty never ended, so the true p95 is one of those. Where treatment saves them, the p95 of the
// few that got through before is no reason against it.
const survivors = 0.05

func lossy(samples []tune.MeterSample) bool {
	lost := readings(metric{read: func(s tune.MeterSample) (float64, bool) { return s.ErrorRate, finite(s.ErrorRate) }}, samples)
	return len(lost) > 0 && median(lost) > survivors
}

func (a assessment) named(name string) *finding {
	for i := range a.findings {
		if a.findings[i].metric.name == name {
			return &a.findings[i]
		}
	}
	return nil
}

func readings(m metric, samples []tune.MeterSample) []float64 {
	var out []float64
	for _, s := range samples {
		if v, ok := m.read(s); ok {
			out = append(out, v)
		}
	}
	return out
}

func lift(x []float64, floor float64) {
	for i := range x {
		x[i] = max(x[i], floor)
	}
}

// known reports whether anything could be compared.
func (a assessment) known() bool { return len(a.findings) > 0 }

// worse finds a metric that is worse by more than the margin at a confidence; two treated and two
// untreated slots are the least that undoes, and a twofold gap between them always does.
func (a assessment) worse(confidence float64) (finding, bool) {
	for _, f := range a.findings {
		if f.cmp.Treated < 2 || f.cmp.Untreated < 2 {
			continue
		}
		low, _ := f.bounds(confidence)
		apart := f.cmp.Gap
		if f.metric.higher {
			apart = -apart
		}
		if low > a.margin || apart >= math.Log(2) {
			return f, true
		}
	}
	return finding{}, false
}

// suspect finds a metric that looks worse than the margin and leans that way, though not surely.
func (a assessment) suspect() (finding, bool) {
	for _, f := range a.findings {
		low, _ := f.bounds(leanLevel)
		if f.worseBy() > a.margin && low > 0 {
			return f, true
		}
	}
	return finding{}, false
}

// better finds the metric that proves an improvement: its interval excludes 1 at the level asked of
// what is kept, from enough slots. p95 is preferred, then the strongest.
func (a assessment) better() (finding, bool) {
	var best finding
	found := false
	for _, f := range a.findings {
		_, high := f.bounds(actLevel)
		if high >= 0 || !f.cmp.Enough() {
			continue
		}
		if f.metric.name == metricP95 || f.metric.name == metricCost {
			return f, true
		}
		if !found || f.worseBy()/f.cmp.SE < best.worseBy()/best.cmp.SE {
			best, found = f, true
		}
	}
	return best, found
}

// promising reports that more slots may yet show an improvement.
func (a assessment) promising() bool {
	for _, f := range a.findings {
		if _, high := f.bounds(leanLevel); high < 0 {
			return true
		}
	}
	return false
}

// enough reports whether every metric has the slots a commit asks for.
func (a assessment) enough() bool {
	for _, f := range a.findings {
		if !f.cmp.Enough() {
			return false
		}
	}
	return a.known()
}

// primary is the finding to report: what proves better, else what is surely worse, else the first.
func (a assessment) primary() (finding, bool) {
	if f, ok := a.better(); ok {
		return f, true
	}
	if f, ok := a.worse(actLevel); ok {
		return f, true
	}
	if f, ok := a.suspect(); ok {
		return f, true
	}
	if !a.known() {
		return finding{}, false
	}
	return a.findings[0], true
}

func (a assessment) effect() *tune.Effect {
	f, ok := a.primary()
	if !ok {
		return nil
	}
	return f.effect()
}

// String says a finding as a person would.
func (f finding) String() string {
	e := f.effect()
	return fmt.Sprintf("%s x%.3g (%.3g to %.3g), %d treated against %d untreated slots",
		e.Metric, e.Ratio, e.Low, e.High, f.cmp.Treated, f.cmp.Untreated)
}

package rollout

import (
	"math"

	"semantos/internal/tune"
)

// A metric is one number of a meter's sample and what of it is better.
type metric struct {
	name   string
	higher bool
	counts bool                          // of single events: near its floor it doubles by chance
	floor  func(largest float64) float64 // from the largest reading so far
	read   func(tune.MeterSample) (float64, bool)
}

const (
	metricP95        = "p95_ms"
	metricMean       = "mean_ms"
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
// Where the kernel counts what clients lost, lossMS a piece, the cost replaces the p95 of survivors. A meter
// without percentiles is judged by its mean, one without latency by the rest.
func metricsOf(m tune.Measure, lossMS float64) []metric {
	if m.Signal != "" {
		floor := m.Floor
		return []metric{{
			name: m.Signal, higher: m.Better == betterHigher, counts: m.Floor > 0,
			floor: func(largest float64) float64 { return max(floor, largest*1e-6, 1e-9) },
			read: func(s tune.MeterSample) (float64, bool) {
				if s.Value == nil || math.IsNaN(*s.Value) || math.IsInf(*s.Value, 0) {
					return 0, false
				}
				return *s.Value, true
			},
		}}
	}
	fixed := func(f float64) func(float64) float64 { return func(float64) float64 { return f } }
	latency := metric{name: metricP95, floor: fixed(p95Floor), read: func(s tune.MeterSample) (float64, bool) {
		// Nothing completed: there is no latency, and throughput and errors say what happened.
		return s.P95MS, finite(s.P95MS) && (s.P95MS > 0 || s.Throughput > 0)
	}}
	switch {
	case m.Latency == tune.LatencyNone:
	case m.Latency == tune.LatencyMean:
		latency.name = metricMean
	case lossMS > 0:
		latency = withLoss(latency, lossMS)
	}
	out := []metric{
		latency,
		{name: metricThroughput, higher: true,
			// A hundredth of what was seen stands for "nothing gets through": units are the meter's own.
			floor: func(largest float64) float64 { return max(largest/100, 1e-9) },
			read:  func(s tune.MeterSample) (float64, bool) { return s.Throughput, finite(s.Throughput) }},
		{name: metricErrors, counts: true, floor: fixed(errorFloor),
			read: func(s tune.MeterSample) (float64, bool) { return s.ErrorRate, finite(s.ErrorRate) }},
	}
	if m.Latency == tune.LatencyNone {
		return out[1:]
	}
	return out
}

// isLatency reports whether a metric says how long the workload waits.
func (m metric) isLatency() bool {
	return m.name == metricP95 || m.name == metricMean || m.name == metricCost
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

func valuesOf(m metric, samples []tune.MeterSample) []float64 {
	var out []float64
	for _, s := range samples {
		if v, ok := m.read(s); ok {
			out = append(out, v)
		}
	}
	return out
}

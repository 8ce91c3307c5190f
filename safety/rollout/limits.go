package rollout

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"

	"semantos/internal/tune"
)

// Limits are what the workload must keep whatever the comparison says; 0 is no limit.
type Limits struct {
	MaxP95MS     float64 // SLO_MAX_P95
	MaxErrorRate float64 // share of requests, (0..1]
}

// recentTreated is how many of the newest treated slots a limit looks at, so that a break late in a
// long stage is seen as fast as an early one.
const recentTreated = 3

// byChance is how seldom as many requests of one slot may fail by chance at a rate that keeps the limit.
const byChance = 0.01

// broken reports a limit that treatment breaks: most of the newest treated slots lie above it, two at least,
// for one burst moves one slot, and the median of the untreated does not, or does too and treated is surely
// worse. Of failed requests one slot is enough where they are too many for chance and no untreated slot had as
// many: a server that stops answering is no burst.
func (l Limits) broken(treated, untreated []tune.MeterSample, a assessment) (string, bool) {
	for _, c := range []struct {
		max    float64
		metric string
		unit   string
	}{{l.MaxP95MS, metricP95, " ms"}, {l.MaxErrorRate, metricErrors, ""}} {
		if c.max <= 0 {
			continue
		}
		m, ok := metricNamed(c.metric)
		if !ok {
			continue
		}
		t, u := valuesOf(m, tail(treated, recentTreated)), valuesOf(m, untreated)
		if c.metric == metricP95 && lossy(untreated) {
			u = []float64{math.Inf(1)} // what got through kept the limit, what was lost did not
		}
		if c.metric == metricErrors && len(treated) > 0 && outage(treated[len(treated)-1], c.max) && len(u) > 0 && slices.Max(u) <= c.max {
			return fmt.Sprintf("%s %.4g while treated, limit %.4g, untreated %.4g at most", c.metric, t[len(t)-1], c.max, slices.Max(u)), true
		}
		if len(t) < 2 || len(u) < 1 || lowerMedian(t) <= c.max {
			continue
		}
		said := fmt.Sprintf("%s %.4g%s while treated, limit %.4g%s, untreated %.4g%s",
			c.metric, lowerMedian(t), c.unit, c.max, c.unit, median(u), c.unit)
		if median(u) <= c.max {
			return said, true
		}
		if f, worse := a.worse(); worse && f.metric.name == c.metric {
			return said + ", which broke it too, but less", true
		}
	}
	return "", false
}

// outage reports that the requests of one slot alone show that more fail than a limit allows: the lower bound of
// the exact binomial interval lies above it. A single failed request never shows it. Where the meter does not
// count its requests the rate is all there is, and is believed.
func outage(s tune.MeterSample, limit float64) bool {
	switch {
	case !finite(s.ErrorRate) || s.ErrorRate <= limit:
		return false
	case s.Requests <= 0:
		return true
	}
	n := float64(s.Requests)
	failed := math.Round(s.ErrorRate * n)
	return failed > 1 && distuv.Binomial{N: n, P: limit}.Survival(failed-1) < byChance
}

func metricNamed(name string) (metric, bool) {
	for _, m := range metricsOf(tune.Measure{}, 0) {
		if m.name == name {
			return m, true
		}
	}
	return metric{}, false
}

func tail[T any](x []T, n int) []T { return x[max(0, len(x)-n):] }

func median(x []float64) float64 {
	s := slices.Clone(x)
	slices.Sort(s)
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// lowerMedian is the median, and of an even number the lower of the two in the middle: their mean would let one
// reading speak for two.
func lowerMedian(x []float64) float64 {
	s := slices.Clone(x)
	slices.Sort(s)
	return s[(len(s)-1)/2]
}

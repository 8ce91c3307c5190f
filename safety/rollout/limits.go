package rollout

import (
	"fmt"
	"math"
	"slices"

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

// broken reports a limit that treatment breaks: the median of the newest treated slots exceeds it and
// that of the untreated does not, or both do and treated is surely worse. Two treated slots at least for
// the p95, which one burst can move. Of failed requests one slot is enough where no untreated slot had as
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
		if n := len(t); n > 0 && c.metric == metricErrors && t[n-1] > c.max && len(u) > 0 && slices.Max(u) <= c.max {
			return fmt.Sprintf("%s %.4g while treated, limit %.4g, untreated %.4g at most", c.metric, t[n-1], c.max, slices.Max(u)), true
		}
		if len(t) < 2 || len(u) < 1 || median(t) <= c.max {
			continue
		}
		said := fmt.Sprintf("%s %.4g%s while treated, limit %.4g%s, untreated %.4g%s",
			c.metric, median(t), c.unit, c.max, c.unit, median(u), c.unit)
		if median(u) <= c.max {
			return said, true
		}
		if f, worse := a.worse(); worse && f.metric.name == c.metric {
			return said + ", which broke it too, but less", true
		}
	}
	return "", false
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

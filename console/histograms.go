package console

import (
	"cmp"
	"math"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// maxHistograms bounds the histograms on the page; the host's come first, then the most used.
const maxHistograms = 200

// bounds of the buckets in seconds: 1, 2.5 and 5 in each power of ten from a microsecond to ten seconds.
func bounds() []float64 {
	return []float64{1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3,
		1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}
}

// collectProbes shows how the probes fare and what they counted since they were loaded; it gives how many
// histograms were left out.
func (p *page) collectProbes(ch chan<- prometheus.Metric, gauge gaugeFunc) (dropped int) {
	stats, hists := p.probes()
	for _, s := range stats {
		gauge(p.probeUp, truth(s.Up), s.Name)
		if !s.Up {
			continue
		}
		gauge(p.probeDuty, s.Duty, s.Name)
		if s.Measured {
			gauge(p.probeCPU, s.CPUShare, s.Name)
		}
		ch <- prometheus.MustNewConstMetric(p.probeLost, prometheus.CounterValue, float64(s.Lost), s.Name)
	}
	slices.SortStableFunc(hists, func(a, b Histogram) int {
		if (a.Kind == hostKind) != (b.Kind == hostKind) {
			return map[bool]int{true: -1, false: 1}[a.Kind == hostKind]
		}
		return cmp.Or(-cmp.Compare(a.Count, b.Count), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Entity, b.Entity))
	})
	seen := map[[3]string]bool{}
	for _, h := range hists {
		key := [3]string{h.Name, h.Kind, clean(h.Entity)}
		if seen[key] || len(seen) >= maxHistograms {
			dropped++
			continue
		}
		seen[key] = true
		ch <- h.metric()
	}
	return dropped
}

const hostKind = "host"

// metric is the classic Prometheus histogram. A bucket's share is placed in proportion, so it may round
// below its neighbour by one: cumulative counts never fall.
func (h Histogram) metric() prometheus.Metric {
	desc := prometheus.NewDesc("semantos_"+h.Name+"_seconds", h.Help, []string{"kind", "entity"}, nil)
	buckets := make(map[float64]uint64, len(bounds()))
	last := uint64(0)
	for _, b := range bounds() {
		last = min(h.Count, max(last, uint64(math.Round(h.Below(b)))))
		buckets[b] = last
	}
	return prometheus.MustNewConstHistogram(desc, h.Count, h.Sum, buckets, h.Kind, clean(h.Entity))
}

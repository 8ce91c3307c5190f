package telemetry

import (
	"testing"
	"time"

	"semantos/internal/tune"
)

// CollectorSignals gives each collector's own table.
func CollectorSignals() map[string][]tune.Signal {
	out := make(map[string][]tune.Signal)
	for _, c := range all(nil) {
		out[c.Name()] = c.Signals()
	}
	return out
}

// RealSampler is a sampler of this host that reads a set of probes.
func RealSampler(tb testing.TB, p Probes) *Sampler {
	s := realSampler(tb, time.Minute)
	s.collectors = append(s.collectors, newProbes(p))
	s.stats = append(s.stats, Stat{Collector: "probes"})
	s.sizes = append(s.sizes, frameSize{})
	return s
}

// Histograms counts those that the window keeps.
func (s *Sampler) Histograms() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, f := range s.frames {
		for _, e := range f.order {
			for _, r := range e.readings {
				if r.hist != nil {
					n++
				}
			}
		}
	}
	return n
}

package telemetry

import (
	"context"
	"fmt"
	"strings"
	"time"

	"semantos/ebpf"
	"semantos/ebpf/probe"
	"semantos/internal/tune"
)

// Probes is the set of eBPF probes as telemetry reads it: [ebpf.Set].
type Probes interface {
	Read(out ebpf.Sink) []tune.Missing
}

// probesCollector takes what the set of probes counted. It keeps which series the tick before saw, so
// that one that is new since is known to have begun at zero.
type probesCollector struct {
	set   Probes
	frame *frame
	seen  map[seriesKey]*seen
	loads map[string]uint64
	tick  uint64
	whole bool // the tick before read this probe, loaded as it is now
	age   time.Duration
}

type seriesKey struct {
	subject
	name string
}

// seen is what the newest tick read of a series.
type seen struct {
	tick uint64
	hist *probe.Hist
}

func newProbes(set Probes) *probesCollector {
	return &probesCollector{set: set, seen: map[seriesKey]*seen{}, loads: map[string]uint64{}}
}

func (c *probesCollector) Name() string { return "probes" }

func (c *probesCollector) Signals() []tune.Signal {
	var out []tune.Signal
	for _, p := range ebpf.All() {
		out = append(out, p.Signals...)
	}
	return out
}

// Collect reads the set. What a probe cannot deliver is named by itself; the collector has no data only
// when no probe has.
func (c *probesCollector) Collect(_ context.Context, f *frame) error {
	c.tick++
	c.frame = f
	before := c.loads
	c.loads = make(map[string]uint64, len(before))
	missing := c.set.Read(&probeSink{c, before})
	c.frame = nil
	f.missing = append(f.missing, missing...)
	for key, s := range c.seen {
		if s.tick != c.tick {
			delete(c.seen, key)
		}
	}
	if len(c.loads) == 0 && len(missing) > 0 {
		f.missing = f.missing[:len(f.missing)-len(missing)]
		return fmt.Errorf("none of %d probes counts, the first because: %s: %w", len(missing), missing[0].Reason, tune.ErrNoData)
	}
	return nil
}

// probeSink implements ebpf.Sink for one tick.
type probeSink struct {
	*probesCollector
	before map[string]uint64 // the loads the tick before read
}

// Begin notes whether what is new of this probe began at zero after the tick before.
func (s *probeSink) Begin(o ebpf.Origin) {
	was, known := s.before[o.Probe]
	s.whole, s.age = known && was == o.Load, o.Age
	s.loads[o.Probe] = o.Load
}

// at finds the series' memory and says whether it is new since the tick before.
func (s *probeSink) at(of probe.Subject, name string) (*seen, bool) {
	key := seriesKey{subject{of.Kind, of.ID}, name}
	x := s.seen[key]
	born := x == nil && s.whole
	if x == nil {
		x = &seen{}
		s.seen[key] = x
	}
	x.tick = s.tick
	return x, born
}

func (s *probeSink) put(of probe.Subject, r reading) {
	if r.nature != natureGauge {
		r.age = s.age
	}
	e := s.frame.entity(of.Kind, of.ID, 0, of.Labels)
	e.readings = append(e.readings, r)
}

func (s *probeSink) Hist(of probe.Subject, name string, h probe.Hist) {
	x, born := s.at(of, name)
	if x.hist == nil || x.hist.Sum != h.Sum || len(x.hist.Bins) != len(h.Bins) || x.hist.Count() != h.Count() {
		x.hist = &h // what stands still is kept once
	}
	s.put(of, reading{name: name, nature: natureHist, hist: x.hist, born: born})
}

func (s *probeSink) Counter(of probe.Subject, name string, v float64) {
	_, born := s.at(of, name)
	s.put(of, reading{name: name, value: v, nature: natureCounter, born: born, anew: true})
}

func (s *probeSink) Seconds(of probe.Subject, name string, v float64) {
	_, born := s.at(of, name)
	s.put(of, reading{name: name, value: v, nature: natureDuty, born: born, anew: true})
}

func (s *probeSink) Gauge(of probe.Subject, name string, v float64) {
	s.put(of, reading{name: name, value: v, nature: natureGauge})
}

// span is a histogram over the window: what was counted between its first and last reading.
type span struct {
	base, last *probe.Hist
	before     probe.Hist // counted before the kernel's histogram was made anew
	since, at  time.Time
}

// addHist takes one cumulative reading.
func (s *series) addHist(r reading, at, before time.Time) {
	if s.hist == nil {
		s.hist = &span{}
	}
	x := s.hist
	if r.hist == nil {
		return // thinned out
	}
	at = at.Add(-r.age)
	s.n++
	switch {
	case x.last == nil && r.born && !before.IsZero():
		x.base, x.since = &probe.Hist{}, before
	case x.last == nil:
		x.base, x.since = r.hist, at
	case r.hist.Sum < x.last.Sum:
		x.before = x.before.Add(x.last.Since(*x.base))
		x.base = &probe.Hist{}
	}
	x.last, x.at = r.hist, at
}

// finish delivers quantiles and the rate; without anything counted there is a rate of zero, and nothing
// else. A single reading says nothing.
func (x *span) finish(name string, out map[string]float64, names suffixes) {
	seconds := x.at.Sub(x.since).Seconds()
	if x.last == nil || seconds <= 0 {
		return
	}
	h := x.last.Since(*x.base)
	if len(x.before.Bins) > 0 {
		h = h.Add(x.before)
	}
	n := names.hist(name)
	count := h.Count()
	out[n[4]] = float64(count) / seconds
	if count == 0 {
		return
	}
	unit := shownUnit(name)
	for i, q := range []float64{0.50, 0.95, 0.99} {
		out[n[i]] = h.Quantile(q) / unit
	}
	out[n[3]] = h.Mean() / unit
}

// histSuffixes are what a histogram is delivered under, quantiles first.
func histSuffixes() []string { return []string{".p50", ".p95", ".p99", ".mean", ".rate"} }

func (x suffixes) hist(name string) [5]string {
	s, ok := x[name]
	if !ok {
		for i, suffix := range histSuffixes() {
			s[i] = name + suffix
		}
		x[name] = s
	}
	return s
}

// shownUnit is how many nanoseconds make one of the unit a name ends in; names without one are not time.
func shownUnit(name string) float64 {
	switch {
	case strings.HasSuffix(name, "_us"):
		return 1e3
	case strings.HasSuffix(name, "_ms"):
		return 1e6
	}
	return 1
}

// histFrames is how many frames of a window keep their histograms: a histogram is large, and the window
// may hold thousands of frames.
const histFrames = 60

// thin takes the histograms out of the frame before the newest, unless enough time has passed since the
// last that keeps them. The caller holds the lock.
func (s *Sampler) thin() {
	if len(s.frames) < 2 {
		s.histAt = s.frames[0].at
		return
	}
	f := s.frames[len(s.frames)-2]
	if len(s.frames) == 2 || f.at.Sub(s.histAt) >= s.window/histFrames {
		s.histAt = f.at
		return
	}
	for _, e := range f.order {
		for i := range e.readings {
			e.readings[i].hist = nil
		}
	}
}

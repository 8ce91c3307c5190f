package telemetry_test

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"semantos/ebpf"
	"semantos/ebpf/probe"
	"semantos/internal/tune"
	"semantos/telemetry"
	"semantos/telemetry/telemetrytest"
)

// fakeProbes hands over what a test puts there.
type fakeProbes struct {
	load    uint64
	age     time.Duration
	hists   map[string]*recorder // by subject, "" is the host
	counts  map[string]float64
	missing []tune.Missing
}

func (f *fakeProbes) Read(out ebpf.Sink) []tune.Missing {
	if f.hists == nil && f.counts == nil {
		return f.missing
	}
	out.Begin(ebpf.Origin{Probe: "fake", Load: f.load, Age: f.age})
	for id, r := range f.hists {
		out.Hist(subjectOf(id), "fake.latency_us", r.hist())
	}
	for id, n := range f.counts {
		out.Counter(subjectOf(id), "fake.errors", n)
		out.Seconds(subjectOf(id), "fake.busy_share", n/10)
		out.Gauge(subjectOf(id), "fake.depth", n)
	}
	return f.missing
}

func subjectOf(id string) probe.Subject {
	if id == "" {
		return probe.Subject{}
	}
	return probe.Subject{Kind: tune.EntityServer, ID: id, Labels: map[string]string{"comm": id}}
}

// recorder counts values as a probe's map does.
type recorder struct {
	counts map[int]uint64
	sum    uint64
	values []float64
}

func (r *recorder) add(ns uint64) {
	if r.counts == nil {
		r.counts = map[int]uint64{}
	}
	r.counts[probe.Bucket(ns)]++
	r.sum += ns
	r.values = append(r.values, float64(ns))
}

func (r *recorder) hist() probe.Hist {
	h := probe.Hist{Sum: r.sum}
	for b := range probe.Buckets {
		if n := r.counts[b]; n > 0 {
			h.Bins = append(h.Bins, probe.Bin{Bucket: uint16(b), Count: n})
		}
	}
	return h
}

// ticker is a sampler over an empty tree with a clock of its own.
type ticker struct {
	*telemetry.Sampler
	clock time.Time
}

func newTicker(t *testing.T, p telemetry.Probes, window time.Duration) *ticker {
	t.Helper()
	h := &ticker{clock: time.Unix(1_700_000_000, 0)}
	s, err := telemetry.New(telemetry.Config{Host: telemetrytest.NewTree(t), Window: window, Now: func() time.Time { return h.clock },
		Sockets: &telemetrytest.Sockets{}, Probes: p})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	h.Sampler = s
	return h
}

func (h *ticker) tick(t *testing.T, after time.Duration) {
	t.Helper()
	h.clock = h.clock.Add(after)
	if err := h.Tick(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func (h *ticker) server(id string) map[string]float64 {
	for _, e := range h.Snapshot().Entities[tune.EntityServer] {
		if e.ID == id {
			return e.Signals
		}
	}
	return nil
}

// TestHistogramsSlide: quantiles are those of the values of the window, whatever came before.
func TestHistogramsSlide(t *testing.T) {
	t.Parallel()
	r := &recorder{}
	h := newTicker(t, &fakeProbes{hists: map[string]*recorder{"": r}}, 10*time.Second)
	rng := rand.New(rand.NewPCG(1, 2))
	var recent []float64
	for tick := range 40 {
		if tick == 20 { // ten times slower from here
			recent = nil
		}
		if tick > 0 {
			scale := map[bool]float64{false: 100e3, true: 1000e3}[tick >= 20]
			for range 200 {
				v := scale * math.Exp(rng.NormFloat64()/2)
				r.add(uint64(v))
				recent = append(recent, v)
			}
		}
		h.tick(t, time.Second)
		s := h.Snapshot().Signals
		if tick == 0 {
			if _, ok := s["fake.latency_us.p50"]; ok {
				t.Error("one reading has no quantile")
			}
			continue
		}
		if tick >= 20 && tick < 30 {
			continue // the window holds both
		}
		last := slices.Clone(recent[max(0, len(recent)-2000):])
		slices.Sort(last)
		for name, q := range map[string]float64{".p50": 0.5, ".p95": 0.95, ".p99": 0.99} {
			want := last[int(q*float64(len(last)))] / 1e3
			if got := s["fake.latency_us"+name]; math.Abs(got/want-1) > 0.08 {
				t.Errorf("tick %d %s: %v, want %v", tick, name, got, want)
			}
		}
		if got := s["fake.latency_us.rate"]; got != 200 {
			t.Errorf("tick %d: rate %v, want 200", tick, got)
		}
	}
	h.tick(t, 11*time.Second)
	h.tick(t, 5*time.Second)
	s := h.Snapshot().Signals
	if _, ok := s["fake.latency_us.p50"]; ok || s["fake.latency_us.rate"] != 0 {
		t.Errorf("nothing counted: there is a rate of zero and no quantile, got %v", s)
	}
	if _, ok := s["fake.latency_us.rate"]; !ok {
		t.Error("no rate, though nothing was counted: zero is a reading")
	}
	h.Reset()
	h.tick(t, time.Second)
	if _, ok := h.Snapshot().Signals["fake.latency_us.rate"]; ok {
		t.Error("what was before a reset is still counted")
	}
}

// TestNewSeriesBeganAtZero: a server that had no request at the tick before is counted from its first.
func TestNewSeriesBeganAtZero(t *testing.T) {
	t.Parallel()
	f := &fakeProbes{hists: map[string]*recorder{"": {}}, counts: map[string]float64{}}
	h := newTicker(t, f, 10*time.Second)
	h.tick(t, 0)
	f.hists["a"], f.counts["a"] = &recorder{}, 6
	for range 8 {
		f.hists["a"].add(5000)
	}
	h.tick(t, 2*time.Second)
	a := h.server("a")
	if a["fake.latency_us.rate"] != 4 || a["fake.errors.total"] != 6 || a["fake.errors"] != 3 || a["fake.busy_share"] != 0.3 || a["fake.depth"] != 6 {
		t.Errorf("first reading: %v", a)
	}
	f.counts["a"] = 8
	h.tick(t, 2*time.Second)
	if a = h.server("a"); a["fake.latency_us.rate"] != 2 || a["fake.errors.total"] != 8 || a["fake.errors"] != 2 {
		t.Errorf("second reading: %v", a)
	}
	// made anew with less than before: all of it is new, and the rate stays true
	f.hists["a"] = &recorder{}
	f.hists["a"].add(5000)
	h.tick(t, 2*time.Second)
	if got := h.server("a")["fake.latency_us.rate"]; got != 1.5 {
		t.Errorf("after a new beginning: rate %v, want 9 in 6 s", got)
	}
	// a probe loaded anew: its first reading says nothing of the time before
	f.load, f.counts["b"] = 2, 100
	h.tick(t, 2*time.Second)
	if _, ok := h.server("b")["fake.errors.total"]; ok {
		t.Error("the first reading of a new load was counted")
	}
	delete(f.hists, "a")
	delete(f.counts, "a")
	h.tick(t, time.Second)
	if h.server("a") != nil {
		t.Error("what is gone is still shown")
	}
}

// TestCountsThatEndEarlier: a probe that saw nothing in a window has no rate there, and none of its rates
// runs over time in which it did not count.
func TestCountsThatEndEarlier(t *testing.T) {
	t.Parallel()
	f := &fakeProbes{hists: map[string]*recorder{"": {}}, counts: map[string]float64{"": 0}}
	h := newTicker(t, f, 4*time.Second)
	h.tick(t, 0)
	f.counts[""] = 20
	f.hists[""].add(1000)
	f.age = time.Second
	h.tick(t, 3*time.Second)
	if s := h.Snapshot().Signals; s["fake.errors"] != 10 || s["fake.latency_us.rate"] != 0.5 {
		t.Errorf("20 errors in the 2 s that were seen: %v", s["fake.errors"])
	}
	for f.age < 10*time.Second { // nothing is seen any more
		f.age += 2 * time.Second
		h.tick(t, 2*time.Second)
	}
	s := h.Snapshot().Signals
	for _, name := range []string{"fake.errors", "fake.errors.total", "fake.latency_us.rate", "fake.latency_us.p50"} {
		if v, ok := s[name]; ok {
			t.Errorf("%s is %v in a window in which nobody looked", name, v)
		}
	}
}

// TestProbesThatDoNotCount are missing by name, and do not take the collector down alone.
func TestProbesThatDoNotCount(t *testing.T) {
	t.Parallel()
	why := []tune.Missing{{Collector: "ebpf/x", Reason: "no BTF"}, {Collector: "ebpf/y", Reason: "no BTF"}}
	stat := func(h *ticker) telemetry.Stat {
		for _, s := range h.Stats() {
			if s.Collector == "probes" {
				return s
			}
		}
		t.Fatal("no collector named probes")
		return telemetry.Stat{}
	}
	count := func(h *ticker) (n int) {
		for _, m := range h.Snapshot().Missing {
			if m.Reason == "no BTF" || m.Collector == "probes" {
				n++
			}
		}
		return n
	}
	h := newTicker(t, &fakeProbes{counts: map[string]float64{"": 1}, missing: why[:1]}, time.Minute)
	h.tick(t, 0)
	if s := stat(h); !s.Success || s.Reason != "" || count(h) != 1 {
		t.Errorf("one of two: %+v, %d missing", s, count(h))
	}
	h = newTicker(t, &fakeProbes{missing: why}, time.Minute)
	h.tick(t, 0)
	if s := stat(h); !s.Success || s.Reason == "" || count(h) != 1 {
		t.Errorf("none: %+v, %d missing", s, count(h))
	}
}

// TestHistogramsTakeConstantMemory: a window of an hour with a tick a second holds no more histograms
// than one of a minute.
func TestHistogramsTakeConstantMemory(t *testing.T) {
	t.Parallel()
	r := &recorder{}
	f := &fakeProbes{hists: map[string]*recorder{"": r}}
	h := newTicker(t, f, time.Hour)
	for range 1200 {
		for b := range 300 {
			r.add(uint64(b * b * 1000))
		}
		h.tick(t, time.Second)
	}
	if got, most := h.Histograms(), 63; got > most {
		t.Errorf("%d histograms are kept, at most %d", got, most)
	}
	s := h.Snapshot().Signals
	if s["fake.latency_us.rate"] < 295 || s["fake.latency_us.rate"] > 305 {
		t.Errorf("rate %v, want 300", s["fake.latency_us.rate"])
	}
	for range 4 { // the oldest frames leave
		h.tick(t, 20*time.Minute)
	}
	if got := h.Snapshot().Signals["fake.latency_us.rate"]; got != 0 {
		t.Errorf("an hour later the rate is %v", got)
	}
}

// TestRealProbes: two samplers share one set, each with a window of its own.
func TestRealProbes(t *testing.T) {
	set, err := ebpf.Open(t.Context(), ebpf.Config{Mode: ebpf.Auto})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := set.Close(); err != nil {
			t.Error(err)
		}
	})
	if st := set.Status(); st[0].State == ebpf.StateFailed {
		t.Skipf("probes do not load here: %s", st[0].Reason)
	}
	a, b := telemetry.RealSampler(t, set), telemetry.RealSampler(t, set)
	tick := func(s *telemetry.Sampler) {
		if err := s.Tick(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	tick(a)
	time.Sleep(300 * time.Millisecond)
	tick(b)
	time.Sleep(300 * time.Millisecond)
	tick(a)
	tick(b)
	for _, s := range []*telemetry.Sampler{a, b} {
		got := s.Snapshot().Signals
		if got["sched.runq_latency_us.rate"] <= 0 || got["sched.runq_latency_us.p95"] < got["sched.runq_latency_us.p50"] || got["sched.runq_latency_us.p95"] <= 0 {
			t.Errorf("rate %v, p50 %v, p95 %v", got["sched.runq_latency_us.rate"], got["sched.runq_latency_us.p50"], got["sched.runq_latency_us.p95"])
		}
	}
}

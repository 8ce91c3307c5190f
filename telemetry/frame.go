package telemetry

import (
	"context"
	"time"

	"semantos/ebpf/probe"
	"semantos/internal/tune"
)

// collector is one file of this package: it reads one part of the machine into a frame.
// An error that wraps tune.ErrNoData means that this machine has none of it.
type collector interface {
	Name() string
	Signals() []tune.Signal
	Collect(ctx context.Context, f *frame) error
}

// deriver is a collector whose signals partly follow from the window as a whole (shares of totals).
type deriver interface {
	Derive(v *view)
}

// nature says how readings over the window become signals.
type nature uint8

const (
	natureGauge   nature = iota // mean, .max, .last
	natureCounter               // rate per second, .total
	natureDuty                  // seconds spent: the rate is a share of time, and has no .total
	natureHidden                // a counter only derivations use
	natureHist                  // a cumulative histogram: .p50, .p95, .p99, .mean of the window, and .rate
)

type reading struct {
	name   string
	value  float64
	hist   *probe.Hist   // of a histogram; nil where an earlier and a later reading are enough
	age    time.Duration // how long before the frame's time the counting ended
	nature nature
	// born says that it was zero at the frame before: there was nothing to count in yet.
	born bool
	// anew marks what begins again at zero by itself, whatever bears its entity's name.
	anew bool
}

// subject names what a reading belongs to; the zero subject is the host.
type subject struct{ kind, id string }

// entry is what one tick read about one subject. gen tells a subject from a later one of the same id:
// intervals between different gens are dropped.
type entry struct {
	subject
	gen      uint64
	labels   map[string]string
	readings []reading
}

func (e *entry) add(name string, v float64, n nature) {
	e.readings = append(e.readings, reading{name: name, value: v, nature: n})
}

func (e *entry) gauge(name string, v float64)   { e.add(name, v, natureGauge) }
func (e *entry) counter(name string, v float64) { e.add(name, v, natureCounter) }
func (e *entry) duty(name string, s float64)    { e.add(name, s, natureDuty) }
func (e *entry) hidden(name string, v float64)  { e.add(name, v, natureHidden) }

// frame is one tick, or the part of it that one collector read.
type frame struct {
	at      time.Time
	index   map[subject]*entry
	order   []*entry
	missing []tune.Missing
	size    frameSize
}

// frameSize is what a frame came to hold, and so what its successor will need.
type frameSize struct{ entries, host, each int }

func newFrame(at time.Time, s frameSize) *frame {
	return &frame{at: at, index: make(map[subject]*entry, s.entries), order: make([]*entry, 0, s.entries), size: s}
}

func (f *frame) measure() frameSize {
	s := frameSize{entries: len(f.order)}
	for _, e := range f.order {
		if e.subject == (subject{}) {
			s.host = len(e.readings)
		} else {
			s.each = max(s.each, len(e.readings))
		}
	}
	return s
}

func (f *frame) host() *entry { return f.entity("", "", 0, nil) }

// entity gives the entry of a subject. Labels are shared, not copied: hand over a map that is never
// written again.
func (f *frame) entity(kind, id string, gen uint64, labels map[string]string) *entry {
	key := subject{kind, id}
	e := f.index[key]
	if e == nil {
		room := f.size.each
		if key == (subject{}) {
			room = f.size.host
		}
		e = &entry{subject: key, gen: gen, labels: labels, readings: make([]reading, 0, room)}
		f.index[key] = e
		f.order = append(f.order, e)
	}
	return e
}

func (f *frame) miss(collector, reason string) {
	f.missing = append(f.missing, tune.Missing{Collector: collector, Reason: reason})
}

// merge takes over what one collector read; it is called only when that collector did not fail, so
// that half a file never becomes a signal.
func (f *frame) merge(part *frame) {
	for _, p := range part.order {
		e := f.index[p.subject]
		if e == nil && p.subject != (subject{}) {
			f.index[p.subject] = p
			f.order = append(f.order, p)
			continue
		}
		if e == nil {
			e = f.host() // made anew, so that it has room for all
		}
		e.readings = append(e.readings, p.readings...)
		e.labels = unionLabels(e.labels, p.labels)
	}
}

func unionLabels(a, b map[string]string) map[string]string {
	extra := false
	for k := range b {
		if _, ok := a[k]; !ok {
			extra = true
			break
		}
	}
	if !extra {
		return a
	}
	out := make(map[string]string, len(a)+len(b))
	for k, v := range b {
		out[k] = v
	}
	for k, v := range a {
		out[k] = v
	}
	return out
}

package ebpf

import (
	"slices"
	"time"

	"semantos/ebpf/probe"
)

// counts makes what a probe counted in part of the time stand for all of it: what came in between two
// readings grows by the time between them over the time the probe was attached in it.
type counts struct {
	wall, active time.Duration // since the load, up to the newest reading that saw anything
	age          time.Duration // of what was counted, at the newest reading
	series       map[seriesKey]*total
	readings     uint64
}

type seriesKey struct{ kind, id, name string }

// nature is which method of the sink a reading goes to.
type nature uint8

const (
	natureHist nature = iota
	natureCounter
	natureSeconds
	natureGauge
)

// reading is what a probe handed over.
type reading struct {
	of     probe.Subject
	name   string
	nature nature
	value  float64
	hist   probe.Hist
}

// total is what one series has come to. raw is what the kernel says, the rest what it stands for.
type total struct {
	reading
	raw     float64
	rawHist probe.Hist
	bins    []part // of a histogram that was ever counted part of the time
	sum     float64
	grown   bool
	seen    uint64
}

// part is a bucket whose count was scaled.
type part struct {
	bucket uint16
	n      float64
}

// batch collects one reading of a probe; it implements probe.Sink.
type batch []reading

func (b *batch) Hist(of probe.Subject, name string, h probe.Hist) {
	*b = append(*b, reading{of: of, name: name, nature: natureHist, hist: h})
}
func (b *batch) Counter(of probe.Subject, name string, v float64) {
	*b = append(*b, reading{of: of, name: name, nature: natureCounter, value: v})
}
func (b *batch) Seconds(of probe.Subject, name string, v float64) {
	*b = append(*b, reading{of: of, name: name, nature: natureSeconds, value: v})
}
func (b *batch) Gauge(of probe.Subject, name string, v float64) {
	*b = append(*b, reading{of: of, name: name, nature: natureGauge, value: v})
}

// take adds a reading made wall after the load, of which the probe was attached for active. What is no
// longer read is forgotten: should it come back, it counts from zero.
func (c *counts) take(wall, active time.Duration, read batch) {
	if c.series == nil {
		c.series = make(map[seriesKey]*total, len(read))
	}
	factor := 1.0
	if spent := active - c.active; spent > 0 {
		factor = float64(wall-c.wall) / float64(spent)
		// Time without any counting belongs to the next reading that has some.
		c.wall, c.active = wall, active
	}
	c.age = wall - c.wall
	if factor < 1.01 { // attached all the time, but for the moments between two clocks
		factor = 1
	}
	c.readings++
	for _, r := range read {
		key := seriesKey{r.of.Kind, r.of.ID, r.name}
		t := c.series[key]
		if t == nil {
			t = &total{}
			c.series[key] = t
		}
		t.add(r, factor)
		t.seen = c.readings
	}
	for key, t := range c.series {
		if t.seen != c.readings {
			delete(c.series, key)
		}
	}
}

// add takes what is new in r, times factor. What went back was made anew: all of it is new.
func (t *total) add(r reading, factor float64) {
	before := t.value
	t.reading.of, t.name, t.nature = r.of, r.name, r.nature
	switch r.nature {
	case natureGauge:
		t.value = r.value
	case natureHist:
		t.addHist(r.hist, factor)
	default:
		more := r.value - t.raw
		if more < 0 {
			more = r.value
		}
		t.value = before + more*factor
		t.raw = r.value
	}
}

func (t *total) addHist(h probe.Hist, factor float64) {
	more := h.Since(t.rawHist)
	anew := more.Sum == h.Sum && len(t.rawHist.Bins) > 0
	t.rawHist = h
	if factor == 1 && !t.grown && !anew {
		t.hist = h
		return
	}
	if !t.grown {
		t.grown, t.sum = true, float64(t.hist.Sum)
		for _, b := range t.hist.Bins {
			t.bins = append(t.bins, part{b.Bucket, float64(b.Count)})
		}
	}
	if len(more.Bins) == 0 {
		return
	}
	t.sum += float64(more.Sum) * factor
	for _, b := range more.Bins {
		at, found := slices.BinarySearchFunc(t.bins, b.Bucket, func(p part, want uint16) int { return int(p.bucket) - int(want) })
		if !found {
			t.bins = slices.Insert(t.bins, at, part{bucket: b.Bucket})
		}
		t.bins[at].n += float64(b.Count) * factor
	}
	out := probe.Hist{Sum: uint64(t.sum), Bins: make([]probe.Bin, 0, len(t.bins))}
	for _, p := range t.bins { // rounding what only grows keeps it from falling
		if n := uint64(p.n + 0.5); n > 0 {
			out.Bins = append(out.Bins, probe.Bin{Bucket: p.bucket, Count: n})
		}
	}
	t.hist = out
}

// hand gives everything to a sink, in no order.
func (c *counts) hand(out probe.Sink) {
	for _, t := range c.series {
		switch t.nature {
		case natureHist:
			out.Hist(t.of, t.name, t.hist)
		case natureCounter:
			out.Counter(t.of, t.name, t.value)
		case natureSeconds:
			out.Seconds(t.of, t.name, t.value)
		case natureGauge:
			out.Gauge(t.of, t.name, t.value)
		}
	}
}

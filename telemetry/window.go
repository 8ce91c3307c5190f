package telemetry

import (
	"time"

	"semantos/internal/tune"
)

// series folds the readings of one name on one subject over the window.
type series struct {
	name   string
	nature nature
	n      int
	sum    float64
	max    float64
	last   float64
	lastAt time.Time
	gen    uint64
	inc    float64 // increase over the intervals that count
	dt     float64 // seconds of those intervals
	hist   *span   // of a histogram
}

// add takes a reading of the frame at; before is the time of the frame before it, zero for the first.
func (s *series) add(r reading, at, before time.Time, gen uint64) {
	at = at.Add(-r.age)
	switch {
	case s.n == 0 && r.born && !before.IsZero():
		s.inc += r.value
		s.dt += at.Sub(before).Seconds()
	case s.n > 0 && (s.gen == gen || r.anew) && r.value >= s.last:
		// A counter that went back was reset or wrapped: how far it really went is unknown, so that
		// interval counts neither as increase nor as time.
		s.inc += r.value - s.last
		s.dt += at.Sub(s.lastAt).Seconds()
	}
	if s.n == 0 || r.value > s.max {
		s.max = r.value
	}
	s.n++
	s.sum += r.value
	s.last, s.lastAt, s.gen = r.value, at, gen
}

// fold is one subject over the window.
type fold struct {
	subject
	labels map[string]string
	series []series
	byName map[string]int
	hint   int
}

// at finds the series of a name. Collectors read in the same order tick after tick, so the place after
// the previous hit is nearly always right and the map is rarely asked.
func (d *fold) at(name string) *series {
	if d.hint < len(d.series) && d.series[d.hint].name == name {
		d.hint++
		return &d.series[d.hint-1]
	}
	i, ok := d.byName[name]
	if !ok {
		i = len(d.series)
		d.series = append(d.series, series{name: name})
		d.byName[name] = i
	}
	d.hint = i + 1
	return &d.series[i]
}

// view is the window as a whole, while derivations run over it.
type view struct {
	host     *signals
	entities map[string][]*signals
}

// signals are the finished signals of one subject; inc holds every counter's increase, hidden ones too.
type signals struct {
	subject
	labels map[string]string
	values map[string]float64
	inc    map[string]float64
}

// increase sums the increases of counters; false when none of them has data.
func (s *signals) increase(names ...string) (float64, bool) {
	sum, found := 0.0, false
	for _, n := range names {
		if v, ok := s.inc[n]; ok {
			sum += v
			found = true
		}
	}
	return sum, found
}

// ratio sets name to the quotient of two sums of increases; nothing when the divisor saw nothing.
func (s *signals) ratio(name string, part, whole []string) {
	p, ok := s.increase(part...)
	w, okw := s.increase(whole...)
	if ok && okw && w > 0 {
		s.values[name] = p / w
	}
}

// suffixes keeps the spelled-out names, so that a snapshot does not build them anew.
type suffixes map[string][5]string

func (x suffixes) of(name string) [5]string {
	s, ok := x[name]
	if !ok {
		s = [5]string{name + ".total", name + ".max", name + ".last"}
		x[name] = s
	}
	return s
}

// foldFrames folds the frames; only subjects of the newest frame remain, because what is gone can
// neither be diagnosed nor changed.
func foldFrames(frames []*frame) []*fold {
	if len(frames) == 0 {
		return nil
	}
	newest := frames[len(frames)-1]
	byKey := make(map[subject]*fold, len(newest.order))
	out := make([]*fold, 0, len(newest.order))
	for _, e := range newest.order {
		d := &fold{subject: e.subject, labels: e.labels, byName: make(map[string]int, len(e.readings)),
			series: make([]series, 0, len(e.readings))}
		byKey[e.subject] = d
		out = append(out, d)
	}
	var before time.Time
	for _, f := range frames {
		for _, e := range f.order {
			d := byKey[e.subject]
			if d == nil {
				continue
			}
			d.hint = 0
			for _, r := range e.readings {
				s := d.at(r.name)
				s.nature = r.nature
				if r.nature == natureHist {
					s.addHist(r, f.at, before)
					continue
				}
				s.add(r, f.at, before, e.gen)
			}
		}
		before = f.at
	}
	return out
}

func (d *fold) finish(names suffixes) *signals {
	out := &signals{subject: d.subject, labels: d.labels,
		values: make(map[string]float64, 3*len(d.series)), inc: make(map[string]float64, len(d.series))}
	for i := range d.series {
		s := &d.series[i]
		if s.nature == natureHist {
			s.hist.finish(s.name, out.values, names)
			continue
		}
		if s.nature == natureGauge {
			n := names.of(s.name)
			out.values[s.name] = s.sum / float64(s.n)
			out.values[n[1]] = s.max
			out.values[n[2]] = s.last
			continue
		}
		if s.dt <= 0 {
			continue // a single reading has no rate
		}
		out.inc[s.name] = s.inc
		switch s.nature {
		case natureCounter:
			out.values[s.name] = s.inc / s.dt
			out.values[names.of(s.name)[0]] = s.inc
		case natureDuty:
			out.values[s.name] = s.inc / s.dt
		}
	}
	return out
}

func newView(frames []*frame, names suffixes) *view {
	v := &view{entities: make(map[string][]*signals)}
	for _, d := range foldFrames(frames) {
		s := d.finish(names)
		if d.subject == (subject{}) {
			v.host = s
			continue
		}
		v.entities[d.kind] = append(v.entities[d.kind], s)
	}
	if v.host == nil {
		v.host = &signals{values: map[string]float64{}, inc: map[string]float64{}}
	}
	return v
}

// sumNamespaces adds the counters of every namespace under the same name to the host, so that a rule
// that does not care where can ask the host.
func (v *view) sumNamespaces(names suffixes) {
	for _, ns := range v.entities[tune.EntityNetns] {
		for name, inc := range ns.inc {
			rate, ok := ns.values[name]
			if !ok {
				continue // hidden
			}
			v.host.values[name] += rate
			v.host.inc[name] += inc
			total := names.of(name)[0]
			if t, ok := ns.values[total]; ok {
				v.host.values[total] += t
			}
		}
	}
}

// largest sets name to the greater of itself and another subject's signal.
func (s *signals) largest(name string, of *signals, signal string) {
	v, ok := of.values[signal]
	if !ok {
		return
	}
	if old, had := s.values[name]; !had || v > old {
		s.values[name] = v
	}
}

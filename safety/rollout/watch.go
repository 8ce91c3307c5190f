package rollout

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Vitals reads what no rollout may break, whatever its meter says. What it cannot read it leaves out: no
// data is not a break, and doctor says what is missing.
type Vitals interface {
	Look(ctx context.Context) []Vital
}

// Vital is one reading with its limit.
type Vital struct {
	Name  string // as a person reads it
	Kind  VitalKind
	Value float64
	Limit float64
	// Usual is what stood before the rollout. Stall: percent of time, the worst of the kernel's own means;
	// Stranger: events.
	Usual float64
}

// VitalKind says what a value counts and how it breaks its limit.
type VitalKind int

// The kinds. Stall: microseconds of standing still since boot, more than Limit percent of the time
// breaks. Floor: a level, below Limit breaks. Count: events since boot, more than Limit of them since the
// rollout began break, whoever was exposed then. Stranger: events since the watch began in one part of the
// host that the rollout is not known to touch; more of them while treated than are known of untreated time
// break.
const (
	Stall VitalKind = iota
	Floor
	Count
	Stranger
)

const (
	// lookEvery is the sampling interval of the watch.
	lookEvery = time.Second
	// leastLook is the shortest time over which a share of time says anything.
	leastLook = 400 * time.Millisecond
	// gross is how far beyond a limit of time one look is enough; nearer to it two of the last three
	// must be, for a burst of one second happens on every host.
	gross, looksBack = 1.5, 3
	// keptLooks bounds what a long hold remembers.
	keptLooks = 120
)

// watch judges vitals beside the slots, in every state: what is beyond a limit while treated, and was
// not before nor while untreated, broke it. What was beyond it anyway breaks it only when treated is
// surely worse. Nothing in it reads a clock or the machine.
type watch struct {
	vitals  map[string]*watched
	strange map[string]*stranger
	base    map[string]float64 // readings at the start of the stretch now looked at
	since   time.Time
	quiet   time.Time // what treated time left behind is not counted as untreated before
	exposed bool
}

type watched struct{ treated, untreated []float64 }

// stranger counts the events of one part of the host that is none of the rollout's.
type stranger struct{ seen, treated, untreated float64 }

func newWatch() *watch { return &watch{vitals: map[string]*watched{}, strange: map[string]*stranger{}} }

// look takes readings of the stretch since the last ones, and says what is broken, "" for nothing.
func (w *watch) look(now time.Time, vitals []Vital) string {
	first := w.base == nil
	took := now.Sub(w.since)
	said := w.strangers(vitals)
	if !first && took < leastLook {
		return join(said, w.counts(vitals)) // an event needs no stretch
	}
	for _, v := range vitals {
		at := w.vitals[v.Name]
		if at == nil {
			at = &watched{}
			if v.Kind == Stall {
				at.untreated = append(at.untreated, v.Usual)
			}
			w.vitals[v.Name] = at
		}
		value, ok := v.over(w.base, took)
		if !ok {
			continue
		}
		switch {
		case w.exposed:
			at.treated = tail(append(at.treated, value), keptLooks)
			said = join(said, v.broken(at))
		case !w.since.Before(w.quiet):
			at.untreated = tail(append(at.untreated, value), keptLooks)
		}
	}
	said = join(said, w.counts(vitals))
	w.rest(now, vitals)
	return said
}

// turn ends a stretch: from now on exposed holds. The settle time after a restore counts for neither side.
func (w *watch) turn(now time.Time, exposed bool, settle time.Duration, vitals []Vital) string {
	said := w.look(now, vitals)
	if w.exposed && !exposed {
		w.quiet = now.Add(settle)
	}
	w.exposed = exposed
	w.rest(now, vitals)
	return said
}

// rest keeps where the next stretch starts; a count keeps where the rollout started.
func (w *watch) rest(now time.Time, vitals []Vital) {
	if w.base == nil {
		w.base = map[string]float64{}
	}
	for _, v := range vitals {
		if _, known := w.base[v.Name]; v.Kind != Count || !known {
			w.base[v.Name] = v.Value
		}
	}
	w.since = now
}

// counts finds events that may not happen at all.
func (w *watch) counts(vitals []Vital) string {
	for _, v := range vitals {
		if from, known := w.base[v.Name]; v.Kind == Count && known && v.Value-from > v.Limit {
			return fmt.Sprintf("%s: %.4g during the rollout, limit %.4g", v.Name, v.Value-from, v.Limit)
		}
	}
	return ""
}

// strangers finds parts of the host where more happened while treated, or while that ebbed away, than is
// known of untreated time. A first event is therefore enough where there never was one.
func (w *watch) strangers(vitals []Vital) string {
	said := ""
	for _, v := range vitals {
		if v.Kind != Stranger {
			continue
		}
		s := w.strange[v.Name]
		if s == nil {
			s = &stranger{untreated: v.Usual}
			w.strange[v.Name] = s
		}
		fresh := v.Value - s.seen
		s.seen = v.Value
		switch {
		case fresh <= 0:
		case !w.exposed && !w.since.Before(w.quiet):
			s.untreated += fresh
		default:
			s.treated += fresh
			if s.treated > s.untreated {
				said = join(said, fmt.Sprintf("%s: %.4g while treated, %.4g known untreated", v.Name, s.treated, s.untreated))
			}
		}
	}
	return said
}

// spared says what happened meanwhile and was not held against the rollout.
func (w *watch) spared() string {
	said := ""
	for _, name := range slices.Sorted(maps.Keys(w.strange)) {
		if s := w.strange[name]; s.seen > 0 && s.treated <= s.untreated {
			said = join(said, fmt.Sprintf("%s: %.4g meanwhile, not counted, for it happens untreated too", name, s.seen))
		}
	}
	return said
}

// over gives what a reading says of the stretch: percent of time, or the level.
func (v Vital) over(base map[string]float64, took time.Duration) (float64, bool) {
	switch v.Kind {
	case Floor:
		return v.Value, true
	case Stall:
		from, known := base[v.Name]
		if !known || took <= 0 || v.Value < from {
			return 0, false
		}
		return min(100, 100*(v.Value-from)/float64(took.Microseconds())), true
	}
	return 0, false
}

// beyond reports whether a value breaks the limit by itself.
func (v Vital) beyond(x float64) bool {
	if v.Kind == Floor {
		return x < v.Limit
	}
	return x > v.Limit
}

// broken judges the newest treated look.
func (v Vital) broken(at *watched) string {
	newest := at.treated[len(at.treated)-1]
	recent := tail(at.treated, looksBack)
	enough := v.Kind == Floor || newest > gross*v.Limit || howMany(recent, v.beyond) >= 2
	if !v.beyond(newest) || !enough {
		return ""
	}
	said := v.String(newest) + " while treated"
	if howMany(at.untreated, v.beyond) == 0 {
		return said
	}
	if v.worse(at) {
		return said + ", which broke it untreated too, but less"
	}
	return ""
}

// worse asks the newest treated looks, each of them, to lie beyond nine tenths of the untreated ones by a
// tenth: six in a row do so by chance once in a million, and still rarely where looks follow each other.
// It needs no shape of their spread, for a share of time has none that holds.
func (v Vital) worse(at *watched) bool {
	if len(at.treated) < sureLooks || len(at.untreated) < leastUntreated {
		return false
	}
	usual := slices.Sorted(slices.Values(at.untreated))
	edge := usual[(len(usual)*9)/10]
	if v.Kind == Floor {
		edge = usual[len(usual)/10]
	}
	return howMany(tail(at.treated, sureLooks), func(x float64) bool {
		if v.Kind == Floor {
			return v.beyond(x) && x < edge*0.9
		}
		return v.beyond(x) && x > edge*1.1
	}) == sureLooks
}

// sureLooks treated in a row, against at least this many untreated ones, say that treated is worse.
const sureLooks, leastUntreated = 6, 10

// String says a value beside its limit.
func (v Vital) String(x float64) string {
	if v.Kind == Floor {
		return fmt.Sprintf("%s %.3g %%, at least %.3g %%", v.Name, x, v.Limit)
	}
	return fmt.Sprintf("%s %.3g %% of the time, limit %.3g %%", v.Name, x, v.Limit)
}

func howMany(x []float64, is func(float64) bool) int {
	n := 0
	for _, v := range x {
		if is(v) {
			n++
		}
	}
	return n
}

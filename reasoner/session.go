package reasoner

import (
	"fmt"

	"semantos/internal/expr"
	"semantos/internal/tune"
)

// session is one call of Diagnose or Recommend: it reads each current value once.
type session struct {
	r        *Reasoner
	snap     *tune.Snapshot
	current  Current
	values   map[place]reading
	defaults map[string]reading
	safe     map[string][]tune.Range
	local    map[string]map[string]float64 // host signals with a namespace's own in their place
}

type place struct{ name, target string }

type reading struct {
	value tune.Value
	err   error
}

func (r *Reasoner) session(snap *tune.Snapshot, cur Current) *session {
	return &session{r: r, snap: snap, current: cur, values: map[place]reading{},
		defaults: map[string]reading{}, safe: map[string][]tune.Range{}, local: map[string]map[string]float64{}}
}

func (s *session) read(t *tune.Tunable, target string) (tune.Value, error) {
	at := place{t.Name, target}
	got, ok := s.values[at]
	if !ok {
		if s.current == nil {
			got.err = fmt.Errorf("read %s: %w", t.Name, tune.ErrNoData)
		} else {
			got.value, got.err = s.current(t.Name, target)
		}
		s.values[at] = got
	}
	return got.value, got.err
}

// byName is read for the catalogue's invariants, which name instances.
func (s *session) byName(name, target string) (tune.Value, error) {
	if t := s.r.tunable[name]; t != nil {
		return s.read(t, target)
	}
	for _, t := range s.r.tunable {
		if _, ok := t.Match(name); ok {
			return s.read(t, target)
		}
	}
	return "", fmt.Errorf("read %s: %w", name, tune.ErrUnknown)
}

func (s *session) dflt(t *tune.Tunable) (tune.Value, error) {
	got, ok := s.defaults[t.Name]
	if !ok {
		got.value, got.err = s.r.cat.Default(t, s.snap.Facts)
		s.defaults[t.Name] = got
	}
	return got.value, got.err
}

// safeRanges gives the safe range per element; an error means that there is none.
func (s *session) safeRanges(t *tune.Tunable) []tune.Range {
	got, ok := s.safe[t.Name]
	if !ok {
		var err error
		if got, err = s.r.cat.Safe(t, s.snap.Facts); err != nil {
			got = nil
		}
		s.safe[t.Name] = got
	}
	return got
}

// vars are what an expression sees about an entity, nil for the host.
func (s *session) vars(e *tune.Entity) expr.Vars {
	v := expr.Vars{S: s.snap.Signals, Facts: s.snap.Facts}
	if e != nil {
		v.E, v.Label = e.Signals, e.Labels
		v.S = s.signals(e)
	}
	v.Current = func(name string) (tune.Value, error) {
		t := s.r.tunable[name]
		if t == nil {
			return "", fmt.Errorf("read %s: %w", name, tune.ErrUnknown)
		}
		targets := s.targets(t, e)
		if len(targets) == 0 {
			return "", fmt.Errorf("target of %s: %w", name, tune.ErrNoData)
		}
		return s.read(t, targets[0])
	}
	v.Default = func(name string) (tune.Value, error) {
		t := s.r.tunable[name]
		if t == nil {
			return "", fmt.Errorf("default of %s: %w", name, tune.ErrUnknown)
		}
		return s.dflt(t)
	}
	return v
}

// signals gives the host's signals as an entity in a network namespace sees them: a counter of its own
// namespace replaces the sum over all, so that a neighbour's overflow is not taken for its own.
func (s *session) signals(e *tune.Entity) map[string]float64 {
	ns := e.Labels[string(tune.ScopeNetns)]
	if ns == "" || e.Kind != tune.EntityListener && e.Kind != tune.EntityUDPSocket || len(s.snap.Entities[tune.EntityNetns]) < 2 {
		return s.snap.Signals
	}
	if got, ok := s.local[ns]; ok {
		return got
	}
	own := s.entity(tune.EntityNetns, func(n *tune.Entity) bool { return n.Labels[string(tune.ScopeNetns)] == ns })
	out := s.snap.Signals
	if own != nil {
		out = make(map[string]float64, len(s.r.local))
		for _, key := range s.r.local {
			if v, ok := own.Signals[key]; ok {
				out[key] = v
			} else if v, ok := s.snap.Signals[key]; ok {
				out[key] = v
			}
		}
	}
	s.local[ns] = out
	return out
}

func (s *session) entity(kind string, is func(*tune.Entity) bool) *tune.Entity {
	all := s.snap.Entities[kind]
	for i := range all {
		if is(&all[i]) {
			return &all[i]
		}
	}
	return nil
}

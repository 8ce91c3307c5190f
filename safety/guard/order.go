package guard

import (
	"slices"
	"strings"

	"semantos/internal/tune"
	"semantos/safety/journal"
)

// writeStep is one write of a bundle: what it changes and the tunable behind it.
type writeStep struct {
	t      *tune.Tunable
	change tune.Change
}

// orderFinder looks for an order of writes in which no state on the way breaks an invariant: max before
// default when both rise, limit before background. A set of finished writes is a bit mask.
type orderFinder struct {
	g         *engine
	steps     []writeStep
	tolerated int // invariants broken before we touched anything
	after     []uint
	dead      map[uint]bool         // from here the end cannot be reached
	good      map[uint]bool         // states known to keep the invariants
	refused   map[uint]map[int]bool // the kernel refused this write in this state
}

func newOrderFinder(g *engine, steps []writeStep) *orderFinder {
	f := &orderFinder{g: g, steps: steps, after: make([]uint, len(steps)), dead: map[uint]bool{},
		good: map[uint]bool{}, refused: map[uint]map[int]bool{}}
	for i, s := range steps {
		for k, other := range steps {
			if i != k && alters(other.t, s) && !alters(s.t, writeStep{t: other.t, change: other.change}) {
				f.after[i] |= 1 << k // the kernel resets i when k is written
			}
		}
	}
	f.tolerated = len(f.broken(0))
	return f
}

// alters reports whether writing t makes the kernel change what s writes.
func alters(t *tune.Tunable, s writeStep) bool {
	return slices.ContainsFunc(t.AlsoChanges, func(name string) bool {
		return name == s.t.Name || name == s.change.Tunable
	})
}

// next gives the write to make when those in done are made.
func (f *orderFinder) next(done uint) (int, bool) {
	f.dead = map[uint]bool{} // a refusal may have closed a way
	for i := range f.steps {
		if f.allowed(done, i) && f.reaches(done|1<<i) {
			return i, true
		}
	}
	return 0, false
}

// refuse remembers that the kernel did not take this write in this state.
func (f *orderFinder) refuse(done uint, i int) {
	if f.refused[done] == nil {
		f.refused[done] = map[int]bool{}
	}
	f.refused[done][i] = true
}

func (f *orderFinder) allowed(done uint, i int) bool {
	return done&(1<<i) == 0 && f.after[i]&^done == 0 && !f.refused[done][i] && f.keeps(done|1<<i)
}

func (f *orderFinder) reaches(done uint) bool {
	if done == 1<<len(f.steps)-1 {
		return true
	}
	if f.dead[done] {
		return false
	}
	for i := range f.steps {
		if f.allowed(done, i) && f.reaches(done|1<<i) {
			return true
		}
	}
	f.dead[done] = true
	return false
}

func (f *orderFinder) keeps(done uint) bool {
	ok, known := f.good[done]
	if !known {
		ok = len(f.broken(done)) <= f.tolerated
		f.good[done] = ok
	}
	return ok
}

// broken evaluates the invariants with the writes in done made and the others not.
func (f *orderFinder) broken(done uint) []error {
	changes := make([]tune.Change, len(f.steps))
	for i, s := range f.steps {
		changes[i] = s.change
		if done&(1<<i) == 0 {
			changes[i].Proposed = s.change.Current
		}
	}
	return f.g.invariants(f.steps, changes)
}

// invariants asks the catalogue about a state that these changes lead to. It puts the proposed values
// over what it reads; what it reads is the state before all of them, also while some are written.
func (g *engine) invariants(steps []writeStep, changes []tune.Change) []error {
	return g.cat.Invariants(changes, func(name, target string) (tune.Value, error) {
		for i, c := range changes {
			named := name == c.Tunable || name == steps[i].t.Name
			if named && (target == "" || target == c.Target || steps[i].t.Scope == tune.ScopeHost) {
				return c.Current, nil
			}
		}
		t, own, err := g.cat.Lookup(name)
		if err != nil {
			return "", err
		}
		return g.act.Read(t, targetFor(t, own, target))
	})
}

// targetFor picks the target to read a neighbour on: its own when its name carries one, the host for
// what holds for the host, else the one of the tunable beside it.
func targetFor(t *tune.Tunable, own, target string) string {
	switch {
	case own != "" && !strings.Contains(own, "{"):
		return own
	case t.Scope == tune.ScopeHost:
		return "host"
	}
	return target
}

// path gives the order as far as it can be foreseen.
func (f *orderFinder) path() []int {
	var out []int
	for done := uint(0); len(out) < len(f.steps); {
		i, ok := f.next(done)
		if !ok {
			break
		}
		out = append(out, i)
		done |= 1 << i
	}
	return out
}

// groups are the writes that an order is looked for among: those of each of several like targets, which
// do not touch one another, or all.
func groups(changes []tune.Change) [][]int {
	units := tune.Units(changes)
	if len(units) == 0 {
		all := make([]int, len(changes))
		for i := range all {
			all[i] = i
		}
		return [][]int{all}
	}
	out := make([][]int, len(units))
	for i, u := range units {
		out[i] = u.Changes
	}
	return out
}

// isUnit reports whether an entry belongs to one of several like targets of its rollout, of which another
// still stands.
func isUnit(ro *journal.Rollout, en *journal.Entry) bool {
	changes := make([]tune.Change, len(ro.Entries))
	for i, e := range ro.Entries {
		changes[i] = tune.Change{Tunable: e.Tunable, Scope: e.How.Scope, Target: e.Target}
	}
	stands := func(e *journal.Entry) bool { return e.End == "" && e.Target != en.Target }
	return len(tune.Units(changes)) > 1 && slices.ContainsFunc(ro.Entries, stands)
}

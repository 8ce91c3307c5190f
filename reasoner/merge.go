package reasoner

import (
	"fmt"

	"semantos/internal/tune"
)

// mergeEntities makes one bundle of the same relief for the same symptom on several entities. The
// candidates come worst symptom first, so the first of a group leads it.
func (s *session) mergeEntities(found []candidate) []candidate {
	type key struct {
		symptom string
		relief  int
		tunable string // of a stray tunable: each keeps its own bundle
	}
	at := map[key]int{}
	var out []candidate
	for _, c := range found {
		k := key{symptom: c.symptom.Name, relief: c.relief}
		if c.relief == fromGraph {
			k.tunable = c.changes[0].tunable.Name
		}
		i, ok := at[k]
		if !ok {
			at[k] = len(out)
			out = append(out, c)
			continue
		}
		if s.absorb(&out[i], c) {
			out[i].others = append(out[i].others, c.symptom)
		}
	}
	return out
}

// absorb adds another entity's changes. Where both change the same thing, the value that goes further
// stands; a word stays that of the worse symptom.
func (s *session) absorb(into *candidate, c candidate) bool {
	if (into.veto == "") != (c.veto == "") || len(into.changes)+len(c.changes) > maxChanges {
		return false
	}
	for _, ch := range c.changes {
		i := indexOf(into.changes, ch.Tunable, ch.Target)
		if i < 0 {
			into.changes = append(into.changes, ch)
			continue
		}
		if ch.op == opSet {
			continue
		}
		further, err := s.improve(ch.tunable, ch.op, into.changes[i].Proposed, ch.Proposed.Fields())
		if err == nil {
			into.changes[i].Proposed = further
		}
	}
	return true
}

func indexOf(changes []improvement, tunable, target string) int {
	for i, c := range changes {
		if c.Tunable == tunable && c.Target == target {
			return i
		}
	}
	return -1
}

// companions makes a bundle keep the invariants: a tunable that is related to a changed one is moved
// with it when its default, or half or twice the changed value, mends what was broken. A bundle that
// cannot be mended is dropped.
func (s *session) companions(c candidate) (candidate, bool) {
	if s.holds(c.changes) {
		return c, true
	}
	for _, ch := range c.changes {
		for _, name := range related(ch.tunable) {
			t := s.r.tunable[name]
			if t == nil || t.Protected || t.Scope != ch.Scope || t.Templated() != ch.tunable.Templated() ||
				indexOf(c.changes, t.Instance(ch.Target), ch.Target) >= 0 {
				continue
			}
			for _, with := range s.companionValues(t, ch) {
				trial := append(append([]improvement{}, c.changes...), with)
				if s.holds(trial) {
					c.changes = trial
					c.why += fmt.Sprintf(" %s moves with it to keep their order.", with.Tunable)
					return c, true
				}
			}
		}
	}
	return c, false
}

func related(t *tune.Tunable) []string {
	return append(append(append([]string{}, t.DependsOn...), t.Synergizes...), t.Conflicts...)
}

func (s *session) companionValues(t *tune.Tunable, beside improvement) []improvement {
	current, err := s.read(t, beside.Target)
	if err != nil {
		return nil
	}
	var wants []tune.Value
	if d, err := s.dflt(t); err == nil {
		wants = append(wants, d)
	}
	if n, err := beside.Proposed.Numbers(); err == nil && len(n) == 1 {
		for _, factor := range []float64{0.5, 1, 2} {
			wants = append(wants, tune.Value(tune.FormatNumber(float64(int64(n[0]*factor)))))
		}
	}
	var out []improvement
	for _, w := range wants {
		v, err := s.improve(t, opSet, current, w.Fields())
		if err != nil || v == current {
			continue
		}
		out = append(out, improvement{tunable: t, op: opSet, Change: tune.Change{
			Tunable: t.Instance(beside.Target), Scope: t.Scope, Target: beside.Target, Current: current, Proposed: v,
			TakesEffect: t.TakesEffect, Risk: t.Risk, Why: t.Summary,
		}})
	}
	return out
}

func (s *session) holds(changes []improvement) bool {
	plain := make([]tune.Change, len(changes))
	for i, c := range changes {
		plain[i] = c.Change
	}
	return len(s.r.cat.Invariants(plain, s.byName)) == 0
}

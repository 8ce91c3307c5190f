package reasoner

import (
	"cmp"
	"slices"
	"strings"

	"semantos/internal/expr"
	"semantos/internal/tune"
)

// fromGraph marks a candidate that no relief names: a catalogued tunable that affects the symptom's
// signal and stands far outside its safe range.
const fromGraph = -1

// strayWeight ranks what only the graph supports below the reliefs a rule names.
const strayWeight = 0.6

// stray finds the tunable that no relief of the rule names, that affects a signal showing the symptom, and
// whose live value lies furthest outside its safe range on the harmful side. Its default, or else the
// near end of the safe range, is proposed. This is how the graph sees causes no rule foresaw.
func (s *session) stray(c *rule, sym tune.Symptom, e *tune.Entity, ev Evidence) (candidate, bool) {
	var best candidate
	furthest := 0.0
	for _, t := range s.affecting(c) {
		if named(c, t) || t.Protected || !numeric(t) || !reaches(c.For, t) {
			continue
		}
		for _, target := range s.targets(t, e) {
			ch, effect, ok := s.backInside(t, target, c)
			if !ok {
				continue
			}
			veto, err := capable(t, target, ev)
			far := s.distance(ch)
			if err != nil || far <= furthest {
				continue
			}
			furthest = far
			best = candidate{rule: c, relief: fromGraph, symptom: sym, changes: []improvement{ch}, veto: veto,
				conf: effect.Weight, weight: strayWeight * effect.Weight,
				why:    t.Instance(target) + " is outside its safe range, and the catalogue says that it affects this.",
				expect: strings.ReplaceAll(sym.Measure.Signal, "_", " ") + " gets " + sym.Measure.Better}
		}
	}
	return best, furthest > 0
}

// affecting lists the tunables with an edge to a signal that shows the symptom, by name.
func (s *session) affecting(c *rule) []*tune.Tunable {
	var out []*tune.Tunable
	for signal, way := range c.better {
		if way == "" {
			continue
		}
		for _, t := range s.r.affecting[signal] {
			if !slices.Contains(out, t) {
				out = append(out, t)
			}
		}
	}
	slices.SortFunc(out, func(a, b *tune.Tunable) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// backInside proposes a safe value when the current one lies outside on the side that harms.
func (s *session) backInside(t *tune.Tunable, target string, c *rule) (improvement, tune.Affect, bool) {
	safe := s.safeRanges(t)
	current, err := s.read(t, target)
	have := current.Fields()
	if err != nil || len(safe) == 0 || len(have) != max(1, t.Arity) {
		return improvement{}, tune.Affect{}, false
	}
	i := slices.IndexFunc(t.Affects, func(a tune.Affect) bool { return c.better[a.Signal] != "" })
	op := opRaise
	if (t.Affects[i].Sign > 0) == (c.better[t.Affects[i].Signal] == "lower") {
		op = opLower
	}
	want := slices.Clone(have)
	if d, err := s.dflt(t); err == nil && len(d.Fields()) == len(have) {
		want = d.Fields()
	}
	if !outside(t, safe, have, op) {
		return improvement{}, tune.Affect{}, false
	}
	proposed, err := s.improve(t, op, current, want)
	if err != nil || proposed == current {
		return improvement{}, tune.Affect{}, false
	}
	return improvement{tunable: t, op: op, Change: tune.Change{
		Tunable: t.Instance(target), Scope: t.Scope, Target: target, Current: current, Proposed: proposed,
		TakesEffect: t.TakesEffect, Risk: t.Risk, Why: t.Summary,
	}}, t.Affects[i], true
}

func outside(t *tune.Tunable, safe []tune.Range, have []string, op string) bool {
	for i, h := range have {
		n, ok := level(t, h)
		if !ok || isSpecial(t, h) {
			continue
		}
		r := safe[min(i, len(safe)-1)]
		if op == opRaise && n < r.Min || op == opLower && n > r.Max {
			return true
		}
	}
	return false
}

// named reports whether a relief of the rule changes the tunable, or one of the rule's expressions
// reads it: then the rule has judged its value itself.
func named(c *rule, t *tune.Tunable) bool {
	for _, rel := range c.reliefs {
		for _, ch := range rel.changes {
			if ch.tunable == t {
				return true
			}
		}
	}
	return slices.Contains(c.when.Refs(), expr.Ref{Var: "cur", Key: t.Name})
}

// affecting maps a signal to the tunables with an edge to it.
func affecting(all []*tune.Tunable) map[string][]*tune.Tunable {
	out := map[string][]*tune.Tunable{}
	for _, t := range all {
		for _, a := range t.Affects {
			if !slices.Contains(out[a.Signal], t) {
				out[a.Signal] = append(out[a.Signal], t)
			}
		}
	}
	return out
}

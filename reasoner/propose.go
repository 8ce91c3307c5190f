package reasoner

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"semantos/internal/expr"
	"semantos/internal/tune"
)

// What a change may do to the current value.
const (
	opRaise = "raise"
	opLower = "lower"
	opSet   = "set"
)

// improvement is one change that betters the current value.
type improvement struct {
	tune.Change
	tunable *tune.Tunable
	op      string
}

// propose evaluates a change on every instance the entity has of it. Instances that are good already
// are left out; none left is not an error. The error says why the change is impossible here.
func (s *session) propose(ch change, e *tune.Entity, v expr.Vars, ev Evidence) ([]improvement, string, error) {
	t := ch.tunable
	if t.Protected {
		return nil, "", nil
	}
	if ch.when != nil {
		holds, err := ch.when.Bool(v)
		if err != nil || !holds {
			return nil, "", err
		}
	}
	targets := s.targets(t, e)
	if len(targets) == 0 {
		return nil, "", fmt.Errorf("target of %s: %w", t.Name, tune.ErrNoData)
	}
	want, err := ch.value.Values(v)
	if err != nil {
		return nil, "", err
	}
	var out []improvement
	veto := ""
	for _, target := range targets {
		current, err := s.read(t, target)
		if err != nil {
			return nil, "", err
		}
		proposed, err := s.improve(t, ch.Op, current, want)
		if err != nil {
			return nil, "", err
		}
		if proposed == current {
			continue
		}
		reason, err := capable(t, target, ev)
		if err != nil || reason != "" && ch.Optional {
			return nil, "", err
		}
		if reason != "" {
			veto = reason
		}
		out = append(out, improvement{tunable: t, op: ch.Op, Change: tune.Change{
			Tunable: t.Instance(target), Scope: t.Scope, Target: target, Current: current, Proposed: proposed,
			TakesEffect: t.TakesEffect, Risk: t.Risk, Why: t.Summary,
		}})
	}
	return out, veto, nil
}

// capable gives the veto of a tunable that cannot be written here, or an error when it is not here.
func capable(t *tune.Tunable, target string, ev Evidence) (veto string, err error) {
	if ev.Capability == nil {
		return "", nil
	}
	c := ev.Capability(t, target)
	if !c.Present || !c.Readable {
		return "", fmt.Errorf("use %s: %s: %w", t.Instance(target), c.Reason, tune.ErrUnsupported)
	}
	if c.Writable {
		return "", nil
	}
	reason := c.Reason
	if reason == "" {
		reason = "read-only"
	}
	return fmt.Sprintf("%s is not writable here: %s", t.Instance(target), reason), nil
}

// improve gives the value to write: the wanted elements inside the safe range, each only where it goes
// the way of op from the current one. It equals current when nothing is to be gained.
func (s *session) improve(t *tune.Tunable, op string, current tune.Value, want []string) (tune.Value, error) {
	have := current.Fields()
	if len(want) != max(1, t.Arity) || len(have) != len(want) {
		return "", fmt.Errorf("propose %s: %d elements against %d: %w", t.Name, len(want), len(have), tune.ErrType)
	}
	out := make([]string, len(want))
	for i, w := range want {
		w = s.inside(t, i, w)
		switch order, comparable := compare(t, have[i], w); {
		case op == opSet, !comparable, op == opRaise && order < 0, op == opLower && order > 0:
			out[i] = w
		default:
			out[i] = have[i]
		}
	}
	if strings.Join(out, " ") == string(current) {
		return current, nil
	}
	proposed, err := t.Parse(strings.Join(monotone(t, op, out), " "))
	if err != nil {
		return "", fmt.Errorf("propose %s: %w", t.Name, err)
	}
	return proposed, nil
}

// inside clamps a numeric element into the hard and the safe range. Sentinels are left alone.
func (s *session) inside(t *tune.Tunable, i int, element string) string {
	n, err := strconv.ParseFloat(element, 64)
	if err != nil || isSpecial(t, element) || !numeric(t) {
		return element
	}
	clamped := n
	if safe := s.safeRanges(t); len(safe) > 0 {
		r := safe[min(i, len(safe)-1)]
		clamped = min(r.Max, max(r.Min, clamped))
	}
	if r, ok := t.HardAt(i); ok {
		clamped = min(r.Max, max(r.Min, clamped))
	}
	if clamped == n {
		return element
	}
	return strconv.FormatFloat(float64(int64(clamped)), 'f', 0, 64)
}

func numeric(t *tune.Tunable) bool {
	k := t.Kind
	if k == tune.KindVector {
		k = t.Of
	}
	return k == tune.KindInteger || k == tune.KindBytes || k == tune.KindDuration
}

func isSpecial(t *tune.Tunable, element string) bool {
	_, ok := t.SpecialOf(element)
	return ok
}

// compare orders two elements. A sentinel of rank 0 is no neighbour of any number: going to it or away
// from it is as the rule means it.
func compare(t *tune.Tunable, have, want string) (order int, comparable bool) {
	if have == want {
		return 0, true
	}
	a, okA := level(t, have)
	b, okB := level(t, want)
	return cmp.Compare(a, b), okA && okB
}

// level places an element on the line; sentinels of rank -1 and +1 lie beyond all numbers.
func level(t *tune.Tunable, element string) (float64, bool) {
	const beyond = 1e300
	if sp, ok := t.SpecialOf(element); ok {
		return float64(sp.Rank) * beyond, sp.Rank != 0
	}
	n, err := strconv.ParseFloat(element, 64)
	return n, err == nil
}

// monotone repairs the order of an ordered vector in the direction of op: raising an early element
// lifts the later ones, lowering a late one presses the earlier.
func monotone(t *tune.Tunable, op string, fields []string) []string {
	n, err := tune.Value(strings.Join(fields, " ")).Numbers()
	if !t.Ordered || err != nil {
		return fields
	}
	if op == opLower {
		for i := len(n) - 2; i >= 0; i-- {
			n[i] = min(n[i], n[i+1])
		}
	} else {
		for i := 1; i < len(n); i++ {
			n[i] = max(n[i], n[i-1])
		}
	}
	out := make([]string, len(n))
	for i := range n {
		out[i] = tune.FormatNumber(n[i])
	}
	return out
}

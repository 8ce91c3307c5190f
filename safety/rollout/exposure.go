package rollout

import (
	"math"
	"slices"
	"strings"

	"semantos/internal/tune"
)

// dosable reports whether a value can go part of the way from current to proposed: numbers whose
// elements are no sentinels. Words, masks and meanings ("0" = off) have nothing between them.
func dosable(t *tune.Tunable, c tune.Change) bool {
	kind := t.Kind
	if kind == tune.KindVector {
		kind = t.Of
	}
	switch kind {
	case tune.KindInteger, tune.KindBytes, tune.KindDuration:
	default:
		return false
	}
	from, err := c.Current.Numbers()
	if err != nil {
		return false
	}
	to, err := c.Proposed.Numbers()
	if err != nil || len(from) != len(to) {
		return false
	}
	for i := range from {
		if from[i] == to[i] {
			continue
		}
		if _, special := t.SpecialOf(c.Current.Fields()[i]); special {
			return false
		}
		if _, special := t.SpecialOf(c.Proposed.Fields()[i]); special {
			return false
		}
	}
	return true
}

// dose gives the change with its value moved share (0..1] of the way from current to proposed, element
// by element. All elements use one scale, so what was in order stays in order.
func dose(t *tune.Tunable, c tune.Change, share float64) tune.Change {
	if share >= 1 {
		return c
	}
	from, _ := c.Current.Numbers()
	to, _ := c.Proposed.Numbers()
	onLog := logScale(t, from, to)
	words := make([]string, len(from))
	last := math.Inf(-1)
	for i := range from {
		v := partWay(from[i], to[i], share, onLog)
		if t.Ordered {
			v = max(v, last)
			last = v
		}
		words[i] = tune.FormatNumber(v)
	}
	c.Proposed = tune.Value(strings.Join(words, " "))
	return c
}

// logScale takes logarithms where the catalogue says so or the way spans a decade, and never below zero.
func logScale(t *tune.Tunable, from, to []float64) bool {
	if slices.Min(from) < 0 || slices.Min(to) < 0 {
		return false
	}
	for i := range from {
		if max(from[i], to[i], 1) >= 10*max(min(from[i], to[i]), 1) {
			return true
		}
	}
	return t.Log
}

// partWay never stands still and never passes the end: at least one unit, counted from zero as one.
func partWay(from, to, share float64, onLog bool) float64 {
	if from == to {
		return from
	}
	v := from + share*(to-from)
	if onLog {
		a, b := math.Log(max(from, 1)), math.Log(max(to, 1))
		v = math.Exp(a + share*(b-a))
	}
	v = math.Round(v)
	if to > from {
		return min(to, max(from+1, v))
	}
	return max(to, min(from-1, v))
}

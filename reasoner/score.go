package reasoner

import (
	"math"
	"strconv"
	"strings"

	"semantos/internal/tune"
)

const (
	// baseline is the strength of a change whose current value is as good as the default: kept well
	// below that of a value that is far off, which is likely the cause itself.
	baseline = 0.2
	// insideLimit caps the distance, in doublings, of a value inside the safe range: sensible choices of
	// an operator lie there.
	insideLimit = 1.5
	// Distances of words and sentinels, which have none of their own.
	wordBackToDefault = 4.0
	wordElsewhere     = 3.0
	sentinel          = 8.0
)

// strength turns a distance in doublings into a factor of the score in [baseline, 1).
func strength(far float64) float64 {
	return baseline + (1-baseline)*(1-math.Exp2(-far/2))
}

// distance says how far the current value is from default and safe range against the wanted
// direction, in doublings: somaxconn 8 under a default of 4096 is 9 doublings off.
func (s *session) distance(ch improvement) float64 {
	have, want := ch.Current.Fields(), ch.Proposed.Fields()
	var dflt []string
	if d, err := s.dflt(ch.tunable); err == nil {
		dflt = d.Fields()
	}
	if from, to, ok := ch.widths(); ok {
		return intervalDistance(from, to, dflt)
	}
	far := 0.0
	for i := range have {
		if i >= len(want) || have[i] == want[i] {
			continue
		}
		d := ""
		if i < len(dflt) {
			d = dflt[i]
		}
		far = max(far, s.elementDistance(ch.tunable, i, have[i], want[i], d))
	}
	return far
}

// widths gives the old and new width of an interval: an ordered pair, like a range of ports.
func (ch improvement) widths() (from, to float64, ok bool) {
	have, errA := ch.Current.Numbers()
	want, errB := ch.Proposed.Numbers()
	if !ch.tunable.Ordered || errA != nil || errB != nil || len(have) != 2 || len(want) != 2 {
		return 0, 0, false
	}
	return have[1] - have[0] + 1, want[1] - want[0] + 1, true
}

// intervalDistance compares widths with the default's; one less than half as wide is far off.
func intervalDistance(from, to float64, dflt []string) float64 {
	d, err := tune.Value(strings.Join(dflt, " ")).Numbers()
	if err != nil || len(d) != 2 {
		return min(doublings(from, to, to > from), insideLimit)
	}
	off := doublings(from, d[1]-d[0]+1, to > from)
	if off > 1 {
		return off + 1
	}
	return off
}

func (s *session) elementDistance(t *tune.Tunable, i int, have, want, dflt string) float64 {
	a, errA := strconv.ParseFloat(have, 64)
	b, errB := strconv.ParseFloat(want, 64)
	if !numeric(t) || errA != nil || errB != nil || isSpecial(t, have) || isSpecial(t, want) {
		return wordDistance(t, have, want, dflt)
	}
	up := b > a
	out, off := 0.0, 0.0
	if safe := s.safeRanges(t); len(safe) > 0 {
		r := safe[min(i, len(safe)-1)]
		out = doublings(a, pick(up, r.Min, r.Max), up)
	}
	if d, err := strconv.ParseFloat(dflt, 64); err == nil && d > 0 && !isSpecial(t, dflt) {
		off = doublings(a, d, up)
	} else if (dflt == "" || unlimited(t, dflt)) && out == 0 {
		off = doublings(a, b, up)
	}
	if out > 0 {
		return max(out, off) + 1
	}
	return min(off, insideLimit)
}

// unlimited reports whether a default is a sentinel above all numbers: any limit is an operator's
// choice then, and how far the rule wants it moved is all there is to judge it by.
func unlimited(t *tune.Tunable, dflt string) bool {
	sp, ok := t.SpecialOf(dflt)
	return ok && sp.Rank > 0
}

// doublings counts how often a must be doubled (up) or halved to reach ref; 0 when it is there.
func doublings(a, ref float64, up bool) float64 {
	const least = 0.5 // stands for zero, one halving below the smallest positive count
	from, to := max(a, least), max(ref, least)
	if !up {
		from, to = to, from
	}
	if math.IsInf(to, 0) || math.IsInf(from, 0) || from >= to {
		return 0
	}
	return math.Log2(to / from)
}

func pick(up bool, lo, hi float64) float64 {
	if up {
		return lo
	}
	return hi
}

func wordDistance(t *tune.Tunable, have, want, dflt string) float64 {
	switch {
	case dflt == have:
		return 0
	case dflt == "":
		return insideLimit
	case isSpecial(t, have) && numeric(t) && !isSpecial(t, dflt):
		return sentinel
	case dflt == want:
		return wordBackToDefault
	}
	return wordElsewhere
}

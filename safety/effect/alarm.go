package effect

import (
	"math"
	"slices"
)

// Slot is one slot in time order, turned so that a larger reading is worse.
type Slot struct {
	Treated bool
	X       float64 // logarithm of the reading; NaN where it gave none
}

const (
	// besides are the untreated slots on each side that a treated one is held against.
	besides = 3
	// How far above them, in units of the noise between neighbours, the treated slots must lie: less
	// while it is known from few differences, since what is assumed of it then holds it up.
	overFew, overMany, many = 2.4, 3.0, 8
	// eachAbove is the part of it that each run must reach by itself.
	eachAbove = 0.75
	// beside is the part of it by which the slots next to a treated one may rise too; above that, a burst
	// reached into them.
	beside = 0.7
	// After early runs without an alarm one more is asked, for chance had many pairs by then, unless each
	// is clear: 2.7 times as high, and no untreated slot ever was.
	early, asked = 4, 3
	clear        = 1.0
	// chance is the most that as many runs in a row may have to be so high by themselves, as far as
	// untreated slots tell it.
	chance = 0.004
)

// Alarm reports plain harm at once, for what a [Sequence] needs many blocks to prove: each of the newest
// runs of treated slots ended far above the untreated slots around it: least (a logarithm) on average, and
// most of that each. A burst of load that reaches into an untreated neighbour is no harm, and one that
// does not would have to hit each of the runs. After the [early] runs one more is asked, and where
// untreated slots rise as far by themselves, as many as are not [byChance].
//
// It takes noise as it was among the untreated slots, so its errors are known by simulation alone
// (docs/statistics.md). Ask it when a run has ended: the slot after it shows whether the load fell too.
func Alarm(slots []Slot, least float64, runs int) bool {
	ends := runEnds(slots)
	need := excess(slots, least)
	sum, lowest := 0.0, math.Inf(1)
	for n := 1; n <= len(ends); n++ {
		by, ok := above(slots, ends[len(ends)-n])
		if !ok || by < eachAbove*need {
			return false
		}
		sum, lowest = sum+by, min(lowest, by)
		if n >= runs && sum >= need*float64(n) && !byChance(slots, lowest, n, len(ends) > early) {
			return true
		}
	}
	return false
}

// byChance reports that as many treated runs in a row may be that high by themselves: untreated slots rise
// as far above their own surroundings too often. Where none does, the noise alone decides.
func byChance(slots []Slot, by float64, runs int, late bool) bool {
	rose, all := 0, 0
	for i, s := range slots {
		if s.Treated || math.IsNaN(s.X) {
			continue
		}
		all++
		if own, ok := above(slots, i); ok && own >= by {
			rose++
		}
	}
	if late && runs < asked && (rose > 0 || by < clear) {
		return true
	}
	return rose > 0 && math.Pow(float64(rose+1)/float64(all+2), float64(runs)) > chance
}

// excess is what treated slots must lie above untreated ones on average.
func excess(slots []Slot, least float64) float64 {
	noise := newNoise(nil)
	for _, s := range slots {
		if !s.Treated {
			noise.add(s.X)
		}
	}
	over := overFew
	if len(noise.diffs) >= many {
		over = overMany
	}
	return max(least, over*noise.scale())
}

// Suspicious reports that the newest slot is treated and lies as far above the untreated slots before it
// as an [Alarm] asks of each run: reason enough to measure an untreated one next, not to judge.
func Suspicious(slots []Slot, least float64) bool {
	last := len(slots) - 1
	if last < 0 || !slots[last].Treated {
		return false
	}
	ref := untreated(slots, last, -1)
	return len(ref) > 0 && slots[last].X-median(ref) >= eachAbove*excess(slots, least)
}

// runEnds are the last slots of the runs of treated slots.
func runEnds(slots []Slot) []int {
	var ends []int
	for i, s := range slots {
		if s.Treated && (i+1 == len(slots) || !slots[i+1].Treated) {
			ends = append(ends, i)
		}
	}
	return ends
}

// above is how far a slot lies above the untreated ones around it. ok is false when the nearest of them
// went up with it, or there is nothing to hold it against.
func above(slots []Slot, at int) (by float64, ok bool) {
	before, after := untreated(slots, at, -1), untreated(slots, at, +1)
	around := slices.Concat(before, after)
	if len(around) < 2 || math.IsNaN(slots[at].X) {
		return 0, false
	}
	level := median(around)
	// What was before a long run is long ago: a load that grew meanwhile stays where it is after it.
	if long := at > 1 && slots[at].Treated && slots[at-1].Treated && slots[at-2].Treated; long && len(before)*len(after) > 0 {
		level = max(median(before), median(after))
	}
	by = slots[at].X - level
	for _, side := range [][]float64{before, after} {
		if len(side) > 0 && side[0]-level > beside*by {
			return 0, false
		}
	}
	return by, true
}

// untreated are the readings of the nearest untreated slots in one direction, nearest first.
func untreated(slots []Slot, from, step int) []float64 {
	var out []float64
	for i := from + step; i >= 0 && i < len(slots) && len(out) < besides; i += step {
		if !slots[i].Treated && !math.IsNaN(slots[i].X) {
			out = append(out, slots[i].X)
		}
	}
	return out
}

func median(x []float64) float64 {
	s := slices.Clone(x)
	slices.Sort(s)
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

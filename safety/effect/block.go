package effect

import (
	"math"
	"slices"
)

// Block is a group of slots in time order, of which some were treated at positions drawn uniformly. Only
// that draw is used, so any load, drift or burst may lie below the readings.
type Block struct {
	Treated []bool
	X       []float64 // logarithm of each slot's reading; NaN where it gave none
	// Forced slots at the beginning were not drawn: they are there to compare with, and prove nothing.
	Forced int
}

// complete reports that every slot has its reading. A block with a gap is left out whole: to leave out
// one slot of it would depend on the draw. [Missing] watches that gaps do not depend on it either.
func (b Block) complete() bool {
	return len(b.X) == len(b.Treated) && !slices.ContainsFunc(b.X, math.IsNaN)
}

// drawn reports whether the order could have been another.
func (b Block) drawn() bool {
	if b.Forced >= len(b.Treated) {
		return false
	}
	free := b.Treated[b.Forced:]
	return slices.Contains(free, true) && slices.Contains(free, false)
}

// reach is where one comparison of two slots ends to count, in units of the noise between neighbours: an
// outlier a hundred times as far says no more than that.
const reach = 3

// scored is a block made ready: shift is subtracted from the treated readings, then each slot is scored
// by the mean of its bounded distances to the others. The score treats all slots alike, is indifferent to
// the level of the block, and falls for treated slots as shift rises: [Sequence] needs all three.
type scored struct {
	Block
	scale  float64
	scores []float64 // scratch
}

func (b *scored) score(shift float64) []float64 {
	n := len(b.X)
	for i := range b.scores {
		b.scores[i] = 0
	}
	for i := range n {
		for j := range i {
			d := b.X[i] - b.X[j]
			if b.Treated[i] != b.Treated[j] {
				if b.Treated[i] {
					d -= shift
				} else {
					d += shift
				}
			}
			d = max(-reach, min(reach, d/b.scale)) / float64(n)
			b.scores[i] += d
			b.scores[j] -= d
		}
	}
	return b.scores
}

// logE is the logarithm of exp(lambda * sum of the treated scores) over its mean across all draws the
// block could have had, an elementary symmetric polynomial over a binomial coefficient. Its
// expectation over the draw is 1 when shift is the effect.
func (b *scored) logE(lambda float64, scores []float64) float64 {
	free := scores[b.Forced:]
	top := math.Inf(-1)
	for _, s := range free {
		top = max(top, lambda*s)
	}
	var room [32]float64
	poly := append(room[:0], 1) // poly[j]: sum over all choices of j slots, over their number so far
	k, sum := 0, 0.0
	for i, s := range free {
		poly = append(poly, 0)
		w := math.Exp(lambda*s - top)
		// The mean over the choices of j out of i+1: with the new slot, j of i+1; without it, the rest.
		for j := i + 1; j > 0; j-- {
			with := float64(j) / float64(i+1)
			poly[j] = with*w*poly[j-1] + (1-with)*poly[j]
		}
		if b.Treated[b.Forced+i] {
			k++
			sum += lambda*s - top
		}
	}
	return sum - math.Log(poly[k])
}

// balance is how far the treated scores lie above what any draw gives on average.
func (b *scored) balance(scores []float64) float64 {
	k, sum, all := 0, 0.0, 0.0
	for i, s := range scores {
		all += s
		if b.Treated[i] {
			k++
			sum += s
		}
	}
	return sum - all*float64(k)/float64(len(scores))
}

package effect

import (
	"math"
	"slices"
)

const (
	// leastNoise is the smallest difference believed to be more than the meter's own error: no meter is
	// better than 2 %.
	leastNoise = 0.02
	// assumedNoise holds until untreated slots have shown their own, and counts as much as assumedAs of
	// their differences.
	assumedNoise, assumedAs = 0.12, 3
	recent                  = 40 // differences remembered
	// bursts is the share of the largest differences taken for bursts of load, not noise.
	bursts = 5 // one in five
)

// noise estimates how far neighbouring untreated readings lie apart, as the standard deviation of a
// difference. It sees no treated reading, so it does not depend on the effect.
type noise struct {
	last  float64
	seen  bool
	diffs []float64 // squared
}

func newNoise(before []float64) *noise {
	n := &noise{}
	for _, x := range before {
		n.add(x)
	}
	return n
}

func (n *noise) add(x float64) {
	if math.IsNaN(x) {
		return
	}
	if n.seen {
		n.diffs = append(n.diffs, (x-n.last)*(x-n.last))
		n.diffs = n.diffs[max(0, len(n.diffs)-recent):]
	}
	n.last, n.seen = x, true
}

func (n *noise) scale() float64 {
	var room [recent]float64
	d := append(room[:0], n.diffs...)
	slices.Sort(d)
	kept := len(d) - len(d)/bursts
	sum := 0.0
	for _, v := range d[:kept] {
		sum += v
	}
	if kept < len(d) {
		sum /= trimmed(float64(kept) / float64(len(d)))
	}
	counted := float64(kept + assumedAs)
	return max(leastNoise, math.Sqrt((assumedAs*assumedNoise*assumedNoise+sum)/counted))
}

// trimmed is the mean square of standard normal noise below the quantile of its size.
func trimmed(share float64) float64 {
	q := math.Sqrt2 * math.Erfinv(share)
	return 1 - 2*q*math.Exp(-q*q/2)/math.Sqrt(2*math.Pi)/share
}

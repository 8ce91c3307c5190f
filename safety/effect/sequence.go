package effect

import "math"

// Side is the direction of a claim.
type Side int

// Above claims that the effect is larger than a value, Below that it is smaller.
const (
	Above Side = iota
	Below
)

// tilts are how strongly a block's scores count. Evidence is averaged over them, which costs at most the
// logarithm of their number and needs no guess of the size of effect and noise: the first is for effects
// below the noise between neighbours, the second for those above it, where each block says all it can. In
// simulations no larger set and no other weights were better (docs/statistics.md).
var tilts = [...]float64{1, 4}

// Sequence is the evidence of randomised blocks about one effect: the logarithm of the factor by which
// treatment multiplies a reading.
//
// For each value of the effect and each side there is an e-process: if the value is the effect, or lies
// farther on the claimed side's other hand, its expectation is at most 1 at every block, so that it ever
// reaches 1/alpha with probability at most alpha (Ville 1939). That holds for any number of looks and any
// rule of stopping, at block ends.
type Sequence struct {
	blocks []scored
	all    []scored // with those whose order was forced, for the estimate
	noise  float64
}

// New prepares the blocks, in time order. before are logarithms of untreated readings from earlier, oldest
// first: with them the first block knows the noise already.
func New(before []float64, blocks []Block) Sequence {
	slots := 0
	for _, b := range blocks {
		slots += len(b.X)
	}
	s := Sequence{all: make([]scored, 0, len(blocks)), blocks: make([]scored, 0, len(blocks))}
	scores := make([]float64, slots)
	noise := newNoise(before)
	for _, b := range blocks {
		if b.complete() {
			ready := scored{Block: b, scale: noise.scale(), scores: scores[:len(b.X)]}
			scores = scores[len(b.X):]
			s.all = append(s.all, ready)
			if b.drawn() {
				s.blocks = append(s.blocks, ready)
			}
		}
		for i, x := range b.X {
			if !b.Treated[i] {
				noise.add(x)
			}
		}
	}
	s.noise = noise.scale()
	return s
}

// Blocks is how many blocks give evidence.
func (s Sequence) Blocks() int { return len(s.blocks) }

// Noise is the standard deviation of the difference of two neighbouring untreated readings.
func (s Sequence) Noise() float64 { return s.noise }

// LogE is the logarithm of the evidence that the effect lies on the side of the value: at least log(1/a)
// refutes, at level a and whenever it is looked at, that it is the value or lies beyond it.
func (s Sequence) LogE(side Side, value float64) float64 {
	var sums [len(tilts)]float64
	for i := range s.blocks {
		b := &s.blocks[i]
		scores := b.score(value)
		for j, t := range tilts {
			if side == Below {
				t = -t
			}
			sums[j] += b.logE(t, scores)
		}
	}
	return logMean(sums[:])
}

func logMean(x []float64) float64 {
	top := math.Inf(-1)
	for _, v := range x {
		top = max(top, v)
	}
	sum := 0.0
	for _, v := range x {
		sum += math.Exp(v - top)
	}
	return top + math.Log(sum/float64(len(x)))
}

// farthest effect looked at, a factor of e^27; an edge is found to within a billionth.
const farthest, bisections = 27, 36

// Interval holds the effect at every block with a probability of at least 1-alpha. It reaches to
// [farthest] where the blocks say nothing yet.
func (s Sequence) Interval(alpha float64) (low, high float64) {
	need := math.Log(2 / alpha)
	low = edge(func(v float64) bool { return s.LogE(Above, v) >= need }, -farthest, farthest)
	high = -edge(func(v float64) bool { return s.LogE(Below, -v) >= need }, -farthest, farthest)
	return low, max(low, high)
}

// edge finds the last value that is refuted, from below; refuted falls as the value rises.
func edge(refuted func(float64) bool, from, to float64) float64 {
	if !refuted(from) {
		return from
	}
	for range bisections {
		mid := (from + to) / 2
		if refuted(mid) {
			from = mid
		} else {
			to = mid
		}
	}
	return from
}

// Known reports that there is a block to estimate from.
func (s Sequence) Known() bool { return len(s.all) > 0 }

// Estimate is the effect under which treated and untreated slots of each block lie level, also those
// whose order was forced; 0 where nothing is [Sequence.Known].
func (s Sequence) Estimate() float64 {
	if !s.Known() {
		return 0
	}
	return edge(s.Exceeds, -farthest, farthest)
}

// Exceeds reports that the [Sequence.Estimate] is larger than a value.
func (s Sequence) Exceeds(value float64) bool {
	sum := 0.0
	for i := range s.all {
		b := &s.all[i]
		sum += b.balance(b.score(value))
	}
	return sum > 0
}

package effect

import "math"

// Gaps says how blocks without all their readings stand to the draw.
type Gaps struct {
	Drawn    int // blocks whose order was drawn
	Complete int // of these, with all readings
	// LogE is the logarithm of the evidence that treated slots lack their reading more often than untreated
	// ones. An incomplete block is left out of a [Sequence], which is fair only while this is small.
	LogE float64
}

// Missing looks at the blocks that a [Sequence] leaves out.
func Missing(blocks []Block) Gaps {
	var g Gaps
	var sums [len(tilts)]float64
	for _, b := range blocks {
		if !b.drawn() {
			continue
		}
		g.Drawn++
		if b.complete() {
			g.Complete++
			continue
		}
		gaps := make([]float64, len(b.Treated))
		for i := range gaps {
			if i >= len(b.X) || math.IsNaN(b.X[i]) {
				gaps[i] = 1
			}
		}
		ready := scored{Block: b}
		for j, t := range tilts {
			sums[j] += ready.logE(t, gaps)
		}
	}
	g.LogE = logMean(sums[:])
	return g
}

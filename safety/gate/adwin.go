package gate

import "math"

// driftLevel is ADWIN's delta: over a window without change, the chance of a cut at one look is below it.
const driftLevel = 0.002

// fewestBeside is how many values each side of a cut needs: fewer say nothing about a mean.
const fewestBeside = 5

// driftCut tests values in [0,1], oldest first, for a change of their mean, and gives how many of the
// oldest to drop; 0 says that no split differs more than chance explains. The test is that of ADWIN
// (Bifet and Gavalda, Learning from Time-Changing Data with Adaptive Windowing, SDM 2007, section 3.2,
// with the variance form of the bound). The paper drops the oldest value until no split differs; here
// the cut is at the strongest split, which lies nearer to the change.
func driftCut(values []float64) int {
	n := len(values)
	if n < 2*fewestBeside {
		return 0
	}
	sum, squares := 0.0, 0.0
	for _, v := range values {
		sum += v
		squares += v * v
	}
	mean := sum / float64(n)
	variance := max(0, squares/float64(n)-mean*mean)
	doubt := math.Log(2 * float64(n) / driftLevel)
	best, at, left := 1.0, 0, 0.0
	for i := 1; i <= n-fewestBeside; i++ {
		left += values[i-1]
		if i < fewestBeside {
			continue
		}
		a, b := float64(i), float64(n-i)
		m := a * b / (a + b) // 1/(1/a + 1/b)
		bound := math.Sqrt(2/m*variance*doubt) + 2/(3*m)*doubt
		if strength := math.Abs(left/a-(sum-left)/b) / bound; strength > best {
			best, at = strength, i
		}
	}
	return at
}

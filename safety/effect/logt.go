package effect

import (
	"math"

	"gonum.org/v1/gonum/stat/distuv"
)

// Comparer is the seam of the statistics: everything that judges a stage asks it, and nothing else
// knows which test it is.
type Comparer interface {
	// Compare sets treated readings against untreated ones, all positive. ok is false when they are
	// too few to say anything: one pair alone never says anything.
	Compare(treated, untreated []float64) (c Comparison, ok bool)
}

// Comparison is the mean difference of logarithms, treated less untreated, and how well it is known.
type Comparison struct {
	Treated, Untreated int
	Log                float64 // logarithm of the ratio of geometric means
	SE, DF             float64
	// Gap is the distance between the two groups when no reading of one lies among the other's:
	// positive when every treated reading is larger, negative when every one is smaller, else 0.
	Gap float64
}

// Bounds gives the two-sided interval of the log ratio at a confidence such as 0.95.
func (c Comparison) Bounds(confidence float64) (low, high float64) {
	t := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: c.DF}.Quantile(0.5 + confidence/2)
	return c.Log - t*c.SE, c.Log + t*c.SE
}

// Consistent reports an effect so large and regular that two readings a side suffice to keep it: the
// groups lie apart by a factor of four or more.
func (c Comparison) Consistent() bool {
	return c.Treated >= 2 && c.Untreated >= 2 && math.Abs(c.Gap) >= math.Log(4)
}

// Enough reports whether there are readings enough to keep a change: three a side, or a Consistent effect.
func (c Comparison) Enough() bool {
	return c.Treated >= MinTreated && c.Untreated >= MinUntreated || c.Consistent()
}

// MinTreated and MinUntreated are the readings a side that a change is kept on.
const MinTreated, MinUntreated = 3, 3

const (
	// welchFrom is the group size from which each group's own spread is trusted. Below it the spread is
	// pooled: the spread of two readings is worth nothing by itself.
	welchFrom = 5
	// leastSpread is the smallest standard deviation of a logarithm believed: no meter is better than
	// 2 %, and a run of equal readings must not make the next hair's breadth significant.
	leastSpread = 0.02
)

// LogT compares by a t interval on the logarithms of slot values: Welch's from five readings a side,
// the pooled one below. It takes slots as independent, which interleaving makes roughly true, and is
// not corrected for repeated looks: callers ask for 99 % and more where they look after each slot.
type LogT struct{}

var _ Comparer = LogT{}

// Compare implements [Comparer].
func (LogT) Compare(treated, untreated []float64) (Comparison, bool) {
	nt, nu := len(treated), len(untreated)
	if nt < 1 || nu < 1 || nt+nu < 3 {
		return Comparison{}, false
	}
	mt, vt := logMoments(treated)
	mu, vu := logMoments(untreated)
	c := Comparison{Treated: nt, Untreated: nu, Log: mt - mu, Gap: gap(treated, untreated)}
	least := leastSpread * leastSpread
	ft, fu := float64(nt), float64(nu)
	if nt < welchFrom || nu < welchFrom {
		pooled := max(least, ((ft-1)*vt+(fu-1)*vu)/(ft+fu-2))
		c.SE, c.DF = math.Sqrt(pooled*(1/ft+1/fu)), ft+fu-2
		return c, true
	}
	a, b := max(least, vt)/ft, max(least, vu)/fu
	c.SE = math.Sqrt(a + b)
	c.DF = (a + b) * (a + b) / (a*a/(ft-1) + b*b/(fu-1))
	return c, true
}

// logMoments gives mean and sample variance of the logarithms; the variance of one reading is 0.
func logMoments(x []float64) (mean, variance float64) {
	for _, v := range x {
		mean += math.Log(v)
	}
	mean /= float64(len(x))
	if len(x) < 2 {
		return mean, 0
	}
	for _, v := range x {
		d := math.Log(v) - mean
		variance += d * d
	}
	return mean, variance / float64(len(x)-1)
}

func gap(treated, untreated []float64) float64 {
	lowT, highT := extremes(treated)
	lowU, highU := extremes(untreated)
	switch {
	case lowT > highU:
		return math.Log(lowT / highU)
	case highT < lowU:
		return math.Log(highT / lowU)
	}
	return 0
}

func extremes(x []float64) (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, v := range x {
		low, high = min(low, v), max(high, v)
	}
	return low, high
}

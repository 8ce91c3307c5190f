package effect

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestCompareNeedsMoreThanAPair(t *testing.T) {
	t.Parallel()
	if _, ok := (LogT{}).Compare([]float64{1}, []float64{100}); ok {
		t.Error("one pair said something")
	}
	if _, ok := (LogT{}).Compare(nil, []float64{1, 2, 3}); ok {
		t.Error("nothing treated said something")
	}
	c, ok := LogT{}.Compare([]float64{1}, []float64{10, 11})
	if !ok || c.Enough() {
		t.Errorf("one treated slot: %+v, ok %v", c, ok)
	}
	c, _ = LogT{}.Compare([]float64{1, 1.1}, []float64{10, 11})
	if !c.Enough() || !c.Consistent() {
		t.Errorf("nine times apart in each of two slots is not enough: %+v", c)
	}
	c, _ = LogT{}.Compare([]float64{1, 30}, []float64{10, 11})
	if c.Enough() {
		t.Error("two inconsistent slots are enough")
	}
}

// The interval at 95 % holds the truth in about 95 % of repetitions, with few and with many slots.
func TestIntervalCovers(t *testing.T) {
	t.Parallel()
	for _, n := range [][2]int{{2, 3}, {3, 9}, {6, 6}, {10, 30}} {
		r := rand.New(rand.NewPCG(uint64(n[0]), uint64(n[1])))
		draw := func(k int, mu float64) []float64 {
			x := make([]float64, k)
			for i := range x {
				x[i] = math.Exp(mu + 0.3*r.NormFloat64())
			}
			return x
		}
		covered, runs := 0, 2000
		for range runs {
			c, _ := LogT{}.Compare(draw(n[0], math.Log(2)), draw(n[1], 0))
			if low, high := c.Bounds(0.95); low <= math.Log(2) && math.Log(2) <= high {
				covered++
			}
		}
		if got := float64(covered) / float64(runs); got < 0.93 || got > 0.975 {
			t.Errorf("%d against %d slots: covered %.3f", n[0], n[1], got)
		}
	}
}

func TestEqualReadingsAreNotInfinitelySure(t *testing.T) {
	t.Parallel()
	c, _ := LogT{}.Compare([]float64{10, 10, 10}, []float64{10.1, 10.1, 10.1})
	if low, high := c.Bounds(0.95); low > 0 || high < 0 {
		t.Errorf("1 %% from constant readings is significant: %v %v", low, high)
	}
}

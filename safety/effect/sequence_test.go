package effect

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// draws lists every choice of k slots among m whose first forced ones are as given: treated.
func draws(m, k, forced int) [][]bool {
	var out [][]bool
	for mask := range 1 << m {
		treated := make([]bool, m)
		n := 0
		for i := range treated {
			treated[i] = mask>>i&1 == 1
			if treated[i] {
				n++
			}
		}
		ok := n == k
		for i := range forced {
			ok = ok && treated[i]
		}
		if ok {
			out = append(out, treated)
		}
	}
	return out
}

// outcome is what a block reads when each treated slot is multiplied by exp(by).
func outcome(load []float64, treated []bool, by float64, forced int) Block {
	b := Block{Treated: treated, X: append([]float64(nil), load...), Forced: forced}
	for i, on := range treated {
		if on {
			b.X[i] += by
		}
	}
	return b
}

// The heart of it: whatever the load, averaged over the draws that could have been, the evidence against
// the true effect is exactly 1, on both sides, also with a forced slot, and also over two blocks of which
// the second is scored by the noise of the first.
func TestEvidenceIsFairOverTheDraw(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for _, shape := range []struct{ m, k, forced int }{{2, 1, 0}, {4, 2, 0}, {4, 1, 0}, {5, 4, 0}, {4, 2, 1}, {3, 2, 1}, {6, 3, 1}} {
		for range 20 {
			load := func() []float64 { // bursts, drift, heavy tails: the draw knows nothing of it
				x := make([]float64, shape.m)
				for i := range x {
					x[i] = r.NormFloat64()*r.ExpFloat64() + float64(i)*r.NormFloat64()
				}
				return x
			}
			first, second, by := load(), load(), r.NormFloat64()
			all := draws(shape.m, shape.k, shape.forced)
			for _, side := range []Side{Above, Below} {
				one, two := 0.0, 0.0
				for _, a := range all {
					blockA := outcome(first, a, by, shape.forced)
					one += math.Exp(New(nil, []Block{blockA}).LogE(side, by))
					for _, b := range all {
						two += math.Exp(New(nil, []Block{blockA, outcome(second, b, by, shape.forced)}).LogE(side, by))
					}
				}
				n := float64(len(all))
				if one /= n; math.Abs(one-1) > 1e-9 {
					t.Errorf("%+v side %d: one block has mean %v", shape, side, one)
				}
				if two /= n * n; math.Abs(two-1) > 1e-9 {
					t.Errorf("%+v side %d: two blocks have mean %v", shape, side, two)
				}
			}
		}
	}
}

// From one value to a farther one the evidence only falls, so that refuting a value refutes all beyond it:
// that is what makes the claims "worse by more than the margin" and "better at all" hold.
func TestEvidenceIsMonotone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		number := rapid.Float64Range(-6, 6)
		var blocks []Block
		for range rapid.IntRange(1, 6).Draw(rt, "blocks") {
			m := rapid.IntRange(2, 7).Draw(rt, "size")
			b := Block{Treated: make([]bool, m), Forced: rapid.IntRange(0, 1).Draw(rt, "forced")}
			for i := range m {
				b.Treated[i] = rapid.Bool().Draw(rt, "treated")
				b.X = append(b.X, number.Draw(rt, "x"))
			}
			blocks = append(blocks, b)
		}
		s := New(nil, blocks)
		low := number.Draw(rt, "low")
		high := low + rapid.Float64Range(0, 3).Draw(rt, "step")
		if s.LogE(Above, high) > s.LogE(Above, low)+1e-9 {
			rt.Fatalf("more evidence for above %v than for above %v", high, low)
		}
		if s.LogE(Below, low) > s.LogE(Below, high)+1e-9 {
			rt.Fatalf("more evidence for below %v than for below %v", low, high)
		}
		if from, to := s.Interval(0.05); s.Estimate() < from-1e-6 || s.Estimate() > to+1e-6 {
			rt.Fatalf("estimate %v outside its interval %v to %v", s.Estimate(), from, to)
		}
	})
}

// noisy is a load with AR(1) noise, drift and bursts.
func noisy(r *rand.Rand, n int, sd, rho float64) []float64 {
	x := make([]float64, n)
	e := r.NormFloat64()
	for i := range x {
		e = rho*e + math.Sqrt(1-rho*rho)*r.NormFloat64()
		x[i] += sd*e + 0.01*float64(i)
		if r.Float64() < 0.03 {
			for j := i; j < min(n, i+3); j++ {
				x[j]++
			}
		}
	}
	return x
}

func drawPairs(r *rand.Rand, load []float64, by float64) []Block {
	var out []Block
	for i := 0; i+2 <= len(load); i += 2 {
		first := r.IntN(2) == 0
		out = append(out, outcome(load[i:i+2], []bool{first, !first}, by, 0))
	}
	return out
}

// The interval may be looked at after every pair, and by somebody who stops when it suits him.
func TestIntervalHoldsAtEveryLook(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	const runs, truth = 400, -0.2
	missed, width := 0, 0.0
	for range runs {
		blocks := drawPairs(r, noisy(r, 80, 0.1, 0.5), truth)
		miss := false
		for n := 1; n <= len(blocks) && !miss; n++ {
			s := New(nil, blocks[:n])
			need := math.Log(2 / 0.05)
			miss = s.LogE(Above, truth) >= need || s.LogE(Below, truth) >= need
		}
		if miss {
			missed++
		}
		low, high := New(nil, blocks).Interval(0.05)
		width += (high - low) / runs
	}
	if missed > runs*5/100 {
		t.Errorf("missed in %d of %d runs at some look", missed, runs)
	}
	if width > 0.25 {
		t.Errorf("40 pairs at 10 %% noise give an interval %.2f wide", width)
	}
}

func TestOneOutlierDoesNotDrownTheRest(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 6))
	load := make([]float64, 40)
	for i := range load {
		load[i] = 0.05 * r.NormFloat64()
	}
	blocks := drawPairs(r, load, -0.3)
	for i, on := range blocks[7].Treated { // a hundredfold burst in one treated slot
		if on {
			blocks[7].X[i] += math.Log(100)
		}
	}
	s := New(nil, blocks)
	if low, high := s.Interval(0.05); high >= 0 || low < -0.45 || math.Abs(s.Estimate()+0.3) > 0.05 {
		t.Errorf("estimate %.3f, interval %.3f to %.3f", s.Estimate(), low, high)
	}
}

func TestEqualReadingsAreNotInfinitelySure(t *testing.T) {
	t.Parallel()
	var blocks []Block
	for range 20 {
		blocks = append(blocks, Block{Treated: []bool{true, false}, X: []float64{0.002, 0}})
	}
	if low, high := New(nil, blocks).Interval(0.05); low > 0 || high < 0.002 {
		t.Errorf("0.2 %% from constant readings is significant: %v to %v", low, high)
	}
}

func TestNothingIsSaidWithoutADraw(t *testing.T) {
	t.Parallel()
	forced := Block{Treated: []bool{true, false, false}, X: []float64{5, 0, 0}, Forced: 1}
	gap := Block{Treated: []bool{true, false}, X: []float64{math.NaN(), 0}}
	for name, blocks := range map[string][]Block{"none": nil, "forced": {forced, forced}, "gap": {gap}} {
		s := New(nil, blocks)
		if s.Blocks() != 0 || s.LogE(Above, 0) != 0 {
			t.Errorf("%s: %d blocks say %v", name, s.Blocks(), s.LogE(Above, 0))
		}
		if low, high := s.Interval(0.05); low != -farthest || high != farthest {
			t.Errorf("%s: interval %v to %v", name, low, high)
		}
		if s.Known() != (name == "forced") {
			t.Errorf("%s: known is %v", name, s.Known())
		}
	}
}

func TestMissing(t *testing.T) {
	t.Parallel()
	nan := math.NaN()
	treated := Block{Treated: []bool{true, false}, X: []float64{nan, 0}}
	untreated := Block{Treated: []bool{true, false}, X: []float64{0, nan}}
	whole := Block{Treated: []bool{false, true}, X: []float64{0, 0}}
	if g := Missing([]Block{treated, treated, treated, whole}); g.LogE < math.Log(4) || g.Drawn != 4 || g.Complete != 1 {
		t.Errorf("only treated slots miss: %+v", g)
	}
	if g := Missing([]Block{treated, untreated, treated, untreated, whole}); g.LogE > 0 {
		t.Errorf("both miss alike: %+v", g)
	}
}

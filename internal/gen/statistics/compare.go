package main

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"

	"semantos/safety/effect"
)

const (
	compareRuns = 400
	pairs       = 32
	// perSide is the error of each side of one of three metrics.
	perSide = 0.05 / 6
)

// writeComparison sets the evidence against what else could judge 32 pairs of slots.
func writeComparison(w io.Writer) error {
	cases := []struct {
		ratio, cv, ar float64
		bursts        bool
	}{
		{1, 0.1, 0, false}, {1, 0.1, 0.5, true}, {1, 0.3, 0.9, true},
		{0.9, 0.1, 0.5, false}, {0.8, 0.1, 0.5, true}, {0.8, 0.2, 0.5, false}, {0.8, 0.2, 0.5, true}, {0.8, 0.4, 0.5, false}, {0.5, 0.4, 0.5, true},
	}
	lines := make([]string, len(cases))
	err := parallel(len(cases), func(i int) error {
		c := cases[i]
		rng := rand.New(rand.NewPCG(uint64(i), 11))
		var t, once, ours float64
		for range compareRuns {
			x, first := drawn(rng, c.ratio, c.cv, c.ar, c.bursts)
			t += said(tAnyLook(x, first))
			once += said(randomisation(rng, x, first))
			ours += said(evidence(x, first))
		}
		claim := "claims an effect, wrongly"
		if c.ratio < 1 {
			claim = "finds it"
		}
		burst := ""
		if c.bursts {
			burst = ", bursts"
		}
		lines[i] = fmt.Sprintf("| x%.1f, noise %.0f %%, AR %.1f%s | %s | %.1f %% | %.1f %% | %.1f %% |\n", c.ratio, 100*c.cv, c.ar, burst, claim,
			100*t/compareRuns, 100*once/compareRuns, 100*ours/compareRuns)
		return nil
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "\nThe same %d pairs judged three ways, %d times each: by the t interval on logarithms of the first version\n(99 %%, looked at after every slot), by a plain randomisation test (looked at once, after the last pair), and by\nthe evidence above (looked at after every pair). The last two are held to the same %.2f %% a side.\n\n", pairs, compareRuns, 100*perSide)
	fmt.Fprint(w, "| effect and noise | share of runs that | t interval | randomisation test, once | evidence, any time |\n| --- | --- | --- | --- | --- |\n")
	for _, l := range lines {
		fmt.Fprint(w, l)
	}
	return nil
}

func said(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// drawn gives pairs of logarithms in time order, the first slot of a pair treated where first says so.
func drawn(rng *rand.Rand, ratio, cv, ar float64, bursts bool) (x []float64, first []bool) {
	e, left, height := rng.NormFloat64(), 0, 0.0
	for i := range 2 * pairs {
		e = ar*e + math.Sqrt(1-ar*ar)*rng.NormFloat64()
		v := cv*e + 0.5*math.Sin(math.Pi*float64(i)/64)
		if left--; bursts && left < 0 && rng.Float64() < 0.025 {
			left, height = rng.IntN(3), math.Log(2+3*rng.Float64())
		}
		if bursts && left >= 0 {
			v += height
		}
		x = append(x, v)
	}
	for i := range pairs {
		f := rng.IntN(2) == 0
		first = append(first, f)
		at := 2*i + 1
		if f {
			at = 2 * i
		}
		x[at] += math.Log(ratio)
	}
	return x, first
}

// tAnyLook is Welch's interval at 99 % (pooled below five a side), asked after every slot.
func tAnyLook(x []float64, first []bool) bool {
	var t, u []float64
	for i, v := range x {
		if first[i/2] == (i%2 == 0) {
			t = append(t, v)
		} else {
			u = append(u, v)
		}
		nt, nu := float64(len(t)), float64(len(u))
		if nt < 3 || nu < 3 {
			continue
		}
		vt, vu := max(0.0004, stat.Variance(t, nil)), max(0.0004, stat.Variance(u, nil))
		se, df := math.Sqrt(vt/nt+vu/nu), 0.0
		if nt < 5 || nu < 5 {
			se, df = math.Sqrt(((nt-1)*vt+(nu-1)*vu)/(nt+nu-2)*(1/nt+1/nu)), nt+nu-2
		} else {
			df = (vt/nt + vu/nu) * (vt/nt + vu/nu) / (vt*vt/nt/nt/(nt-1) + vu*vu/nu/nu/(nu-1))
		}
		if math.Abs(stat.Mean(t, nil)-stat.Mean(u, nil)) > se*(distuv.StudentsT{Sigma: 1, Nu: df}).Quantile(0.995) {
			return true
		}
	}
	return false
}

// randomisation draws the order of every pair anew and asks how often the difference is as large.
func randomisation(rng *rand.Rand, x []float64, first []bool) bool {
	const redraws = 1200
	d := make([]float64, pairs)
	sum := 0.0
	for i := range d {
		if d[i] = x[2*i] - x[2*i+1]; !first[i] {
			d[i] = -d[i]
		}
		sum += d[i]
	}
	above, below := 1, 1
	for range redraws {
		s := 0.0
		bits := rng.Uint64()
		for _, v := range d {
			if bits&1 == 0 {
				v = -v
			}
			s, bits = s+v, bits>>1
		}
		if s >= sum {
			above++
		}
		if s <= sum {
			below++
		}
	}
	return float64(min(above, below))/(redraws+1) <= perSide
}

func evidence(x []float64, first []bool) bool {
	var blocks []effect.Block
	for i, f := range first {
		blocks = append(blocks, effect.Block{Treated: []bool{f, !f}, X: x[2*i : 2*i+2]})
		s := effect.New(nil, blocks)
		if need := math.Log(1 / perSide); s.LogE(effect.Above, 0) >= need || s.LogE(effect.Below, 0) >= need {
			return true
		}
	}
	return false
}

package main

import (
	"fmt"
	"io"
	"sort"
	"sync"
	"time"

	"semantos/safety/simulate"
)

const (
	promiseRuns  = 800 // of each promise, over all kinds of noise
	coverageRuns = 400
	noiseRuns    = 100 // of each point of the plot
)

// parallel does n jobs on two workers; each writes its own result, so the order does not matter.
func parallel(n int, do func(i int) error) error {
	jobs := make(chan int)
	errs := make(chan error, n)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := range jobs {
				errs <- do(i)
			}
		})
	}
	for i := range n {
		jobs <- i
	}
	close(jobs)
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func writeTables(w io.Writer) ([]point, error) {
	if err := writePromises(w); err != nil {
		return nil, err
	}
	if err := writeCoverage(w); err != nil {
		return nil, err
	}
	points, err := measure()
	if err != nil {
		return nil, err
	}
	writePoints(w, points)
	if err := writeNoisy(w); err != nil {
		return nil, err
	}
	return points, writeComparison(w)
}

func writePromises(w io.Writer) error {
	promises := simulate.Promises()
	lines := make([]string, len(promises))
	err := parallel(len(promises), func(i int) error {
		p := promises[i]
		var kinds []simulate.Kind
		for _, k := range simulate.Kinds() {
			if k.Load.Bursts == 0 || p.Bursts {
				kinds = append(kinds, k)
			}
		}
		runs, sum, worst, where := promiseRuns/len(kinds), 0.0, -1.0, ""
		for _, k := range kinds {
			got, err := simulate.Share(p.Setting, p.Load.Amid(k.Load), runs, p.Is)
			if err != nil {
				return err
			}
			sum += got
			if bad := max(got, 0); p.Least > 0 {
				if bad = 1 - got; bad > worst {
					worst, where = bad, fmt.Sprintf("%.1f %% (%s)", 100*got, k.Name)
				}
			} else if bad > worst {
				worst, where = bad, fmt.Sprintf("%.1f %% (%s)", 100*got, k.Name)
			}
		}
		want := fmt.Sprintf("at most %.4g %%", 100*p.Most)
		if p.Least > 0 {
			want = fmt.Sprintf("at least %.4g %%", 100*p.Least)
		}
		lines[i] = fmt.Sprintf("| %s | %s | %.2f %% | %s |\n", p.Name, want, 100*sum/float64(len(kinds)), where)
		return nil
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "\nAt a noise of 10 %% (CV of one slot), %d rollouts each through the real planner and `Step`:\n\n", promiseRuns)
	fmt.Fprint(w, "| of all rollouts | promised | simulated | worst kind of noise |\n| --- | --- | --- | --- |\n")
	for _, l := range lines {
		fmt.Fprint(w, l)
	}
	return nil
}

func writeCoverage(w io.Writer) error {
	effects, cvs := []float64{0.9, 0.85, 0.8, 0.6, 0.3}, []float64{0.1, 0.3}
	cells := make([]string, len(effects)*len(cvs))
	err := parallel(len(cells), func(i int) error {
		kept, holds, runs := 0, 0, 0
		for _, k := range simulate.Kinds() {
			k.Load.CV = cvs[i%len(cvs)]
			n := coverageRuns / 8
			a, b, err := simulate.Covered(effects[i/len(cvs)], k.Load, n)
			if err != nil {
				return err
			}
			kept, holds, runs = kept+a, holds+b, runs+n
		}
		cells[i] = fmt.Sprintf("%.1f %% of %d kept", 100*float64(holds)/float64(max(1, kept)), kept)
		return nil
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "\nHow often the reported interval (95 %%) holds the true ratio, among what was kept of %d:\n\n", coverageRuns)
	fmt.Fprint(w, "| true ratio | noise 10 % | noise 30 % |\n| --- | --- | --- |\n")
	for i, e := range effects {
		fmt.Fprintf(w, "| %.2f | %s | %s |\n", e, cells[2*i], cells[2*i+1])
	}
	return nil
}

// point is what happens at one noise.
type point struct {
	cv, ar float64
	shares [len(curves)]float64
	half   time.Duration // median time in which a change better by a half is kept; 0: it is not
}

type curve struct {
	name   string
	load   simulate.Load
	bursts bool
	is     func(simulate.Outcome) bool
	power  bool // high is good
	colour string
}

func kept(o simulate.Outcome) bool { return o.Kept() }

var curves = [...]curve{
	{"equal, judged worse", simulate.Load{P95: 1, Throughput: 1}, true, simulate.Outcome.Worse, false, "#c0392b"},
	{"equal, kept", simulate.Load{P95: 1, Throughput: 1}, true, kept, false, "#7f8c8d"},
	{"a tenth worse, kept", simulate.Load{P95: 1.1, Throughput: 1}, true, kept, false, "#d68910"},
	{"a fifth better, kept", simulate.Load{P95: 0.8, Throughput: 1}, true, kept, true, "#1f618d"},
	{"twice as good, kept", simulate.Load{P95: 0.5, Throughput: 1}, true, kept, true, "#1e8449"},
	{"twice as bad, undone in two treated slots", simulate.Load{P95: 2, Throughput: 1}, false,
		func(o simulate.Outcome) bool { return o.Worse() && o.Treated <= 2 }, true, "#7d3c98"},
	{"twice as bad, judged worse", simulate.Load{P95: 2, Throughput: 1}, false, simulate.Outcome.Worse, true, "#a04000"},
}

var noises = [...]float64{0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8}

func measure() ([]point, error) {
	var points []point
	for _, ar := range []float64{0, 0.5} {
		for _, cv := range noises {
			points = append(points, point{cv: cv, ar: ar})
		}
	}
	err := parallel(len(points)*len(curves), func(i int) error {
		p, n := &points[i/len(curves)], i%len(curves)
		c := curves[n]
		load := c.load
		load.CV, load.AR, load.Ramp = p.cv, p.ar, 0.7
		if c.bursts {
			load.Bursts = 0.025
		}
		var took []time.Duration
		for seed := range noiseRuns {
			o, err := simulate.Play(simulate.Defaults(), load, uint64(seed))
			if err != nil {
				return err
			}
			if c.is(o) {
				took = append(took, o.Took)
			}
		}
		p.shares[n] = float64(len(took)) / noiseRuns
		if c.name == "twice as good, kept" && 2*len(took) > noiseRuns {
			sort.Slice(took, func(i, j int) bool { return took[i] < took[j] })
			p.half = took[noiseRuns/2]
		}
		return nil
	})
	return points, err
}

func writePoints(w io.Writer, points []point) {
	fmt.Fprintf(w, "\nAgainst the noise, amid a load ramp by a factor of two and (except for what is twice as bad) bursts, %d\nrollouts each:\n\n![errors and power against the noise](%s)\n", noiseRuns, picture)
	for _, ar := range []float64{0, 0.5} {
		fmt.Fprintf(w, "\nAutocorrelation %.1f:\n\n| noise |", ar)
		for _, c := range curves {
			fmt.Fprintf(w, " %s |", c.name)
		}
		fmt.Fprint(w, " twice as good: median time |\n|")
		for range len(curves) + 2 {
			fmt.Fprint(w, " --- |")
		}
		fmt.Fprintln(w)
		for _, p := range points {
			if p.ar != ar {
				continue
			}
			fmt.Fprintf(w, "| %.0f %% |", 100*p.cv)
			for _, s := range p.shares {
				fmt.Fprintf(w, " %.1f %% |", 100*s)
			}
			if p.half > 0 {
				fmt.Fprintf(w, " %.0f s |\n", p.half.Seconds())
			} else {
				fmt.Fprint(w, " - |\n")
			}
		}
	}
}

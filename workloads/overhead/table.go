package main

import (
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"text/tabwriter"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// interval is mean and 95 % interval by Student's t.
func interval(x []float64) (mean, low, high float64) {
	mean, sd := stat.MeanStdDev(x, nil)
	n := float64(len(x))
	half := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: n - 1}.Quantile(0.975) * sd / math.Sqrt(n)
	return mean, mean - half, mean + half
}

func showProbes(all map[string]probe) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "probe\tcounts\tshare of all CPUs\tlost events")
	sum := 0.0
	for _, name := range slices.Sorted(maps.Keys(all)) {
		p := all[name]
		if p.up == 0 {
			continue
		}
		sum += p.share
		fmt.Fprintf(w, "%s\t%.0f %% of the time\t%.3f %%\t%.0f\n", name, 100*p.duty, 100*p.share, p.lost)
	}
	fmt.Fprintf(w, "together\t\t%.3f %%\t\n", 100*sum)
	w.Flush()
}

package main

import (
	"fmt"
	"io"
	"time"

	"semantos/safety/simulate"
)

const noisyRuns = 200

// writeNoisy tells what the alarm does beyond the promised noise, in short trials and in usual ones.
func writeNoisy(w io.Writer) error {
	kinds, err := simulate.Noisy()
	if err != nil {
		return err
	}
	quick := func(o simulate.Outcome) bool { return o.Worse() && o.Treated <= 2 }
	columns := []struct {
		name  string
		load  simulate.Load
		stage time.Duration
		is    func(simulate.Outcome) bool
	}{
		{"equal, judged worse, stages of 5 s", simulate.Load{P95: 1, Throughput: 1}, 5 * time.Second, simulate.Outcome.Worse},
		{"of 15 s", simulate.Load{P95: 1, Throughput: 1}, 15 * time.Second, simulate.Outcome.Worse},
		{"twice as bad, undone in two treated slots, 15 s", simulate.Load{P95: 2, Throughput: 1}, 15 * time.Second, quick},
		{"six times as bad, the same", simulate.Load{P95: 6, Throughput: 1}, 15 * time.Second, quick},
	}
	cells := make([]float64, len(kinds)*len(columns))
	err = parallel(len(cells), func(i int) error {
		c, set := columns[i%len(columns)], simulate.Defaults()
		set.Stage, set.Set = c.stage, true
		var err error
		cells[i], err = simulate.Share(set, c.load.Amid(kinds[i/len(columns)].Load), noisyRuns, c.is)
		return err
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "\nBeyond the promised noise, with `--set`, %d rollouts each. The long tail has 3 %% of its slots more than 2.5 times as\nhigh as the median; what was recorded is replayed from a random second on, as whole as it was read:\n\n| noise |", noisyRuns)
	for _, c := range columns {
		fmt.Fprintf(w, " %s |", c.name)
	}
	fmt.Fprint(w, "\n| --- | --- | --- | --- | --- |\n")
	for i, k := range kinds {
		fmt.Fprintf(w, "| %s |", k.Name)
		for j := range columns {
			fmt.Fprintf(w, " %.1f %% |", 100*cells[i*len(columns)+j])
		}
		fmt.Fprintln(w)
	}
	return nil
}

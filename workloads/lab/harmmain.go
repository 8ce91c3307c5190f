package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"

	"semantos/workloads"
)

// harmAll feeds harmful candidates to semantos and prints what each cost.
func harmAll(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("lab harm", flag.ContinueOnError)
	semantos := set.String("semantos", "./semantos", "the binary under test")
	disk := set.String("disk", "/var/tmp", "where images of loop devices lie")
	stage := set.Duration("stage-time", 0, "of every stage; by default the shortest of which 5 % hold a slot")
	runs := set.Int("runs", 1, "of each candidate")
	equal := set.Bool("equal", false, "feed a value that changes nothing to speak of: it must not end as worse")
	serve := set.Bool("serve", false, "apply through a running serve")
	asJSON := set.Bool("json", false, "print the reports as JSON")
	if err := set.Parse(args); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	reports, failed := []harmReport{}, 0
	for _, c := range candidates() {
		for range *runs {
			if !wanted(c.name, set.Args()) {
				continue
			}
			fmt.Fprintf(os.Stderr, "%s: %s\n", c.name, c.says)
			h := &harmTrial{candidate: c, semantos: *semantos, disk: *disk, self: self, stage: *stage, equal: *equal,
				serve: *serve, log: os.Stderr}
			r, err := h.run(ctx)
			if err != nil {
				return fmt.Errorf("candidate %s: %w", c.name, err)
			}
			reports = append(reports, r)
			failed += len(r.Problems)
		}
	}
	return conclude(reports, *asJSON, harmTable, failed)
}

func harmTable(reports []harmReport) {
	fmt.Println(rowHead)
	for _, r := range reports {
		fmt.Println(r.row())
	}
	for _, r := range reports {
		for _, p := range r.Problems {
			fmt.Printf("%s: problem: %s\n", r.Candidate, p)
		}
	}
}

func readSamples(file string) ([]workloads.Sample, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read samples: %w", err)
	}
	defer f.Close()
	var out []workloads.Sample
	scan := bufio.NewScanner(f)
	for scan.Scan() {
		var s workloads.Sample
		if err := json.Unmarshal(scan.Bytes(), &s); err != nil {
			return nil, fmt.Errorf("read samples: %w", err)
		}
		out = append(out, s)
	}
	return out, scan.Err()
}

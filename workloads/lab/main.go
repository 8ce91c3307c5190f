package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"semantos/workloads"
	"semantos/workloads/datagram"
	"semantos/workloads/web"
)

const usage = `usage: lab run [--semantos PATH] [--disk DIR] [--rounds N] [--auto] [--json] [SCENARIO...]
       lab healthy [--semantos PATH] [--for TIME]   serve on a host that is well must try nothing
       lab harm [--semantos PATH] [--disk DIR] [--stage-time TIME] [--runs N] [--equal] [--serve] [--json] [CANDIDATE...]
       lab watch FILE         print each change of a file's text
       lab meter FILE         print the next sample of a running load as a semantos cmd: meter
       lab probe PORT TIME    one client's view of a web server
       lab receive PORT       a UDP receiver that works in batches`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := dispatch(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

func dispatch(ctx context.Context, args []string) error {
	switch {
	case len(args) >= 1 && args[0] == "run":
		return runAll(ctx, args[1:])
	case len(args) >= 1 && args[0] == "healthy":
		return leaveAlone(ctx, args[1:])
	case len(args) >= 1 && args[0] == "harm":
		return harmAll(ctx, args[1:])
	case len(args) == 2 && args[0] == "watch":
		return watch(ctx, args[1])
	case len(args) == 2 && args[0] == "meter":
		return meter(ctx, args[1])
	case len(args) == 3 && args[0] == "probe":
		port, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		d, err := time.ParseDuration(args[2])
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(web.Probe(ctx, port, d))
	case len(args) == 2 && args[0] == "receive":
		port, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		return datagram.Receive(ctx, port, os.Stdout)
	}
	return fmt.Errorf("%s", usage)
}

func runAll(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("lab run", flag.ContinueOnError)
	semantos := set.String("semantos", "./semantos", "the binary under test")
	disk := set.String("disk", "/var/tmp", "where fio's file lies")
	rounds := set.Int("rounds", 3, "fresh measurements per cost")
	auto := set.Bool("auto", false, "leave `semantos serve` alone with AUTO_APPLY=on in place of recommend and apply")
	asJSON := set.Bool("json", false, "print the reports as JSON")
	if err := set.Parse(args); err != nil {
		return err
	}
	dev, err := blockDevice(*disk)
	if err != nil {
		return err
	}
	var reports []report
	failed := 0
	for _, s := range scenarios(dev) {
		if !wanted(s.name, set.Args()) {
			continue
		}
		r, err := live(ctx, s, options{*semantos, *disk, *rounds, *auto})
		if err != nil {
			return fmt.Errorf("scenario %s: %w", s.name, err)
		}
		reports = append(reports, r)
		failed += len(r.Problems)
	}
	return conclude(reports, *asJSON, table, failed)
}

// conclude prints what was found, and turns problems into the exit status.
func conclude[R any](reports []R, asJSON bool, table func([]R), failed int) error {
	if asJSON {
		if err := json.NewEncoder(os.Stdout).Encode(reports); err != nil {
			return err
		}
	} else {
		table(reports)
	}
	if failed > 0 {
		return fmt.Errorf("%d problem(s)", failed)
	}
	return nil
}

func leaveAlone(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("lab healthy", flag.ContinueOnError)
	semantos := set.String("semantos", "./semantos", "the binary under test")
	d := set.Duration("for", time.Hour, "how long")
	if err := set.Parse(args); err != nil {
		return err
	}
	problems, err := healthy(ctx, *semantos, *d)
	if err != nil {
		return err
	}
	for _, p := range problems {
		fmt.Println("problem:", p)
	}
	if len(problems) > 0 {
		return fmt.Errorf("%d problem(s)", len(problems))
	}
	fmt.Printf("nothing was tried and nothing changed in %s\n", *d)
	return nil
}

func wanted(name string, names []string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return len(names) == 0
}

type options struct {
	semantos, disk string
	rounds         int
	auto           bool
}

// live makes the scratch places of one trial, runs it and removes them.
func live(ctx context.Context, s scenario, o options) (report, error) {
	dir, err := os.MkdirTemp("", "semantos-lab-")
	if err != nil {
		return report{}, err
	}
	defer os.RemoveAll(dir)
	scratch, err := os.MkdirTemp(o.disk, "semantos-lab-")
	if err != nil {
		return report{}, err
	}
	defer os.RemoveAll(scratch)
	self, err := os.Executable()
	if err != nil {
		return report{}, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return report{}, err
	}
	fmt.Fprintf(os.Stderr, "%s: %s\n", s.name, s.says)
	t := &trial{scenario: s, env: env{dir: dir, disk: scratch, self: self}, semantos: o.semantos,
		dataDir: dir + "/data", rounds: o.rounds, auto: o.auto, log: os.Stderr}
	return t.run(ctx)
}

func table(reports []report) {
	fmt.Printf("%-10s %10s %10s %10s %7s %6s %6s  %s\n", "scenario", "good ms", "bad ms", "after ms", "closed", "rec s", "app s", "state")
	for _, r := range reports {
		fmt.Printf("%-10s %10.2f %10.2f %10.2f %6.0f%% %6.1f %6.1f  %s %s\n", r.Scenario, r.Good, r.Bad, r.After,
			100*r.Gap, r.Seconds, r.ApplyS, r.State, r.Reason)
		for _, p := range r.Problems {
			fmt.Printf("           problem: %s\n", p)
		}
	}
}

// meter waits for the first sample of a driven load that began after the call.
func meter(ctx context.Context, file string) error {
	start := time.Now()
	for ctx.Err() == nil {
		f, err := os.Open(file)
		if err != nil {
			return fmt.Errorf("read samples: %w", err)
		}
		scan := bufio.NewScanner(f)
		for scan.Scan() {
			var s workloads.Sample
			if json.Unmarshal(scan.Bytes(), &s) == nil && s.Start.After(start) {
				f.Close()
				fmt.Printf("%.4f,%.4f,%.3f,%.1f\n", s.MedianMS, s.P95MS, s.Throughput, 1e4*s.Lost)
				return nil
			}
		}
		f.Close()
		time.Sleep(50 * time.Millisecond)
	}
	return ctx.Err()
}

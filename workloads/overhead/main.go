package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

const usage = `usage: overhead [--semantos PATH] [--rounds N] [--slot TIME] [--compare]
       overhead storm TIME     call getpid for TIME and print calls per second`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if len(os.Args) == 3 && os.Args[1] == "storm" {
		err = storm(os.Args[2])
	} else {
		err = run(ctx, os.Args[1:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "overhead:", err)
		os.Exit(1)
	}
}

type options struct {
	semantos string
	rounds   int
	slot     time.Duration
	compare  bool
}

func run(ctx context.Context, args []string) error {
	var o options
	set := flag.NewFlagSet("overhead", flag.ContinueOnError)
	set.Usage = func() { fmt.Fprintln(os.Stderr, usage) }
	set.StringVar(&o.semantos, "semantos", "./semantos", "the binary under test")
	set.IntVar(&o.rounds, "rounds", 6, "pairs of slots, probes on and off in random order")
	set.DurationVar(&o.slot, "slot", 5*time.Second, "how long each slot measures")
	set.BoolVar(&o.compare, "compare", false, "run bpftrace's run-queue and block latency beside ours")
	if err := set.Parse(args); err != nil {
		return err
	}
	if o.rounds < 2 || set.NArg() > 0 {
		return fmt.Errorf("%s", usage)
	}
	for _, l := range []load{&web{}, &syscalls{}} {
		if err := measure(ctx, l, o); err != nil {
			return fmt.Errorf("load %s: %w", l.name(), err)
		}
	}
	if o.compare {
		return compare(ctx, o)
	}
	return nil
}

// settle is what the probes' keeper gets to learn the costs before a slot counts.
const settle = 6 * time.Second

// measure runs the pairs of one load and prints its tables.
func measure(ctx context.Context, l load, o options) error {
	if err := l.start(ctx); err != nil {
		return err
	}
	defer l.stop()
	r := rand.New(rand.NewPCG(uint64(os.Getpid()), 1))
	var ratios, agent, idle, serve, guard []float64
	var last map[string]probe
	var rate float64
	for round := range o.rounds {
		got := map[string]float64{}
		modes := []string{"off", "auto"}
		r.Shuffle(2, func(i, j int) { modes[i], modes[j] = modes[j], modes[i] })
		for _, mode := range modes {
			s, err := observe(ctx, l, o, mode)
			if err != nil {
				return err
			}
			got[mode] = s.throughput
			if mode == "auto" {
				agent, last, rate = append(agent, s.cpu), s.probes, s.throughput
				serve, guard = append(serve, s.serve), append(guard, s.guard)
			} else {
				idle = append(idle, s.cpu)
			}
		}
		ratios = append(ratios, got["auto"]/got["off"])
		fmt.Fprintf(os.Stderr, "%s %d of %d: %.0f/s with probes, %.0f/s without\n", l.name(), round+1, o.rounds, got["auto"], got["off"])
	}
	mean, low, high := interval(ratios)
	fmt.Printf("\n%s: %.0f %s per second with probes; throughput with over without %.3f (95 %%: %.3f to %.3f, %d pairs)\n",
		l.name(), rate, l.unit(), mean, low, high, len(ratios))
	a, alow, ahigh := interval(agent)
	without, _, _ := interval(idle)
	fmt.Printf("semantos itself, serve and guard: %.2f %% of one CPU (%.2f to %.2f), %.2f %% without probes; resident at most %.0f MB and %.0f MB\n",
		100*a, 100*alow, 100*ahigh, 100*without, slices.Max(serve)/1e6, slices.Max(guard)/1e6)
	showProbes(last)
	return nil
}

// slot is what one slot showed.
type slot struct {
	throughput float64
	cpu        float64 // of one CPU, all of semantos' processes, over the slot
	serve      float64 // resident bytes
	guard      float64
	probes     map[string]probe
}

// observe starts serve in one mode, lets it settle under load and measures one slot.
func observe(ctx context.Context, l load, o options, mode string) (slot, error) {
	a, err := startAgent(ctx, o.semantos, mode)
	if err != nil {
		return slot{}, err
	}
	defer a.stop()
	if _, err := l.measure(ctx, settle); err != nil {
		return slot{}, err
	}
	var s slot
	before, err := a.cpuTime()
	if err != nil {
		return slot{}, err
	}
	began := time.Now()
	if s.throughput, err = l.measure(ctx, o.slot); err != nil {
		return slot{}, err
	}
	after, err := a.cpuTime()
	if err != nil {
		return slot{}, err
	}
	s.cpu = (after - before).Seconds() / time.Since(began).Seconds()
	if s.serve, s.guard, err = a.memory(); err != nil {
		return slot{}, err
	}
	if mode == "auto" {
		s.probes, err = a.probes(ctx)
	}
	return s, err
}

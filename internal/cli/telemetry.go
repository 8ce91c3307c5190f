package cli

import (
	"context"
	"fmt"
	"io"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"semantos/console"
	"semantos/internal/tune"
	"semantos/telemetry"
)

// watch is a sampler as the commands use it.
type watch interface {
	Tick(ctx context.Context) error
	Snapshot() tune.Snapshot
}

// sample looks for the window, with a bar.
func (a *app) sample(ctx context.Context, w watch, window time.Duration) error {
	bar := newProgress(a.stderr, "watching")
	defer bar.end()
	return look(ctx, w, window, a.now, func(done time.Duration) { bar.at(done, window) })
}

// look ticks about once a second for the window, the first and last look at its ends.
func look(ctx context.Context, w watch, window time.Duration, now func() time.Time, at func(time.Duration)) error {
	looks := max(2, int(window/time.Second))
	start := now()
	for i := 0; i <= looks; i++ {
		due := window * time.Duration(i) / time.Duration(looks)
		timer := time.NewTimer(due - now().Sub(start))
		select {
		case <-ctx.Done():
			timer.Stop()
			return &tune.Error{Op: "watch", Err: fmt.Errorf("interrupted after %.0f s: %w", now().Sub(start).Seconds(), ctx.Err())}
		case <-timer.C:
		}
		if err := w.Tick(ctx); err != nil {
			return fmt.Errorf("read the host: %w", err)
		}
		at(due)
	}
	return nil
}

// signalsDocument is what telemetry --json prints: one snapshot, and the few numbers beside it that
// /snapshot has too.
type signalsDocument struct {
	HostID   string          `json:"host_id"`
	TS       float64         `json:"ts"`
	Metrics  console.Metrics `json:"metrics"`
	Snapshot tune.Snapshot   `json:"snapshot"`
}

func (a *app) telemetryCommand() *cobra.Command {
	var window time.Duration
	var filter, entity string
	var asked []string
	cmd := &cobra.Command{
		Use:     "telemetry",
		Short:   "look once at the signals of this host",
		Example: "  semantos telemetry --filter tcp.\n  semantos telemetry --entity listener --window 5s\n  semantos telemetry --probe offcpu:comm=nginx --filter offcpu",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if window < shortestWindow || window > longestWindow {
				return usage("read --window", window.String(), "give a window from 2s to 1h", "it is too short or too long")
			}
			r, err := a.openRooms()
			if err != nil {
				return err
			}
			sampler, err := a.newSampler(cmd.Context(), r, window)
			if err != nil {
				return err
			}
			for _, name := range asked {
				if err := r.probes.want(name, window); err != nil {
					return err
				}
			}
			if err := a.sample(cmd.Context(), sampler, window); err != nil {
				return err
			}
			snap := sampler.Snapshot()
			doc := console.Observe(a.hostName(), snap, nil)
			return a.print(signalsDocument{doc.HostID, doc.TS, doc.Metrics, snap}, func() {
				if filter == "" && entity == "" {
					showWorkloads(a.stdout, snap)
				}
				showSignals(a.stdout, snap, filter, entity)
			})
		},
	}
	cmd.Flags().DurationVar(&window, "window", 2*time.Second, "how long to watch")
	cmd.Flags().StringVar(&filter, "filter", "", "only signals with this text in their name")
	cmd.Flags().StringArrayVar(&asked, "probe", nil, "have this eBPF probe count all the time meanwhile, also a costly one, such as offcpu:pid=N; may be given again")
	cmd.Flags().StringVar(&entity, "entity", "", "only entities of this kind (netns, listener, device, ...)")
	return cmd
}

// shownWorkloads is how many of the busiest are shown.
const shownWorkloads = 8

// showWorkloads says what kind of work the busiest are like, and by which readings.
func showWorkloads(w io.Writer, snap tune.Snapshot) {
	rows := [][]string{}
	for _, x := range snap.Workloads[:min(len(snap.Workloads), shownWorkloads)] {
		facts := make([]string, 0, len(x.Evidence))
		for _, f := range x.Evidence {
			facts = append(facts, f.Signal+" "+quantity(f.Value, f.Unit))
		}
		of := x.Entity
		if x.Of == tune.EntityCgroup {
			of = x.Of // its name is its path
		}
		rows = append(rows, []string{oneLine(x.Name), oneLine(of), x.Kind, quantity(x.Score, "share"),
			x.Since.Local().Format(time.TimeOnly), strings.Join(facts, ", ")})
	}
	if len(rows) == 0 {
		return
	}
	table(w, []string{"NAME", "OF", "LIKE", "FITS", "SINCE", "BECAUSE"}, rows)
	fmt.Fprintln(w)
}

func showSignals(w io.Writer, snap tune.Snapshot, filter, kind string) {
	units := units()
	rows := [][]string{}
	add := func(of string, signals map[string]float64) {
		names := make([]string, 0, len(signals))
		for name := range signals {
			if strings.Contains(name, filter) {
				names = append(names, name)
			}
		}
		sort.Strings(names)
		for _, name := range names {
			base, suffix := histogramOf(name, units)
			switch {
			case base == "" || strings.HasSuffix(filter, suffix):
				rows = append(rows, []string{name, quantity(signals[name], units.of(name)), of})
			case suffix == ".rate": // one line for all of a histogram
				rows = append(rows, []string{base, distribution(base, signals, units), of})
			}
		}
	}
	if kind == "" {
		add("host", snap.Signals)
	}
	kinds := make([]string, 0, len(snap.Entities))
	for k := range snap.Entities {
		kinds = append(kinds, k)
	}
	sort.Strings(kinds)
	for _, k := range kinds {
		if kind != "" && k != kind {
			continue
		}
		for _, e := range snap.Entities[k] {
			add(k+" "+oneLine(e.ID), e.Signals)
		}
	}
	table(w, []string{"SIGNAL", "VALUE", "OF"}, rows)
	for _, m := range snap.Missing {
		paragraph(w, 0, "Not seen: ", oneLine(m.Collector+": "+m.Reason))
	}
}

// signalUnits are the units of signals as people read them: a counter's signal is a rate.
type signalUnits map[string]string

func units() signalUnits {
	out := signalUnits{}
	for _, s := range telemetry.Signals() {
		for _, one := range telemetry.Series(s) {
			out[one.Name] = one.Unit
		}
	}
	return out
}

// of finds the unit of a signal by any name it is delivered under.
func (u signalUnits) of(name string) string { return u[name] }

// histogramOf cuts a histogram's name off one of its series; "" when it is none.
func histogramOf(name string, u signalUnits) (base, suffix string) {
	at := strings.LastIndexByte(name, '.')
	if at < 0 {
		return "", ""
	}
	base, suffix = name[:at], name[at:]
	if _, quantiles := u[base+".p50"]; !quantiles || u[base+".rate"] == "" || u.of(name) == "" {
		return "", ""
	}
	return base, suffix
}

// distribution is a histogram in one cell: its quantiles, its mean and how many there were.
func distribution(base string, signals map[string]float64, u signalUnits) string {
	rate := quantity(signals[base+".rate"], "/s")
	if _, ok := signals[base+".p50"]; !ok {
		return "none in this window"
	}
	var parts []string
	for _, q := range []string{"p50", "p95", "p99", "mean"} {
		parts = append(parts, q+" "+quantity(signals[base+"."+q], u.of(base+"."+q)))
	}
	return strings.Join(parts, ", ") + ", " + rate
}

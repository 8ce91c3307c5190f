package cli

import (
	"context"
	"fmt"
	"io"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"

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

// signalsDocument is what telemetry --json prints: one snapshot.
type signalsDocument struct {
	Snapshot tune.Snapshot `json:"snapshot"`
}

func (a *app) telemetryCommand() *cobra.Command {
	var window time.Duration
	var filter, entity string
	cmd := &cobra.Command{
		Use:     "telemetry",
		Short:   "look once at the signals of this host",
		Example: "  semantos telemetry --filter tcp.\n  semantos telemetry --entity listener --window 5s",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if window < shortestWindow || window > longestWindow {
				return usage("read --window", window.String(), "give a window from 2s to 1h", "it is too short or too long")
			}
			r, err := a.openRooms()
			if err != nil {
				return err
			}
			sampler, err := a.newSampler(r, window)
			if err != nil {
				return err
			}
			if err := a.sample(cmd.Context(), sampler, window); err != nil {
				return err
			}
			snap := sampler.Snapshot()
			return a.print(signalsDocument{Snapshot: snap}, func() { showSignals(a.stdout, snap, filter, entity) })
		},
	}
	cmd.Flags().DurationVar(&window, "window", 2*time.Second, "how long to watch")
	cmd.Flags().StringVar(&filter, "filter", "", "only signals with this text in their name")
	cmd.Flags().StringVar(&entity, "entity", "", "only entities of this kind (netns, listener, device, ...)")
	return cmd
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
			rows = append(rows, []string{name, quantity(signals[name], units.of(name)), of})
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
		out[s.Name] = s.Unit
		if s.Counter && s.Unit != "share" { // time of time is a share already
			out[s.Name] += "/s"
			out[s.Name+".total"] = s.Unit
		}
	}
	return out
}

// of finds the unit also for NAME.max and NAME.last.
func (u signalUnits) of(name string) string {
	if unit, ok := u[name]; ok {
		return unit
	}
	return u[strings.TrimSuffix(strings.TrimSuffix(name, ".max"), ".last")]
}

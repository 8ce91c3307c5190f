package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"semantos/internal/tune"
	"semantos/kb/graph"
)

// advice is what recommend --json prints, exactly these three.
type advice struct {
	Recommendations []tune.Recommendation `json:"recommendations"`
	Symptoms        []tune.Symptom        `json:"symptoms"`
	Snapshot        tune.Snapshot         `json:"snapshot"`
}

// windows shorter than this hold no two readings; longer ones belong to serve.
const (
	shortestWindow = 2 * time.Second
	longestWindow  = time.Hour
)

func (a *app) recommendCommand() *cobra.Command {
	var window time.Duration
	cmd := &cobra.Command{
		Use:   "recommend",
		Short: "say what is short on this host and which tunables relieve it",
		Long: "Samples the kernel's own signals for the window while the workload runs, names the symptoms they\n" +
			"show, and ranks what relieves them. Writes nothing; what it prints is stored for apply.",
		Example: "  semantos recommend\n  semantos recommend --window 8s --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if window < shortestWindow || window > longestWindow {
				return usage("read --window", window.String(), "give a window from 2s to 1h, such as --window 10s",
					"it is shorter than two readings or longer than an hour")
			}
			return a.recommend(cmd.Context(), window)
		},
	}
	cmd.Flags().DurationVar(&window, "window", 10*time.Second, "how long to watch")
	return cmd
}

func (a *app) recommend(ctx context.Context, window time.Duration) error {
	if c := a.serving(ctx); c != nil {
		stop := a.countDown(window)
		answer, err := c.recommend(ctx, window)
		stop()
		if err != nil {
			return err
		}
		doc := advice{answer.Recommendations, answer.Symptoms, answer.Snapshot}
		return a.print(doc, func() { showAdvice(a.stdout, doc, answer.Notes) })
	}
	a.recoverLeftovers(ctx)
	store, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	r, err := a.openRooms()
	if err != nil {
		return err
	}
	watch, err := a.newSampler(ctx, r, window)
	if err != nil {
		return err
	}
	adviser, err := newAdviser(r, store, r.newGate(a.cfg, a.onDisk(), a.newCalibrator(store), a.newPace(store)), a.now)
	if err != nil {
		return err
	}
	adviser.graph = func(ctx context.Context) (*graph.Graph, error) { return a.joinedGraph(ctx, r, store) }
	if err := a.sample(ctx, watch, window); err != nil {
		return err
	}
	doc, unseen := adviser.advise(ctx, watch.Snapshot())
	if err := store.SaveRecommendations(ctx, doc.Recommendations, a.now()); err != nil {
		return err
	}
	return a.print(doc, func() { showAdvice(a.stdout, doc, unseen) })
}

// showAdvice is the page for people: symptoms with their numbers, then what relieves them, best first.
func showAdvice(w io.Writer, doc advice, unseen []string) {
	s := doc.Snapshot
	if len(doc.Symptoms) == 0 {
		fmt.Fprintf(w, "Nothing to recommend: no symptom in %.0f s.\n", s.Window)
		showWatched(w, s, unseen)
		return
	}
	fmt.Fprintf(w, "Symptoms, seen in %.0f s:\n", s.Window)
	units := units()
	for _, sym := range doc.Symptoms {
		paragraph(w, 2, "- ", oneLine(sym.Summary))
		fmt.Fprintf(w, "      %s, severity %.2f", sym.Name, sym.Severity)
		if sym.Entity != "" {
			fmt.Fprintf(w, ", on %s", oneLine(sym.Entity))
		}
		fmt.Fprintln(w)
		for _, f := range sym.Evidence {
			fmt.Fprintf(w, "      %s %s\n", pad(f.Signal, 34), quantity(f.Value, units.of(f.Signal)))
		}
	}
	if len(doc.Recommendations) == 0 {
		fmt.Fprintln(w, "\nNothing to recommend: no tunable of this host relieves these further.")
		showWatched(w, s, unseen)
		return
	}
	fmt.Fprintln(w, "\nRecommendations, best first:")
	for i, rec := range doc.Recommendations {
		showRecommendation(w, i+1, rec)
	}
	showWatched(w, s, unseen)
	for _, rec := range doc.Recommendations {
		if rec.Admissible {
			fmt.Fprintf(w, "\nTry the first that is admissible, in stages and measured: semantos apply %s\n", rec.ID)
			return
		}
	}
	fmt.Fprintln(w, "\nNone of them is admissible here; semantos apply ID --yes goes past what is not a hard limit.")
}

func showRecommendation(w io.Writer, rank int, rec tune.Recommendation) {
	verdict := "admissible"
	if !rec.Admissible {
		verdict = "not admissible: " + oneLine(rec.Veto)
	}
	paragraph(w, 0, fmt.Sprintf("\n%2d. %s  ", rank, rec.ID), fmt.Sprintf("u %.2f, risk %s, %s", rec.Uncertainty, rec.Risk, verdict))
	rows := make([][]string, len(rec.Changes))
	for i, c := range rec.Changes {
		rows[i] = []string{"   ", changeName(c), string(c.Current) + " -> " + string(c.Proposed), string(c.TakesEffect)}
	}
	table(w, []string{"   ", "TUNABLE", "CHANGE", "TAKES EFFECT"}, rows)
	paragraph(w, 4, "why     ", oneLine(rec.Rationale))
	if !rec.Offered.IsZero() {
		paragraph(w, 4, "offered ", "the one vetoed candidate of the day: semantos apply "+rec.ID+" --yes tries it in stages, and its outcome tells whether such vetoes are right")
	}
	expect := rec.ExpectedImpact.Summary
	if rec.ExpectedImpact.Signal != "" {
		expect = fmt.Sprintf("%s %s. %s", rec.ExpectedImpact.Signal, rec.ExpectedImpact.Direction, expect)
	}
	if expect != "" { // the operator's own values come without one
		paragraph(w, 4, "expect  ", oneLine(expect))
	}
}

// changeName spells a change as the command line takes it, target behind @ where the name lacks it.
func changeName(c tune.Change) string {
	switch c.Scope {
	case tune.ScopeHost, tune.ScopeDevice:
		return c.Tunable
	}
	return c.Tunable + "@" + oneLine(c.Target)
}

// showWatched says what the answer rests on: how much was seen, and what could not be.
func showWatched(w io.Writer, s tune.Snapshot, unseen []string) {
	kinds := make([]string, 0, len(s.Entities))
	for _, kind := range []string{
		tune.EntityNetns, tune.EntityListener, tune.EntityUDPSocket, tune.EntityDevice, tune.EntityNetdev,
		tune.EntityCPU, tune.EntityKthread, tune.EntityProcess, tune.EntityServer, tune.EntityCgroup,
	} {
		if n := len(s.Entities[kind]); n > 0 {
			kinds = append(kinds, fmt.Sprintf("%d %s", n, kind))
		}
	}
	fmt.Fprintln(w)
	paragraph(w, 0, "Watched ", fmt.Sprintf("%d signals of the host and those of %s, in %d readings over %.1f s.",
		len(s.Signals), strings.Join(kinds, ", "), s.Ticks, s.Window))
	for _, m := range s.Missing {
		paragraph(w, 0, "Not seen: ", oneLine(m.Collector+": "+m.Reason))
	}
	if len(unseen) > 0 {
		paragraph(w, 0, "Not judged for lack of data: ", oneLine(strings.Join(unseen, ", ")))
	}
}

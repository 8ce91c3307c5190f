package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"semantos/internal/tune"
	"semantos/safety/ablate"
	"semantos/safety/rollout"
)

// ablateFlags are ablate's own flags as typed.
type ablateFlags struct {
	meter     string
	stageTime time.Duration
	keep      bool
}

func (a *app) ablateCommand() *cobra.Command {
	var f ablateFlags
	cmd := &cobra.Command{
		Use:   "ablate ID",
		Short: "find what each change of a kept bundle earns; undo what earns nothing",
		Long: "Each change is left out in turn, in short slots whose order is drawn, and compared with the whole bundle. What is\n" +
			"shown not to be worse by MARGIN without it earns nothing and is put back for good; what cannot be told stays. The\n" +
			"effect of a change is the workload without it over with it. A limit that the host breaks ends it, status 3, and the\n" +
			"bundle stands. --json prints {\"id\", \"changes\": [{\"tunable\", \"target\", \"effect\": {\"metric\", \"ratio\", \"low\", \"high\"},\n" +
			"\"verdict\": earns|nothing|harms|undecided, \"undone\"}], \"state\", \"reason\"}.",
		Example: "  semantos ablate 3f2a91c07b11-tozbmu --meter http:http://127.0.0.1:8080/\n" +
			"  semantos ablate 3f2a91c07b11 --keep --json",
		Args: oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.stageTime < shortestStage || f.stageTime > longestStage {
				return usage("read --stage-time", f.stageTime.String(), "give a time from 1s to 24h, such as --stage-time 10s", "it is too short or too long")
			}
			return a.ablate(cmd.Context(), args[0], f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.meter, "meter", "", "what measures the workload, as for apply; by default the signal of the bundle's symptom")
	flags.DurationVar(&f.stageTime, "stage-time", defaultStageTime, "a change may take five of them to be told")
	flags.BoolVar(&f.keep, "keep", false, "say what each change earns and undo nothing")
	return cmd
}

func (a *app) ablate(ctx context.Context, id string, f ablateFlags) error {
	r, err := a.openRooms()
	if err != nil {
		return err
	}
	a.recoverLeftovers(ctx) // before what stands is read
	store, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	kept, changes, err := a.keptBundle(ctx, store, id)
	if err != nil {
		return err
	}
	meter, err := a.openMeter(ctx, f.meter)
	if err != nil {
		return err
	}
	if meter == nil && kept.Recommendation.Provenance.Measure.Signal == "" {
		return usage("ablate", id, "give a meter, such as --meter http:http://127.0.0.1:8080/", "no symptom says what to measure it by")
	}
	if a.serving(ctx) != nil {
		return &tune.Error{Op: "ablate", Subject: id, Err: fmt.Errorf("serve is running: %w", tune.ErrBusy), Hint: "stop semantos serve while you ablate: it alone may write then"}
	}
	know, err := a.openKnowledge(ctx, r, store, false)
	if err != nil {
		return err
	}
	t, err := a.newTrials(ctx, r, store, know, a.newCalibrator(store))
	if err != nil {
		return err
	}
	doc, err := t.ablate(ctx, kept, changes, meter, f, a.actor(), func(text string) { a.say("%s", text) })
	if err != nil && len(doc.Changes) == 0 {
		return err
	}
	if printErr := a.print(doc, func() { showAblation(a.stdout, doc, true) }); printErr != nil {
		return printErr
	}
	switch {
	case err != nil:
		return statusError{exit: report(io.Discard, a.stderr, false, err)}
	case doc.Reason == tune.ReasonLimit:
		return statusError{exit: exitVetoed}
	}
	return nil
}

// keptBundle finds a committed rollout that stands and the changes it still holds: Current their
// originals, Proposed what stands.
func (a *app) keptBundle(ctx context.Context, store store, id string) (tune.Rollout, []tune.Change, error) {
	kept, err := store.Rollout(ctx, id)
	if isMissing(err) {
		return kept, nil, usage("ablate", id, "semantos history prints ids", "no rollout has this id")
	}
	if err != nil {
		return kept, nil, err
	}
	if kept.State != tune.Committed {
		return kept, nil, usage("ablate", id, "semantos status lists what is kept", "it is %s, and only what is committed can be ablated", kept.State)
	}
	managed, err := a.inspect()
	if err != nil {
		return kept, nil, err
	}
	var changes []tune.Change
	for _, m := range managed {
		if m.Rollout != kept.ID || m.State != "committed" && m.State != "persisted" {
			continue
		}
		for _, c := range kept.Recommendation.Changes {
			if c.Tunable == m.Tunable && c.Target == m.Target {
				c.Current, c.Proposed = m.Original, m.Current
				changes = append(changes, c)
			}
		}
	}
	switch len(changes) {
	case 0:
		return kept, nil, usage("ablate", id, "semantos status lists what is held", "nothing of it is held any more")
	case 1:
		return kept, nil, usage("ablate", id, "its effect is the rollout's: semantos explain "+kept.ID, "it holds one change only")
	}
	return kept, changes, nil
}

// ablate runs it through the guard of these trials, and keeps what it found with the rollout.
func (t *trials) ablate(ctx context.Context, kept tune.Rollout, changes []tune.Change, meter rollout.Meter, f ablateFlags, actor string, tell func(string)) (tune.Ablation, error) {
	meter = t.meterOf(ctx, trialRequest{rec: kept.Recommendation, meter: meter})
	before := glance(ctx, t.sampler)
	runner := ablate.NewRunner(ablate.Config{Writer: t.guard, Dead: t.guard.Done(), Tunables: t.rooms.cat, Vitals: t.newVitals(changes, meter), Now: t.now, Rand: t.rand})
	doc, err := runner.Run(ctx, ablate.Request{
		Rollout: kept.ID, Changes: changes, Meter: meter, StageTime: f.stageTime, Keep: f.keep, Actor: actor,
		Policy: rollout.PolicyOf(meter, t.cfg.Margin, rollout.Limits{MaxP95MS: t.cfg.SLOMaxP95, MaxErrorRate: t.cfg.MaxErrorRate}),
	}, tell)
	if len(doc.Changes) == 0 {
		return doc, err
	}
	keep := context.WithoutCancel(ctx)
	kept.Ablation = withEarlier(doc, kept.Ablation)
	if pruned := slices.ContainsFunc(doc.Changes, func(c tune.Ablated) bool { return c.Undone }); pruned && len(kept.Persisted) > 0 {
		kept.Detail += " What an ablation undid is no longer written for the next boot."
	}
	if saveErr := t.store.SaveRollout(keep, kept); saveErr != nil && err == nil {
		err = saveErr
	}
	after := glance(ctx, t.sampler)
	for i, c := range doc.Changes {
		trace, ok := marginalTrace(traceOf(kept, t.rooms.facts, before, after), changes[i], c, i)
		if !ok {
			continue
		}
		if _, learnErr := t.know.Learn(keep, trace); learnErr != nil {
			t.learned(learnErr)
		}
	}
	return doc, err
}

// withEarlier keeps in the record what an ablation before this one undid.
func withEarlier(doc tune.Ablation, earlier *tune.Ablation) *tune.Ablation {
	doc.Changes = slices.Clone(doc.Changes)
	if earlier != nil {
		for _, c := range earlier.Changes {
			if c.Undone {
				doc.Changes = append(doc.Changes, c)
			}
		}
	}
	return &doc
}

// marginalTrace is what an ablation teaches of one change: adding it to the others did the opposite of
// leaving it out. What was not told teaches nothing.
func marginalTrace(t tune.Trace, change tune.Change, a tune.Ablated, i int) (tune.Trace, bool) {
	if a.Verdict == tune.Undecided || a.Effect == nil || a.Effect.Low <= 0 {
		return t, false
	}
	e := *a.Effect
	e.Ratio, e.Low, e.High = 1/e.Ratio, 1/e.High, 1/e.Low
	t.ID, t.Changes, t.Effect = fmt.Sprintf("%s-without-%d", t.ID, i+1), []tune.Change{change}, &e
	t.State, t.Verdict, t.Reason = tune.Committed, tune.Pass, tune.ReasonBetter
	if a.Verdict != tune.Earns {
		t.State, t.Verdict, t.Reason = tune.RolledBack, tune.Inconclusive, tune.ReasonNoEffect
	}
	return t, true
}

// showAblation is one row a change, and under the rows why.
func showAblation(w io.Writer, doc tune.Ablation, stands bool) {
	rows := make([][]string, len(doc.Changes))
	for i, c := range doc.Changes {
		what := string(c.Verdict)
		if c.Undone {
			what += ", undone"
		}
		metric := "-"
		if c.Effect != nil {
			metric = c.Effect.Metric
		}
		rows[i] = []string{c.Tunable + "@" + oneLine(c.Target), metric, effectText(c.Effect), what}
	}
	table(w, []string{"CHANGE", "METRIC", "WITHOUT OVER WITH", "VERDICT"}, rows)
	for _, c := range doc.Changes {
		if c.Why != "" {
			paragraph(w, 2, "", oneLine(c.Tunable+": "+c.Why))
		}
	}
	if doc.Reason != tune.ReasonAblated {
		paragraph(w, 0, "", oneLine("Ended early ("+doc.Reason+"): "+doc.Detail))
	} else if doc.Detail != "" {
		paragraph(w, 0, "", oneLine(doc.Detail))
	}
	if stands {
		fmt.Fprintf(w, "The rest stands. Put it back with: semantos rollback %s\n", doc.ID)
	}
}

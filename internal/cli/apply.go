package cli

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"semantos/internal/tune"
	"semantos/safety/rollout"
)

// applyFlags are apply's own flags as typed.
type applyFlags struct {
	set       []string
	stageTime time.Duration
	steps     string
	meter     string
	yes       bool
	hold      bool
	dryRun    bool
	persist   bool
}

// defaultStageTime gives a rollout 150 slots and more before five minutes are over, and lets a large effect
// be proven by the first three stages (docs/statistics.md).
const defaultStageTime = 15 * time.Second

// The shortest stage still holds two slots a side; longer ones than this are a change of plan.
const (
	shortestStage = time.Second
	longestStage  = 24 * time.Hour
)

func (a *app) applyCommand() *cobra.Command {
	var f applyFlags
	cmd := &cobra.Command{
		Use:   "apply ID | --set NAME[@TARGET]=VALUE...",
		Short: "try a recommendation in measured stages; keep it only if it measured better",
		Long: "Stages expose the change a little at a time and compare treated with untreated slots. What measures\n" +
			"better is committed and holds until rollback or reboot; everything else is put back. Without --meter\n" +
			"the symptom's own kernel signal is measured. Ctrl-C puts back and ends.",
		Example: "  semantos apply 3f2a91c07b11 --stage-time 10s --meter http:http://127.0.0.1:8080/\n" +
			"  semantos apply --set net.ipv4.tcp_rmem=4096,131072,16777216 --dry-run",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0 && len(f.set) == 0:
				return usage("apply", "", "semantos apply ID, with an id that semantos recommend printed", "there is nothing to apply")
			case len(args) == 1 && len(f.set) > 0:
				return usage("apply", args[0], "give an id, or --set, not both", "an id and --set exclude each other")
			case f.stageTime < shortestStage || f.stageTime > longestStage:
				return usage("read --stage-time", f.stageTime.String(), "give a time from 1s to 24h, such as --stage-time 10s", "it is too short or too long")
			}
			return a.apply(cmd.Context(), args, f)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&f.set, "set", nil, "roll out this value instead of a recommendation; may be given again")
	flags.DurationVar(&f.stageTime, "stage-time", defaultStageTime, "how long each stage measures at least")
	flags.StringVar(&f.steps, "steps", "", "stages in percent of exposure, the same as --rollout-steps")
	flags.StringVar(&f.meter, "meter", "", "what measures the workload: ebpf:comm=NAME (or port=N, cgroup=PATH, ...), device:block/NAME (or net/NAME), cmd:COMMAND, http:URL or prom:URL?query=EXPRESSION")
	flags.BoolVar(&f.yes, "yes", false, "go past a veto, and keep what no meter watched; never past a hard limit")
	flags.BoolVar(&f.hold, "hold", false, "wait for a person before the whole exposure")
	flags.BoolVar(&f.dryRun, "dry-run", false, "print the exact diff and write nothing")
	flags.BoolVar(&f.persist, "persist", false, "after commit, write it for the next boot too")
	return cmd
}

func (a *app) apply(ctx context.Context, args []string, f applyFlags) error {
	r, err := a.openRooms()
	if err != nil {
		return err
	}
	if f.dryRun {
		a.reportLeftovers()
	} else {
		a.recoverLeftovers(ctx) // before the current values are read, and whatever DATA_DIR is worth
	}
	store, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	rec, err := a.chosen(ctx, r, store, args, f.set)
	if err != nil {
		return err
	}
	meter, err := a.openMeter(ctx, f.meter)
	if err != nil {
		return err
	}
	if f.dryRun {
		return a.dryRun(ctx, r, store, rec, f, meter)
	}
	if err := a.refuseFrozen("apply"); err != nil {
		return err
	}
	if c := a.serving(ctx); c != nil {
		return a.applyThrough(ctx, c, rec, f, meter)
	}
	know, err := a.openKnowledge(ctx, r, store, false)
	if err != nil {
		return err
	}
	t, err := a.newTrials(ctx, r, store, know, a.newCalibrator(store))
	if err != nil {
		return err
	}
	// A damaged journal stops new changes: better before the first stage than in it.
	if _, err := a.inspect(); err != nil {
		return err
	}
	// What stood as current may be what a killed semantos left; the guard has restored it by now.
	if err := r.fresh(rec); err != nil {
		return err
	}
	rollout, err := t.run(ctx, trialRequest{
		rec: rec, meter: meter, stageTime: f.stageTime, steps: a.cfg.RolloutSteps, margin: a.cfg.Margin,
		maxP95: a.cfg.SLOMaxP95, maxErrors: a.cfg.MaxErrorRate, yes: f.yes,
		set: rec.Provenance.Operator, hold: f.hold, persist: f.persist, actor: a.actor(),
	}, a.tell())
	return a.finish(rollout, err)
}

// chosen is the recommendation to try: stored by recommend, or typed with --set.
func (a *app) chosen(ctx context.Context, r *rooms, store recommendations, args, set []string) (tune.Recommendation, error) {
	if len(args) == 1 {
		rec, _, err := store.Recommendation(ctx, args[0])
		if isMissing(err) {
			return rec, usage("apply", args[0], "run semantos recommend, which prints and stores ids", "no recommendation has this id")
		}
		if err != nil {
			return rec, err
		}
		// The veto was of that moment: what is writable is asked here, and the rest of the gate.
		rec.Admissible, rec.Veto = true, ""
		return rec, r.fresh(rec)
	}
	settings := make([]setting, len(set))
	for i, text := range set {
		s, err := parseSetting(text)
		if err != nil {
			return tune.Recommendation{}, err
		}
		settings[i] = s
	}
	return r.bundle(settings)
}

// recommendations is where ids are found.
type recommendations interface {
	Recommendation(ctx context.Context, id string) (tune.Recommendation, time.Time, error)
}

// dryRunDocument is what apply --dry-run --json prints.
type dryRunDocument struct {
	Recommendation tune.Recommendation    `json:"recommendation"`
	Admissible     bool                   `json:"admissible"`
	Veto           string                 `json:"veto,omitempty"`
	Note           string                 `json:"note,omitempty"`
	Plan           []rollout.StageOutline `json:"plan"`
	Frozen         *tune.Freeze           `json:"frozen,omitempty"` // refused until it is taken back, whatever --yes says
}

func (a *app) dryRun(ctx context.Context, r *rooms, store store, rec tune.Recommendation, f applyFlags, meter rollout.Meter) error {
	decision, err := r.newGate(a.cfg, a.onDisk(), a.newCalibrator(store), a.newPace(store)).Check(ctx, rec)
	if err != nil {
		return err
	}
	spent := newBudget(a.cfg)
	if err := spent.load(ctx, store, a.now()); err != nil {
		return err
	}
	decision.Vetoes = append(decision.Vetoes, spent.vetoes(a.now())...)
	doc := dryRunDocument{Recommendation: rec, Admissible: decision.Admitted(false), Veto: decision.Reason(), Note: decision.Note,
		Frozen: a.frozen()}
	doc.Plan, err = rollout.Outline(rec.Changes, a.cfg.RolloutSteps, f.stageTime, meter,
		rollout.RunnerConfig{Tunables: r.cat, Rand: rand.New(rand.NewPCG(uint64(a.now().UnixNano()), 1))})
	if err != nil {
		return err
	}
	return a.print(doc, func() {
		showDiff(a.stdout, rec)
		showPlan(a.stdout, doc.Plan)
		if !doc.Admissible {
			paragraph(a.stdout, 0, "Would be vetoed: ", oneLine(doc.Veto))
		}
		if doc.Frozen != nil {
			paragraph(a.stdout, 0, "Would be refused: ", oneLine(doc.Frozen.Error()))
		}
		fmt.Fprintln(a.stdout, "Nothing was written.")
	})
}

// showPlan prints the stages to come, and why they are so.
func showPlan(w io.Writer, plan []rollout.StageOutline) {
	fmt.Fprintln(w, "Plan:")
	var least, most float64
	for _, st := range plan {
		paragraph(w, 2, fmt.Sprintf("%4s %% by %-10s  ", number(st.Share), st.Mode), oneLine(st.Why))
		least, most = least+st.Seconds, most+st.MostSeconds
	}
	length := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)).Round(time.Second) }
	fmt.Fprintf(w, "It takes %s at the earliest and %s at most, without holds and with a meter that keeps up.\n", length(least), length(most))
}

// tell prints a rollout's progress as it happens, one line an event.
func (a *app) tell() func(rollout.Event) {
	return func(e rollout.Event) {
		if e.Text != "" {
			a.say("%4.0f s  %s", e.Elapsed.Seconds(), e.Text)
		}
	}
}

// finish prints the rollout and turns its state into the exit status. An error beside a rollout that
// began is said on stderr: the document is the rollout.
func (a *app) finish(rollout tune.Rollout, err error) error {
	began := len(rollout.Stages) > 0 || rollout.State == tune.Vetoed && (err == nil || exitOf(err) == exitVetoed)
	if err != nil && !began {
		return err
	}
	printErr := a.print(rollout, func() {
		showRollout(a.stdout, rollout)
		if err == nil {
			a.showNext(rollout)
		}
	})
	if printErr != nil {
		return printErr
	}
	if err != nil {
		return statusError{exit: report(io.Discard, a.stderr, false, err)}
	}
	switch rollout.State {
	case tune.Committed, tune.Held:
		return nil
	}
	return statusError{exit: exitVetoed}
}

// showNext says what can be done with the outcome.
func (a *app) showNext(r tune.Rollout) {
	switch {
	case r.State == tune.Committed && len(r.Persisted) > 0:
		fmt.Fprintf(a.stdout, "It holds across reboots. Put it back with: semantos rollback %s\n", r.ID)
	case r.State == tune.Committed:
		fmt.Fprintf(a.stdout, "It holds until rollback or reboot. Put it back with: semantos rollback %s\n", r.ID)
		if slices.ContainsFunc(r.Recommendation.Changes, func(c tune.Change) bool { return c.TakesEffect == tune.NextListen }) {
			fmt.Fprintln(a.stdout, "A server that listens again takes it over.")
		}
	case r.State == tune.Vetoed:
		fmt.Fprintln(a.stdout, "Nothing was written. A person may go past a veto with --yes.")
	case r.State == tune.RolledBack && (r.Reason == tune.ReasonYielded || strings.Contains(r.Detail, "left alone")):
		fmt.Fprintln(a.stdout, "Every other tunable is as it was before.")
	case r.State == tune.RolledBack:
		fmt.Fprintln(a.stdout, "Every tunable is as it was before.")
	}
}

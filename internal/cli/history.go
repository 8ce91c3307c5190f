package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"semantos/internal/tune"
)

// historyDocument is what history --json prints, newest first.
type historyDocument struct {
	Rollouts []tune.Rollout `json:"rollouts"`
}

func (a *app) historyCommand() *cobra.Command {
	var f historyFlags
	cmd := &cobra.Command{
		Use:   "history",
		Short: "list past rollouts, or the log of every decision and write, and check that it is whole",
		Long: "Rollouts, newest first. --audit lists the log of every decision and write with who, why and the numbers.\n" +
			"--verify checks that no record of it was altered or taken out: exit 0 when whole, 1 when not, with the file,\n" +
			"line and record of the first break. --head compares with a head noted elsewhere, such as an alert's.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			switch {
			case f.verify:
				return a.verifyHistory(f.head)
			case f.audit:
				return a.listAudit(f)
			}
			doc := historyDocument{Rollouts: []tune.Rollout{}}
			store, err := a.openHistory(cmd.Context())
			if err != nil {
				return err
			}
			if store != nil {
				if doc.Rollouts, err = store.Rollouts(cmd.Context(), f.limit); err != nil {
					return err
				}
				doc.Rollouts = a.settled(cmd.Context(), store).all(doc.Rollouts)
			}
			return a.print(doc, func() { showRollouts(a.stdout, doc.Rollouts) })
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&f.limit, "limit", 20, "how many to list")
	flags.BoolVar(&f.audit, "audit", false, "list the log of decisions and writes")
	flags.StringVar(&f.rollout, "rollout", "", "with --audit: of one rollout or recommendation")
	flags.BoolVar(&f.verify, "verify", false, "check that the log is whole")
	flags.StringVar(&f.head, "head", "", "with --verify: SEQ:HASH of a record, noted elsewhere")
	return cmd
}

func showRollouts(w io.Writer, all []tune.Rollout) {
	if len(all) == 0 {
		fmt.Fprintln(w, "No rollouts yet.")
		return
	}
	rows := make([][]string, len(all))
	for i, r := range all {
		what := ""
		for j, c := range r.Recommendation.Changes {
			if j > 0 {
				what += ", "
			}
			what += fmt.Sprintf("%s %s -> %s", c.Tunable, c.Current, c.Proposed)
			if r.Pruned(c) {
				what += " (undone)"
			}
		}
		rows[i] = []string{r.ID, r.Started.Local().Format("2006-01-02 15:04"), string(r.State), shorten(r.Reason, longestReason),
			effectText(r.Effect), what}
	}
	table(w, []string{"ROLLOUT", "STARTED", "STATE", "REASON", "EFFECT", "CHANGES"}, rows)
	for _, r := range all {
		switch { // what is not over waits for something, and somebody can end that
		case r.State == tune.Held && unfinished(r):
			paragraph(w, 2, "", oneLine(r.ID+" "+waitsForPerson(r.ID)))
		case r.Detail != "" && (unfinished(r) || r.State == tune.Queued):
			paragraph(w, 2, "", oneLine(r.ID+": "+r.Detail))
		}
	}
}

// waitsForPerson says of a held rollout how it goes on.
func waitsForPerson(id string) string {
	return "waits for a person: semantos advance " + id + " lets it go on, semantos abort " + id + " ends it"
}

// longestReason is the room of a table for why a rollout ended: a veto gives sentences, which explain shows.
const longestReason = 32

// effectText prints a ratio with its interval, or that nothing was measured.
func effectText(e *tune.Effect) string {
	if e == nil {
		return "-"
	}
	if e.Low < 1e-9 || e.High > 1e9 {
		return fmt.Sprintf("%.3g (%s)", e.Ratio, strings.TrimSuffix(e.Span(), " for an interval"))
	}
	return fmt.Sprintf("%.3g [%.3g, %.3g]", e.Ratio, e.Low, e.High)
}

// explainDocument is what explain --json prints: the advice, and its newest rollout if there is one.
type explainDocument struct {
	Recommendation tune.Recommendation `json:"recommendation"`
	Rollout        *tune.Rollout       `json:"rollout"`
}

func (a *app) explainCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "explain ID",
		Short: "say what a recommendation or rollout rests on: evidence, rule, source, voters, stages",
		Args:  oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := a.openHistory(cmd.Context())
			if err != nil {
				return err
			}
			unknown := usage("explain", args[0], "semantos recommend and semantos history print ids", "no recommendation or rollout has this id")
			if store == nil {
				return unknown
			}
			var doc explainDocument
			rec, _, recErr := store.Recommendation(cmd.Context(), args[0])
			rollout, rollErr := store.Rollout(cmd.Context(), args[0])
			switch {
			case recErr != nil && !isMissing(recErr):
				return recErr
			case rollErr != nil && !isMissing(rollErr):
				return rollErr
			case recErr != nil && rollErr != nil:
				return unknown
			case recErr == nil:
				doc.Recommendation = rec
			default:
				doc.Recommendation = rollout.Recommendation
			}
			if rollErr == nil {
				rollout = a.settled(cmd.Context(), store).one(rollout, true)
				doc.Rollout = &rollout
			}
			return a.print(doc, func() { showExplanation(a.stdout, doc) })
		},
	}
}

func isMissing(err error) bool {
	return errors.Is(err, tune.ErrUnknown) || errors.Is(err, tune.ErrNoData) || errors.Is(err, tune.ErrStarting)
}

func showExplanation(w io.Writer, doc explainDocument) {
	rec := doc.Recommendation
	showRecommendation(w, 1, rec)
	p := rec.Provenance
	fmt.Fprintln(w)
	line := func(label, text string) {
		if text != "" {
			paragraph(w, 4, pad(label, 8), oneLine(text))
		}
	}
	line("symptom", p.Symptom)
	line("on", p.Entity)
	line("rule", p.Rule)
	line("source", p.Source)
	line("measure", p.Measure.Signal)
	for _, v := range p.Voters {
		word := "against"
		if v.Agrees {
			word = "for"
		}
		line("voter", v.Name+" "+word+": "+v.Why)
	}
	for _, c := range rec.Changes {
		if c.Why != "" {
			line("change", changeName(c)+": "+c.Why)
		}
	}
	if doc.Rollout != nil {
		fmt.Fprintln(w)
		showRollout(w, *doc.Rollout)
	}
}

// showRollout is the page of one rollout: its stages, what they measured, how it ended.
func showRollout(w io.Writer, r tune.Rollout) {
	fmt.Fprintf(w, "Rollout %s of %s, started %s by %s\n", r.ID, r.Recommendation.ID,
		r.Started.Local().Format("2006-01-02 15:04:05"), r.Actor)
	for _, c := range r.Recommendation.Changes {
		fmt.Fprintf(w, "  %s  %s -> %s\n", changeName(c), c.Current, c.Proposed)
	}
	showStages(w, r.Stages)
	paragraph(w, 0, "State: ", oneLine(fmt.Sprintf("%s (%s)", r.State, r.Reason)))
	if r.Detail != "" {
		paragraph(w, 2, "", oneLine(r.Detail))
	}
	if e := r.Effect; e != nil {
		fmt.Fprintf(w, "Effect on %s: treated over untreated %.3g, 95 %% interval %s (%s is better)\n", e.Metric, e.Ratio, e.Span(), e.Better)
	} else if r.State == tune.Committed {
		fmt.Fprintln(w, "Effect: nothing was measured.")
	}
	if r.Ablation != nil {
		fmt.Fprintf(w, "Ablated %s: what each change earns\n", r.Ablation.Started.Local().Format("2006-01-02 15:04:05"))
		showAblation(w, *r.Ablation, r.State == tune.Committed)
	}
	for _, file := range r.Persisted {
		fmt.Fprintf(w, "Written for the next boot: %s\n", file)
	}
}

// showStages is one row a stage, and under the rows why each ended as it did.
func showStages(w io.Writer, stages []tune.Stage) {
	if len(stages) == 0 {
		return
	}
	rows := make([][]string, len(stages))
	for i, s := range stages {
		rows[i] = []string{"  " + number(s.Share) + " %", s.Mode, fmt.Sprintf("%.1f s", s.Seconds),
			fmt.Sprintf("%d treated, %d not", s.Treated, s.Compared), string(s.Verdict), effectText(s.Effect)}
	}
	table(w, []string{"  STAGE", "MODE", "TIME", "SLOTS", "VERDICT", "EFFECT"}, rows)
	for _, s := range stages {
		if s.Reason != "" {
			paragraph(w, 2, number(s.Share)+" %: ", oneLine(s.Reason))
		}
	}
}

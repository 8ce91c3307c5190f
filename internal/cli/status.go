package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"semantos/internal/tune"
)

// statusDocument is what status --json prints.
type statusDocument struct {
	Rollouts []tune.Rollout `json:"rollouts"`
	Managed  []tune.Managed `json:"managed"`
	// Loop is where serve stands, when one runs.
	Loop *tune.LoopState `json:"loop,omitempty"`
	// Calibration is where the gate stands, and how right vetoes and rollbacks were.
	Calibration tune.Calibration `json:"calibration"`
	// Limits are what no trial may break or use up.
	Limits tune.LimitStanding `json:"limits"`
	// Frozen is a person's word that nothing may change on this host.
	Frozen *tune.Freeze `json:"frozen,omitempty"`
}

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "show running and recent rollouts, and every tunable held away from its original",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			doc, err := a.status(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(doc, func() {
				if doc.Frozen != nil {
					paragraph(a.stdout, 2, "", sentence(oneLine(doc.Frozen.Error()))+". Take it back with: semantos freeze --off")
					fmt.Fprintln(a.stdout)
				}
				fmt.Fprintln(a.stdout, "Managed tunables:")
				if unknown := a.sayElsewhere(); unknown && len(doc.Managed) == 0 {
					fmt.Fprintln(a.stdout, "None that is known here.")
				} else {
					showManaged(a.stdout, doc.Managed)
				}
				fmt.Fprintln(a.stdout, "\nRollouts, newest first:")
				showRollouts(a.stdout, doc.Rollouts)
				fmt.Fprintln(a.stdout)
				showGate(a.stdout, doc.Calibration)
				fmt.Fprintln(a.stdout)
				showLimits(a.stdout, doc.Limits)
				if doc.Loop != nil {
					fmt.Fprintf(a.stdout, "\nServe is %s: %s\n", strings.ReplaceAll(doc.Loop.Phase, "_", " "), oneLine(doc.Loop.Reason))
					showResting(a.stdout, *doc.Loop)
				}
			})
		},
	}
}

// status asks a running serve, which knows what it is trying now; else it reads what is on disk.
func (a *app) status(ctx context.Context) (statusDocument, error) {
	doc := statusDocument{Rollouts: []tune.Rollout{}, Managed: []tune.Managed{}}
	if c := a.serving(ctx); c != nil {
		return doc, c.call(ctx, http.MethodGet, "/status", nil, &doc)
	}
	store, err := a.openHistory(ctx)
	if err != nil {
		return doc, err
	}
	spent := newBudget(a.cfg)
	if store != nil {
		if err := spent.load(ctx, store, a.now()); err != nil {
			return doc, err
		}
		if doc.Rollouts, err = store.Rollouts(ctx, recentRollouts); err != nil {
			return doc, err
		}
		doc.Rollouts = a.settled(ctx, store).all(doc.Rollouts)
	}
	doc.Calibration = a.newCalibrator(store).Standing(ctx)
	doc.Limits = spent.standing(a.cfg, a.now())
	managed, err := a.inspect()
	if err != nil {
		return doc, err
	}
	doc.Managed, doc.Frozen = append(doc.Managed, managed...), a.frozen()
	return doc, nil
}

// recentRollouts is how many status shows; history shows the others.
const recentRollouts = 10

// runDir is where the lock and the second copy of originals are, below --root as everything.
func (a *app) runDir() string { return filepath.Join(a.cfg.Root, "/run/semantos") }

// inspect reads the journal without a guard.
func (a *app) inspect() ([]tune.Managed, error) {
	return inTime("read journal of", a.cfg.DataDir, "semantos rollback --all needs no disk", func() ([]tune.Managed, error) {
		return a.onDisk().Managed(context.Background())
	})
}

// leftovers are what a killed semantos left neither committed nor restored.
func leftovers(managed []tune.Managed) []tune.Managed {
	var out []tune.Managed
	for _, m := range managed {
		if m.State == "in_doubt" {
			out = append(out, m)
		}
	}
	return out
}

// reportLeftovers says on stderr what a killed semantos left behind; a command that only reads goes on.
func (a *app) reportLeftovers() {
	managed, err := a.inspect()
	if err != nil {
		a.say("the journal cannot be read: %v", err)
	}
	a.sayLeftovers(leftovers(managed))
}

// mentionLeftovers is reportLeftovers for commands that have an error of their own for a journal that
// cannot be read, or need none.
func (a *app) mentionLeftovers() {
	if managed, err := a.inspect(); err == nil {
		a.sayLeftovers(leftovers(managed))
	}
}

func (a *app) sayLeftovers(left []tune.Managed) {
	for _, m := range left {
		a.say("%s on %s was left at %q, its original is %q; the next command with rights, such as semantos rollback --all, restores it",
			m.Tunable, m.Target, m.Current, m.Original)
	}
}

func showManaged(w io.Writer, managed []tune.Managed) {
	if len(managed) == 0 {
		fmt.Fprintln(w, "None: every tunable is as semantos found it.")
		return
	}
	rows := make([][]string, len(managed))
	for i, m := range managed {
		c := tune.Change{Tunable: m.Tunable, Scope: m.Scope, Target: m.Target}
		rows[i] = []string{changeName(c), string(m.Original), string(m.Current), m.State, m.Rollout}
	}
	table(w, []string{"TUNABLE", "ORIGINAL", "NOW", "STATE", "ROLLOUT"}, rows)
}

// showResting says what serve leaves alone, until when and why.
func showResting(w io.Writer, l tune.LoopState) {
	for _, r := range l.Resting {
		paragraph(w, 4, "  ", fmt.Sprintf("serve leaves %s alone until %s: %s", oneLine(r.What), r.Until.Local().Format("2006-01-02 15:04"), oneLine(r.Why)))
	}
	for _, y := range l.Yielded {
		paragraph(w, 4, "  ", oneLine(y)+" is left to whatever else writes it")
	}
}

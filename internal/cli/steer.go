package cli

import (
	"context"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"semantos/console"
	"semantos/internal/tune"
)

func (a *app) holdCommand() *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use:   "hold [ID]",
		Short: "let a running rollout wait before its whole exposure, or without ID let serve start nothing",
		Long: "A held rollout goes on measuring and its limits are watched. Without ID serve's loop starts nothing\n" +
			"until semantos advance, or until serve ends; people can still apply. semantos freeze stops everything.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.hold(cmd.Context(), first(args), why) },
	}
	cmd.Flags().StringVar(&why, "why", "", "the reason, for whoever meets it")
	return cmd
}

func (a *app) advanceCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "advance [ID]",
		Short: "let a held rollout go on; without ID the one that waits, and a held loop too",
		Args:  cobra.MaximumNArgs(1),
		RunE:  func(cmd *cobra.Command, args []string) error { return a.advance(cmd.Context(), first(args)) },
	}
}

func (a *app) abortCommand() *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use:   "abort ID",
		Short: "end a rollout that runs, is held or waits in the queue, and put it back",
		Long: "The id is a rollout's or its recommendation's. A rollout that waits for serve to start again is ended\n" +
			"too. What is committed is put back by semantos rollback.",
		Args: oneArg,
		RunE: func(cmd *cobra.Command, args []string) error { return a.abort(cmd.Context(), args[0], why) },
	}
	cmd.Flags().StringVar(&why, "why", "", "the reason, for history")
	return cmd
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// served finds the serve that these commands speak to.
func (a *app) served(ctx context.Context, op, hint string) (*client, error) {
	c := a.serving(ctx)
	if c == nil {
		return nil, &tune.Error{Op: op, Err: fmt.Errorf("no serve runs on %s", a.cfg.DataDir), Hint: hint}
	}
	return c, nil
}

func (a *app) hold(ctx context.Context, id, why string) error {
	c, err := a.served(ctx, "hold", "start semantos serve; a foreground apply waits with --hold, and semantos freeze stops everything")
	if err != nil {
		return err
	}
	var doc tune.LoopState
	if err := c.call(ctx, http.MethodPost, "/rollout/hold", console.HoldRequest{ID: id, Hold: true, Why: why}, &doc); err != nil {
		return err
	}
	return a.print(doc, func() {
		if id != "" {
			fmt.Fprintf(a.stdout, "It waits before the whole exposure. Let it go on with: semantos advance %s\n", id)
			return
		}
		fmt.Fprintln(a.stdout, "Serve starts nothing by itself. Let it go on with: semantos advance")
	})
}

// advanceDocument is what advance --json prints: the rollout that goes on, and where the loop stands.
type advanceDocument struct {
	Rollout *tune.Rollout   `json:"rollout"`
	Loop    *tune.LoopState `json:"loop,omitempty"`
}

func (a *app) advance(ctx context.Context, id string) error {
	c, err := a.served(ctx, "advance", "a rollout that waits belongs to a running serve")
	if err != nil {
		return err
	}
	var status statusDocument
	if err := c.call(ctx, http.MethodGet, "/status", nil, &status); err != nil {
		return err
	}
	wanted := id
	for _, r := range status.Rollouts {
		if wanted == "" && r.State == tune.Held && r.Ended.IsZero() {
			wanted = r.ID
		}
	}
	var doc advanceDocument
	if wanted != "" {
		doc.Rollout = &tune.Rollout{}
		if err := c.call(ctx, http.MethodPost, "/rollout/advance", console.AdvanceRequest{ID: wanted}, doc.Rollout); err != nil {
			return err
		}
	}
	if id == "" && status.Loop != nil && status.Loop.Held != "" {
		doc.Loop = &tune.LoopState{}
		if err := c.call(ctx, http.MethodPost, "/rollout/hold", console.HoldRequest{}, doc.Loop); err != nil {
			return err
		}
	}
	if doc.Rollout == nil && doc.Loop == nil {
		return usage("advance", "", "semantos status shows what runs", "nothing waits for a person")
	}
	return a.print(doc, func() {
		if doc.Rollout != nil {
			fmt.Fprintf(a.stdout, "Rollout %s goes on.\n", doc.Rollout.ID)
		}
		if doc.Loop != nil {
			fmt.Fprintln(a.stdout, "Serve may start rollouts again.")
		}
	})
}

func (a *app) abort(ctx context.Context, id, why string) error {
	var doc tune.Rollout
	c := a.serving(ctx)
	if c == nil {
		r, err := a.abortSaved(ctx, id, why)
		if err != nil {
			return err
		}
		doc = r
	} else if err := c.call(ctx, http.MethodPost, "/rollout/abort", console.AbortRequest{ID: id, Why: why}, &doc); err != nil {
		return err
	}
	return a.tellAborted(doc)
}

func (a *app) tellAborted(doc tune.Rollout) error {
	late := doc.State == tune.Committed // it was kept before the word came
	err := a.print(doc, func() {
		fmt.Fprintf(a.stdout, "Rollout %s is %s (%s): %s\n", doc.ID, doc.State, doc.Reason, oneLine(doc.Detail))
		if late {
			fmt.Fprintf(a.stdout, "It was kept before it could be stopped. Put it back with: semantos rollback %s\n", doc.ID)
		}
	})
	if err == nil && late {
		return statusError{exit: exitFailed}
	}
	return err
}

// abortSaved ends a rollout that waits for serve to start again: its values are back already.
func (a *app) abortSaved(ctx context.Context, id, why string) (tune.Rollout, error) {
	_, err := a.served(ctx, "abort", "a foreground apply is ended with Ctrl-C, everything on this host with semantos freeze")
	store, openErr := a.openHistory(ctx)
	if openErr != nil || store == nil {
		return tune.Rollout{}, err
	}
	r, findErr := store.Rollout(ctx, id)
	if findErr != nil || !savedTrials(ctx, store)[r.ID] || !unfinished(r) {
		return tune.Rollout{}, err
	}
	r = a.settled(ctx, store).one(r, false)
	if unfinished(r) {
		r.State, r.Reason = tune.RolledBack, tune.ReasonOperator
		r.Detail = (&stopped{a.actor(), why}).Error()
	}
	r.Ended = a.now()
	if err := store.SaveRollout(ctx, r); err != nil {
		return r, err
	}
	return r, store.DropTrial(ctx, r.ID)
}

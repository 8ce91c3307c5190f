package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"semantos/console"
	"semantos/internal/tune"
	"semantos/safety/guard"
)

func (a *app) freezeCommand() *cobra.Command {
	var off bool
	var why string
	cmd := &cobra.Command{
		Use:   "freeze [--why TEXT] | --off",
		Short: "put back what is being tried and let nothing change on this host, until freeze --off",
		Long: "What runs is put back at once, whoever runs it; what is committed stays, and rollback and undo go on\n" +
			"working. Nothing starts: not serve's loop, not apply, not a request; --yes does not pass it. It holds for\n" +
			"every DATA_DIR of this host and outlives the end of serve and the next boot. No serve needs to run.",
		Example: "  semantos freeze --why 'release of the shop until 18:00'\n  semantos freeze --off",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if off && why != "" {
				return usage("freeze", "", "give --why when freezing", "--off takes no reason")
			}
			if len(why) > console.LongestWhy {
				return usage("freeze", "", "give a shorter --why", "the reason has %d bytes, %d are the most", len(why), console.LongestWhy)
			}
			return a.freeze(cmd.Context(), !off, why)
		},
	}
	cmd.Flags().StringVar(&why, "why", "", "the reason, for whoever meets it")
	cmd.Flags().BoolVar(&off, "off", false, "take it back: changes may be made again")
	return cmd
}

// frozen is the freeze that stands on this host, as far as it can be seen from here.
func (a *app) frozen() *tune.Freeze { return guard.Frozen(a.cfg.DataDir, a.runDir()) }

// refuseFrozen is what every command that changes something asks first.
func (a *app) refuseFrozen(op string) error {
	if f := a.frozen(); f != nil {
		return &tune.Error{Op: op, Err: *f, Hint: "semantos freeze --off lets changes be made again"}
	}
	return nil
}

// freeze writes the word first, so that nothing depends on a serve that answers, and then has whatever
// runs put back.
func (a *app) freeze(ctx context.Context, on bool, why string) error {
	doc := console.FreezeResult{Rollouts: []tune.Rollout{}, Restored: []tune.Managed{}}
	before := trying(a.inspectQuietly())
	wroteErr := a.writeFreeze(on, why)
	if c := a.serving(ctx); c != nil {
		asked, cancel := context.WithTimeout(ctx, freezeAnswer)
		defer cancel()
		err := c.call(asked, http.MethodPost, "/freeze", console.FreezeRequest{Freeze: on, Why: why}, &doc)
		switch {
		case err == nil:
			wroteErr = nil // its guard has written what we may not
		case wroteErr != nil:
			return errors.Join(wroteErr, err)
		default: // the word stands; a serve that does not answer finds it at its next write
			a.say("serve was not told: %v", err)
		}
	} else if err := a.freezeAlone(ctx, on, why); err != nil && wroteErr == nil {
		a.say("%v", err)
	}
	if wroteErr != nil && a.frozen() == nil == on {
		return wroteErr
	}
	if wroteErr != nil {
		a.say("%v", wroteErr)
	}
	doc.Frozen = a.frozen()
	if doc.Frozen == nil && on { // not ours to see
		doc.Frozen = &tune.Freeze{At: a.now().UTC(), By: a.actor(), Why: why, DataDir: a.cfg.DataDir}
	}
	left := a.waitPutBack(ctx, on)
	if on && len(doc.Restored) == 0 {
		doc.Restored = append(doc.Restored, putBackOf(before, left)...)
	}
	if err := a.print(doc, func() { showFreeze(a.stdout, doc) }); err != nil {
		return err
	}
	if len(left) > 0 {
		for _, m := range left {
			a.say("%s on %s is not back yet: it is %q", m.Tunable, m.Target, m.Current)
		}
		return statusError{exit: exitFailed}
	}
	return nil
}

// freezeAnswer is what a running serve has to put a trial back and say so.
const freezeAnswer = 15 * time.Second

func (a *app) writeFreeze(on bool, why string) error {
	if !on {
		return guard.Thaw(a.cfg.DataDir, a.runDir())
	}
	return guard.Freeze(a.cfg.DataDir, a.runDir(), tune.Freeze{At: a.now().UTC(), By: a.actor(), Why: why, DataDir: a.cfg.DataDir})
}

// freezeAlone has a guard of our own restore what a killed command left, and log who froze the host. While
// another command's guard works, that one obeys and logs.
func (a *app) freezeAlone(ctx context.Context, on bool, why string) error {
	if a.uid != 0 || guard.Alive(a.runDir()) {
		return nil
	}
	g, err := a.startGuard(ctx)
	if errors.Is(err, tune.ErrBusy) {
		return nil
	}
	if err != nil {
		return err
	}
	if !on {
		return g.Thaw(ctx, a.actor())
	}
	_, err = g.Freeze(ctx, a.actor(), why)
	return err
}

// waitPutBack gives what is still being tried after the guard had its time.
func (a *app) waitPutBack(ctx context.Context, on bool) []tune.Managed {
	if !on {
		return nil
	}
	deadline := a.now().Add(freezeTime)
	for {
		left := trying(a.inspectQuietly())
		if len(left) == 0 || a.now().After(deadline) || ctx.Err() != nil {
			return left
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (a *app) inspectQuietly() []tune.Managed {
	managed, _ := a.inspect() // what is not readable is not known to be tried
	return managed
}

// trying leaves what is neither committed nor at its original.
func trying(managed []tune.Managed) []tune.Managed {
	var out []tune.Managed
	for _, m := range managed {
		if (m.State == "trying" || m.State == "in_doubt") && m.Current != m.Original {
			out = append(out, m)
		}
	}
	return out
}

// putBackOf is what was being tried before and is not any more.
func putBackOf(before, left []tune.Managed) []tune.Managed {
	var out []tune.Managed
	for _, m := range before {
		still := false
		for _, l := range left {
			still = still || l.Tunable == m.Tunable && l.Target == m.Target
		}
		if !still {
			m.Current, m.State = m.Original, string(guard.PutBack)
			out = append(out, m)
		}
	}
	return out
}

func showFreeze(w io.Writer, doc console.FreezeResult) {
	if doc.Frozen == nil {
		fmt.Fprintln(w, "Not frozen: changes may be made.")
		return
	}
	paragraph(w, 2, "", sentence(oneLine(doc.Frozen.Error()))+".")
	if len(doc.Restored) > 0 {
		rows := make([][]string, len(doc.Restored))
		for i, m := range doc.Restored {
			name := changeName(tune.Change{Tunable: m.Tunable, Scope: m.Scope, Target: m.Target})
			rows[i] = []string{name, string(m.Current), m.State, m.Rollout}
		}
		table(w, []string{"TUNABLE", "NOW", "OUTCOME", "ROLLOUT"}, rows)
	}
	fmt.Fprintln(w, "What is committed stays. Take it back with: semantos freeze --off")
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"semantos/console"
	"semantos/internal/tune"
	"semantos/safety/guard"
)

// allBack reports whether every value is back, or is somebody else's now.
func allBack(doc console.RollbackResult) bool {
	return !slices.ContainsFunc(doc.Restored, func(m tune.Managed) bool { return m.State == string(guard.Failed) })
}

func (a *app) rollbackCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "rollback ID | --all",
		Short: "put back what a rollout changed, or everything semantos holds",
		Long: "Compare and restore: a value that something else changed meanwhile is left to it, and named. The id\n" +
			"is a rollout's, or a recommendation's for its newest rollout. Files of --persist are removed.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == all {
				return usage("rollback", "", "semantos rollback ID, or semantos rollback --all", "give one id, or --all")
			}
			id := ""
			if len(args) == 1 {
				id = args[0]
			}
			return a.rollback(cmd.Context(), id)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "every rollout that holds something")
	return cmd
}

func (a *app) undoCommand() *cobra.Command {
	var lines bool
	cmd := &cobra.Command{
		Use:   "undo",
		Short: "put back the newest rollout, or print the shell lines that do",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			managed, err := a.inspect()
			if err != nil && len(managed) == 0 {
				return err
			}
			id := newestRollout(a.ours(managed))
			if lines {
				return a.printUndo(id)
			}
			if id == "" {
				return a.showRestored(nothingBack())
			}
			return a.rollback(cmd.Context(), id)
		},
	}
	cmd.Flags().BoolVar(&lines, "print", false, "print the plain shell lines instead, and write nothing")
	return cmd
}

// newestRollout is the one whose entries stand last in the journal.
func newestRollout(managed []tune.Managed) string {
	for i := len(managed) - 1; i >= 0; i-- {
		if managed[i].Rollout != "" && managed[i].State != "gone" && managed[i].State != "yielded" {
			return managed[i].Rollout
		}
	}
	return ""
}

// undoDocument is what undo --print --json prints.
type undoDocument struct {
	Rollout string   `json:"rollout,omitempty"`
	Lines   []string `json:"lines"`
}

func (a *app) printUndo(id string) error {
	r, err := a.openRooms()
	if err != nil {
		return err
	}
	doc := undoDocument{Rollout: id, Lines: []string{}}
	if id != "" {
		d := a.onDisk()
		changes, err := guard.InspectUndo(d.dataDir, d.runDir, d.bootID, id)
		if err != nil {
			return err
		}
		doc.Lines = append(doc.Lines, undoLines(changes, r.lookup, r.cgroupMount, r.enterNetns())...)
		files, err := guard.InspectFiles(d.dataDir, d.runDir, id)
		if err != nil {
			return err
		}
		for _, f := range files {
			doc.Lines = append(doc.Lines, "rm -f "+quote(filepath.Join("/", a.cfg.Root, f)))
		}
	}
	return a.print(doc, func() {
		if len(doc.Lines) == 0 {
			a.say("nothing to undo: %s", a.asFound())
		}
		for _, line := range doc.Lines {
			fmt.Fprintln(a.stdout, line)
		}
	})
}

// cgroupMount is the hierarchy a cgroup file lies in: the unified one, or the one of its controller,
// which the file's name begins with.
func (r *rooms) cgroupMount(file string) string {
	top := r.host.Path("/sys/fs/cgroup")
	controller, _, _ := strings.Cut(file, ".")
	if _, err := os.Stat(filepath.Join(top, "cgroup.controllers")); err == nil {
		return top
	}
	return filepath.Join(top, controller)
}

// enterNetns gives the words that run a command in another network namespace.
func (r *rooms) enterNetns() func(target string) string {
	own, _ := r.ownNetns() // without one every namespace is another
	spaces, _ := r.host.Namespaces()
	return func(target string) string {
		if target == own {
			return ""
		}
		for _, ns := range spaces {
			if ns.Target == target && ns.Pid > 0 {
				return fmt.Sprintf("nsenter --net=/proc/%d/ns/net ", ns.Pid)
			}
		}
		return "# in network namespace " + target + ": "
	}
}

// rollbackAnswer is what a running serve has to put back and say so, also one that starts.
const rollbackAnswer = startTime + historyTime

// rollback puts one rollout back, or all of them for an empty id; through serve where it runs.
func (a *app) rollback(ctx context.Context, id string) error {
	if c := a.serving(ctx); c != nil {
		var doc console.RollbackResult
		asked, cancel := context.WithTimeout(ctx, rollbackAnswer)
		defer cancel()
		err := c.call(asked, http.MethodPost, "/rollback", console.RollbackRequest{ID: id, All: id == ""}, &doc)
		switch {
		case err == nil:
			return a.showRestored(doc)
		case !errors.Is(err, context.DeadlineExceeded):
			return err
		}
		a.say("serve does not answer: %v", err) // its guard may have gone; else the lock says whose it is
	}
	guard, err := a.startGuard(ctx)
	if err != nil {
		return err
	}
	doc, err := (&putBack{guard: guard, history: a.withStore, late: &a.late, dataDir: a.cfg.DataDir, actor: a.actor(), alerts: a.alerts,
		now: a.now, elsewhere: a.elsewhere}).rollback(ctx, id)
	if err == nil {
		return a.showRestored(doc)
	}
	if len(doc.Restored) == 0 {
		return err
	}
	if showErr := a.showRestored(doc); showErr != nil && exitOf(showErr) != exitFailed {
		return showErr
	}
	return statusError{exit: report(io.Discard, a.stderr, false, err)}
}

func nothingBack() console.RollbackResult {
	return console.RollbackResult{Rollouts: []tune.Rollout{}, Restored: []tune.Managed{}}
}

// outcomeOf says what stands now, with the outcome as the state.
func outcomeOf(r guard.Restored, managed []tune.Managed) tune.Managed {
	out := tune.Managed{Tunable: r.Tunable, Scope: r.Scope, Target: r.Target, Current: r.Value,
		State: string(r.Outcome), Rollout: r.Rollout, Detail: r.Detail}
	for _, m := range managed {
		if m.Tunable == r.Tunable && m.Target == r.Target && (r.Rollout == "" || m.Rollout == r.Rollout) {
			out.Original = m.Original
		}
	}
	return out
}

func (a *app) showRestored(doc console.RollbackResult) error {
	err := a.print(doc, func() {
		if len(doc.Restored) == 0 && len(doc.Rollouts) > 0 {
			for _, r := range doc.Rollouts {
				paragraph(a.stdout, 2, "", oneLine(fmt.Sprintf("Rollout %s is %s (%s): %s", r.ID, r.State, r.Reason, r.Detail)))
			}
			fmt.Fprintln(a.stdout, "Nothing of it stands any more.")
			return
		}
		if len(doc.Restored) == 0 {
			fmt.Fprintln(a.stdout, "Nothing to roll back: "+a.asFound())
			return
		}
		rows := make([][]string, len(doc.Restored))
		for i, m := range doc.Restored {
			name := changeName(tune.Change{Tunable: m.Tunable, Scope: m.Scope, Target: m.Target})
			rows[i] = []string{name, string(m.Original), string(m.Current), m.State, m.Rollout}
		}
		table(a.stdout, []string{"TUNABLE", "ORIGINAL", "NOW", "OUTCOME", "ROLLOUT"}, rows)
		for _, m := range doc.Restored {
			if m.State == string(guard.Yielded) {
				paragraph(a.stdout, 2, "", oneLine(m.Tunable+" on "+m.Target+" was left alone: "+m.Detail))
			}
		}
	})
	if err == nil && !allBack(doc) {
		return statusError{exit: exitFailed}
	}
	return err
}

package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"semantos/internal/tune"
)

// check is one managed tunable compared with what stands now.
type check struct {
	tune.Managed
	Live    tune.Value `json:"live"`
	Verdict string     `json:"verdict"` // match, changed, gone, unreadable
	Reason  string     `json:"reason,omitempty"`
}

type verifyDocument struct {
	Checks []check `json:"checks"`
	OK     bool    `json:"ok"`
}

func (a *app) verifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "compare every managed tunable with what stands now",
		Long: "Exit status 1 when something else changed a managed tunable, or when it cannot be read. A target\n" +
			"that is gone (a closed socket, a removed namespace) took its value with it and is no mismatch.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.openRooms()
			if err != nil {
				return err
			}
			managed, err := a.inspect()
			if err != nil {
				return err
			}
			doc := verifyDocument{Checks: []check{}, OK: true}
			for _, m := range managed {
				c := r.compare(m)
				doc.Checks = append(doc.Checks, c)
				doc.OK = doc.OK && (c.Verdict == "match" || c.Verdict == "gone")
			}
			if err := a.print(doc, func() { a.showChecks(doc) }); err != nil {
				return err
			}
			if !doc.OK {
				return statusError{exit: exitFailed}
			}
			return nil
		},
	}
}

func (r *rooms) compare(m tune.Managed) check {
	c := check{Managed: m}
	live, err := r.current(m.Tunable, m.Target)
	switch {
	case errors.Is(err, tune.ErrGone):
		c.Verdict, c.Reason = "gone", err.Error()
	case err != nil:
		c.Verdict, c.Reason = "unreadable", err.Error()
	case live != m.Current:
		c.Live, c.Verdict = live, "changed"
		c.Reason = "something else wrote it; semantos will yield to it and not put the original back"
	default:
		c.Live, c.Verdict = live, "match"
	}
	return c
}

func (a *app) showChecks(doc verifyDocument) {
	if len(doc.Checks) == 0 {
		fmt.Fprintln(a.stdout, "Nothing to verify: no tunable is held away from its original.")
		return
	}
	rows := make([][]string, len(doc.Checks))
	for i, c := range doc.Checks {
		name := changeName(tune.Change{Tunable: c.Tunable, Scope: c.Scope, Target: c.Target})
		rows[i] = []string{name, string(c.Current), string(c.Live), c.Verdict, oneLine(c.Reason)}
	}
	table(a.stdout, []string{"TUNABLE", "EXPECTED", "LIVE", "VERDICT", "REASON"}, rows)
}

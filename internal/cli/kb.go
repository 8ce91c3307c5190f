package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) kbCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "kb",
		Short: "search and show what semantos knows",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usage("run", "kb", "semantos kb search TEXT, or semantos kb --help for the others", "name what to look up")
		},
	}
	cmd.AddCommand(a.kbSearchCommand(), a.kbShowCommand(), a.kbNeighborhoodCommand(), a.kbPathCommand())
	return cmd
}

type searchDocument struct {
	Hits []hit `json:"hits"`
}

func (a *app) kbSearchCommand() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:     "search TEXT...",
		Short:   "find tunables and symptoms by keywords",
		Example: "  semantos kb search accept queue overflow",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 1 {
				return usage("read --limit", fmt.Sprint(limit), "give a number from 1", "it is too small")
			}
			r, err := a.openRooms()
			if err != nil {
				return err
			}
			hits := search(passages(r.cat.All(), r.rules), args, limit)
			return a.print(searchDocument{Hits: hits}, func() {
				if len(hits) == 0 {
					fmt.Fprintln(a.stdout, "Nothing found: no tunable or symptom has any of these words.")
					return
				}
				rows := make([][]string, len(hits))
				for i, h := range hits {
					rows[i] = []string{h.Kind, h.Name, fmt.Sprintf("%.2f", h.Score), h.Why}
				}
				table(a.stdout, []string{"KIND", "NAME", "SCORE", "WHY"}, rows)
			})
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 10, "how many hits to print")
	return cmd
}

func (a *app) kbShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "show one tunable or one symptom with its rule",
		Args:  oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := a.openRooms()
			if err != nil {
				return err
			}
			for _, rule := range r.rules {
				if rule.Name == args[0] {
					return a.print(map[string]any{"symptom": rule}, func() { a.showRule(rule) })
				}
			}
			return a.explainTunable(r, args[0])
		},
	}
}

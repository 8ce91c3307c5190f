package cli

import (
	"strings"

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
	cmd.AddCommand(a.kbSearchCommand(), a.kbShowCommand(), a.kbNeighborhoodCommand(), a.kbPathCommand(),
		a.kbInduceCommand(), a.kbStatsCommand(), a.kbExportCommand(), a.kbImportCommand())
	return cmd
}

func (a *app) kbShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME | FROM TYPE TO",
		Short: "show one tunable, one symptom with its rule, or one edge with its history",
		Long: "--json prints what semantos tunables NAME does, {\"symptom\": its rule}, or {\"edge\", \"history\": [{\"at\", \"trace\", \"observed\",\n" +
			"\"count\", \"weight\", \"evidence\", \"why\"}]}, oldest first.",
		Example: "  semantos kb show vm.swappiness\n  semantos kb show accept_queue_overflow relieves net.core.somaxconn",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 && len(args) != 3 {
				return usage("read", strings.Join(args, " "), "give one name, or the three words of an edge: FROM TYPE TO", "%d words", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 3 {
				return a.showEdge(cmd, args[0], args[1], args[2])
			}
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

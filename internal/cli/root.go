package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

const longHelp = `semantos watches a Linux host, says what holds the running workload back, tries a cure a little at
a time while it measures, keeps what measured better and puts back what did not.

  semantos recommend            what is short, and which tunables relieve it
  semantos apply ID             try one recommendation in stages, keep it only if it measured better
  semantos rollback ID|--all    put committed changes back
  semantos serve                watch, answer and, if told to, act by itself
  semantos freeze               put back what is being tried, and let nothing change until freeze --off

Exit status: 0 done, 1 failed, 2 wrong usage or input, 3 vetoed or rolled back, 4 not permitted here.`

// rootCommand builds the whole tree. A command of a later issue is not in it: an unknown command is a
// usage error, never a stub.
func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:                        "semantos",
		Short:                      "autopilot for Linux kernel tunables",
		Long:                       longHelp,
		SilenceErrors:              true,
		SilenceUsage:               true,
		SuggestionsMinimumDistance: 2,
		CompletionOptions:          cobra.CompletionOptions{HiddenDefaultCmd: true},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.start(cmd); err != nil {
				return err
			}
			if onlyReads(cmd) {
				a.mentionLeftovers()
			}
			return nil
		},
	}
	a.globalFlags(root.PersistentFlags())
	a.shapeHelp(root)
	root.AddCommand(
		a.serveCommand(), a.recommendCommand(), a.applyCommand(), a.holdCommand(), a.advanceCommand(), a.abortCommand(), a.freezeCommand(), a.ablateCommand(), a.rollbackCommand(), a.undoCommand(),
		a.statusCommand(), a.historyCommand(), a.explainCommand(), a.verifyCommand(), a.telemetryCommand(),
		a.tunablesCommand(), a.kbCommand(), a.exportCommand(), a.calibrateCommand(), a.doctorCommand(), a.configCommand(),
		a.versionCommand(), a.guardCommand(),
	)
	return root
}

// shapeHelp has every help begin with what the command does, and wraps flags to the page.
func (a *app) shapeHelp(root *cobra.Command) {
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) {
		text := strings.TrimSpace(cmd.Long)
		if cmd.HasParent() {
			text = strings.TrimSpace(sentence(cmd.Short) + ".\n\n" + text)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s\n\n%s", text, cmd.UsageString())
	})
	page := fmt.Sprintf(".FlagUsagesWrapped %d ", pageOf(a.stdout))
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages ", page))
}

// onlyReads reports whether a command looks at tunables and never restores one: it says what a killed
// semantos left, and leaves it. The others restore it first.
func onlyReads(cmd *cobra.Command) bool {
	if cmd.HasParent() && cmd.Parent().Name() == "kb" {
		return true
	}
	return slices.Contains([]string{"status", "history", "explain", "verify", "telemetry", "tunables", "export", "calibrate", "doctor"}, cmd.Name())
}

// noArgs and oneArg are cobra's own checks under one name each.
func noArgs(cmd *cobra.Command, args []string) error { return cobra.NoArgs(cmd, args) }

func oneArg(cmd *cobra.Command, args []string) error { return cobra.ExactArgs(1)(cmd, args) }

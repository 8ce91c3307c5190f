package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"semantos/internal/tune"
	"semantos/kb/exchange"
)

func (a *app) kbExportCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "export [FILE]",
		Short: "write everything the store holds as JSON Lines, byte-stable",
		Long: "Writes nodes, edges with their history, outcomes, rollouts and recommendations to FILE (standard output without one\n" +
			"or for -). The same knowledge gives the same bytes, whichever store holds it. With FILE, --json\n" +
			"prints how many of each: {\"nodes\", \"edges\", \"edge_events\", \"traces\", \"rollouts\", \"recommendations\"}.",
		Example: "  semantos kb export knowledge.jsonl",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.openPlanted(cmd)
			if err != nil {
				return err
			}
			if len(args) == 0 || args[0] == "-" {
				_, err := exchange.Export(cmd.Context(), s, a.stdout)
				return err
			}
			var counts exchange.Counts
			err = replaceFile(args[0], func(w io.Writer) error {
				counts, err = exchange.Export(cmd.Context(), s, w)
				return err
			})
			if err != nil {
				return err
			}
			return a.print(counts, func() { fmt.Fprintf(a.stdout, "%s written: %s.\n", args[0], countsLine(counts)) })
		},
	}
}

func (a *app) kbImportCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "import FILE",
		Short: "read what kb export wrote, all of it or nothing",
		Long: "Reads FILE (- is standard input) into the store. What the store has beside it stays; a node, edge, outcome or\n" +
			"rollout of the same name is replaced. A line that is not right stops the import before anything is stored. --json prints\n" +
			"how many of each, as kb export does.",
		Example: "  semantos kb import knowledge.jsonl",
		Args:    oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			in := a.stdin
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return usage("read", args[0], "name a file that is there, or - for standard input", "%v", err)
				}
				defer f.Close()
				if info, err := f.Stat(); err == nil && info.IsDir() {
					return usage("read", args[0], "name a file, or - for standard input", "it is a directory")
				}
				in = f
			}
			s, err := a.openPlanted(cmd)
			if err != nil {
				return err
			}
			counts, err := exchange.Import(cmd.Context(), s, in)
			if err != nil {
				return err
			}
			return a.print(counts, func() { fmt.Fprintf(a.stdout, "Taken in: %s.\n", countsLine(counts)) })
		},
	}
}

// openPlanted opens the store with the seed in it.
func (a *app) openPlanted(cmd *cobra.Command) (store, error) {
	r, err := a.openRooms()
	if err != nil {
		return nil, err
	}
	s, err := a.openStore(cmd.Context())
	if err != nil {
		return nil, err
	}
	_, err = a.openKnowledge(cmd.Context(), r, s, false)
	return s, err
}

// replaceFile writes beside a file and renames over it, so that it is whole or as it was.
func replaceFile(path string, write func(io.Writer) error) error {
	bad := func(err error) error {
		return &tune.Error{Op: "write", Subject: path, Err: err, Hint: "name a file in a directory that can be written"}
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return bad(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return bad(err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return bad(err)
	}
	return nil
}

func countsLine(c exchange.Counts) string {
	return fmt.Sprintf("%d nodes, %d edges, %d lines of their history, %d outcomes, %d rollouts, %d recommendations",
		c.Nodes, c.Edges, c.EdgeEvents, c.Traces, c.Rollouts, c.Recommendations)
}

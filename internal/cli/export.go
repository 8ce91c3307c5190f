package cli

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"semantos/internal/tune"
)

// exportDocument is what export --json prints: the lines as data, and the text of the format.
type exportDocument struct {
	Format   string `json:"format"`
	Text     string `json:"text"`
	Tunables []kept `json:"tunables"`
}

func (a *app) exportCommand() *cobra.Command {
	formats := exportFormats()
	names := slices.Sorted(maps.Keys(formats))
	var format string
	cmd := &cobra.Command{
		Use:     "export",
		Short:   "print what was kept as sysctl.d, TuneD profile or Ansible variables",
		Example: "  semantos export --format sysctl > /etc/sysctl.d/99-mine.conf",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			write, ok := formats[format]
			if !ok {
				return usage("read --format", format, "choose one of "+strings.Join(names, ", "), "there is no such format")
			}
			r, err := a.openRooms()
			if err != nil {
				return err
			}
			managed, err := a.inspect()
			if err != nil {
				return err
			}
			own, err := r.ownNetns()
			if err != nil {
				return err
			}
			all := keptFrom(managed, r.lookup, own)
			var text bytes.Buffer
			if err := write(&text, all); err != nil {
				return err
			}
			return a.print(exportDocument{Format: format, Text: text.String(), Tunables: all}, func() {
				fmt.Fprint(a.stdout, text.String())
			})
		},
	}
	cmd.Flags().StringVar(&format, "format", "sysctl", strings.Join(names, ", "))
	return cmd
}

// ownNetns spells our own network namespace as a target; a fake root has none.
func (r *rooms) ownNetns() (string, error) {
	return r.host.Resolve(&tune.Tunable{Name: "net", Scope: tune.ScopeNetns, Method: tune.MethodSysctl}, "")
}

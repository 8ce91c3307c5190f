package cli

import (
	"github.com/spf13/cobra"

	"semantos/internal/config"
)

// configDocument is what config --json prints; secrets are hidden.
type configDocument struct {
	Config []config.Row `json:"config"`
}

func (a *app) configCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "config",
		Short: "print every setting, its value and where it came from",
		Long: "Settings come from defaults, then the configuration file, then the environment, then flags.\n" +
			"A value that does not parse, or an unknown key, stops every command with one line that names it.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			rows := a.cfg.Rows()
			return a.print(configDocument{Config: rows}, func() {
				lines := make([][]string, len(rows))
				for i, r := range rows {
					lines[i] = []string{r.Key, r.Value, r.Origin}
				}
				table(a.stdout, []string{"KEY", "VALUE", "FROM"}, lines)
			})
		},
	}
}

package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker (see the Makefile); a plain go build leaves it as it stands.
var version = "dev"

// versionDocument is what version --json prints.
type versionDocument struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "print the version and how it was built",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			doc := versionDocument{Version: version, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						doc.Commit = s.Value
					}
				}
			}
			return a.print(doc, func() {
				fmt.Fprintf(a.stdout, "semantos %s %s %s/%s %s\n", doc.Version, doc.Go, doc.OS, doc.Arch, doc.Commit)
			})
		},
	}
}

// Command gen writes the generated reference pages: gen DIR.
//
// It owns nothing but the file names; what stands in the pages comes from internal/cli. It must never
// be needed to build or run semantos. A test in internal/cli compares the pages with what this would
// write.
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"semantos/internal/cli"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	if len(args) != 1 {
		return fmt.Errorf("give the directory to write to, such as docs")
	}
	pages, err := cli.Reference()
	if err != nil {
		return err
	}
	for name, page := range pages {
		path := filepath.Join(args[0], name)
		if err := os.WriteFile(path, page, 0o644); err != nil {
			return err
		}
		fmt.Fprintln(out, path)
	}
	return nil
}

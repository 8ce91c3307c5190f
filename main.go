// Command semantos is an autopilot for Linux kernel tunables.
package main

import (
	"os"

	"semantos/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

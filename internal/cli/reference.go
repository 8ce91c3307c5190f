package cli

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"semantos/internal/config"
	"semantos/internal/tune"
	"semantos/kb"
	"semantos/telemetry"
)

// Reference gives the generated pages of docs/ by file name.
func Reference() (map[string][]byte, error) {
	cat, err := kb.Load(kb.Options{})
	if err != nil {
		return nil, err
	}
	rules, err := kb.LoadRules(kb.Options{})
	if err != nil {
		return nil, err
	}
	pages := map[string]func(io.Writer) error{
		"tunables.md": func(w io.Writer) error { return kb.WriteMarkdown(w, cat) },
		"rules.md":    func(w io.Writer) error { return kb.WriteRulesMarkdown(w, rules) },
		"signals.md":  func(w io.Writer) error { return writeSignals(w, telemetry.Signals()) },
		"cli.md":      writeCommands,
	}
	out := map[string][]byte{}
	for name, write := range pages {
		var page bytes.Buffer
		if err := write(&page); err != nil {
			return nil, fmt.Errorf("write %s: %w", name, err)
		}
		out[name] = page.Bytes()
	}
	return out, nil
}

func writeSignals(w io.Writer, signals []tune.Signal) error {
	fmt.Fprintf(w, "# Signals\n\nGenerated from `telemetry` and `ebpf`; do not edit. %d signals.\n\n", len(signals))
	fmt.Fprint(w, "A counter's signal is its rate per second over the window, and NAME.total its increase; a gauge's is\n"+
		"the mean, with NAME.max and NAME.last; a histogram is NAME.p50, NAME.p95, NAME.p99 and NAME.mean of what\n"+
		"was counted in the window, and NAME.rate, counted per second. An absent signal is no data, never zero.\n\n")
	fmt.Fprintln(w, "| signal | of | unit | kind | meaning | source |\n| --- | --- | --- | --- | --- | --- |")
	for _, s := range signals {
		of, kind := s.Entity, "gauge"
		if of == "" {
			of = "host"
		}
		switch {
		case s.Counter:
			kind = "counter"
		case s.Histogram:
			kind = "histogram"
		}
		fmt.Fprintf(w, "| `%s` | %s | %s | %s | %s | %s |\n", s.Name, of, s.Unit, kind, bar(s.Help), bar(s.Source))
	}
	return nil
}

// bar keeps a table's cell in its column.
func bar(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", "\\|")
}

// writeCommands prints every command with its flags, then the global flags and the exit statuses.
func writeCommands(w io.Writer) error {
	root := (&app{}).rootCommand()
	fmt.Fprint(w, "# Command line\n\nGenerated from `internal/cli`; do not edit.\n\n```\n"+root.Long+"\n```\n")
	for _, cmd := range root.Commands() {
		writeCommand(w, cmd)
	}
	fmt.Fprint(w, "\n## Flags of every command\n\n| flag | key | default | meaning |\n| --- | --- | --- | --- |\n")
	fmt.Fprint(w, "| `--json` | | false | one JSON document on stdout, in every outcome |\n"+
		"| `--config` | | "+config.DefaultFile+" | file of KEY=VALUE lines |\n")
	for _, f := range config.Flags() {
		fmt.Fprintf(w, "| `--%s` | %s | %s | %s |\n", f.Name, f.Key, bar(f.Default), bar(f.Help))
	}
	fmt.Fprint(w, "\n## Errors\n\n| cause | exit status | try |\n| --- | --- | --- |\n")
	for _, o := range outcomes() {
		fmt.Fprintf(w, "| %s | %d | %s |\n", bar(o.err.Error()), o.exit, bar(o.hint))
	}
	fmt.Fprint(w, "\nWith --json an error of a command that has no document of its own is\n"+
		"`{\"error\":{\"message\":…,\"subject\":…,\"hint\":…,\"exit\":N}}`.\n")
	return nil
}

func writeCommand(w io.Writer, cmd *cobra.Command) {
	if cmd.Hidden || cmd.Name() == "help" {
		return
	}
	fmt.Fprintf(w, "\n## %s\n\n%s.\n", cmd.UseLine(), sentence(cmd.Short))
	if cmd.Long != "" {
		fmt.Fprintf(w, "\n%s\n", cmd.Long)
	}
	if cmd.Example != "" {
		fmt.Fprintf(w, "\n```\n%s\n```\n", cmd.Example)
	}
	rows := 0
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		if rows++; rows == 1 {
			fmt.Fprint(w, "\n| flag | default | meaning |\n| --- | --- | --- |\n")
		}
		fmt.Fprintf(w, "| `--%s` | %s | %s |\n", f.Name, bar(f.DefValue), bar(f.Usage))
	})
	for _, child := range cmd.Commands() {
		writeCommand(w, child)
	}
}

func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

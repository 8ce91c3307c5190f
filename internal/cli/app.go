package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"semantos/internal/config"
)

// app is one invocation: its streams, its clock, its configuration and what it must close.
type app struct {
	args           []string
	stdin          io.Reader
	stdout, stderr io.Writer
	env            []string
	now            func() time.Time
	uid            int
	exe            string       // the guard's binary, "" for our own
	log            *slog.Logger // serve's; nil elsewhere

	json       bool
	configFile string
	cfg        config.Config
	started    bool     // cobra accepted the command line
	store      store    // once it is open
	alerts     *alerter // once a guard works
	closers    []func() error
	late       sync.WaitGroup // what goes on after the command has said how it ended: see childOf

	over   *handover  // serve after root's rights were given up; nil elsewhere
	handed []*os.File // what goes over the exec
	stays  string     // why serve kept the rights it was started with
	rights string     // what it has instead
}

// globalFlags registers --json, --config and one flag per configuration key.
func (a *app) globalFlags(flags *pflag.FlagSet) {
	flags.BoolVar(&a.json, "json", false, "print one JSON document on stdout")
	flags.StringVar(&a.configFile, "config", "", "read this file of KEY=VALUE lines instead of "+config.DefaultFile)
	for _, f := range config.Flags() {
		flags.String(f.Name, "", f.Help)
	}
	flags.SortFlags = false
}

// start loads the configuration once the command line is understood.
func (a *app) start(cmd *cobra.Command) error {
	a.started = true
	given := map[string]string{}
	known := map[string]bool{}
	for _, f := range config.Flags() {
		known[f.Name] = true
	}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if known[f.Name] {
			given[f.Name] = f.Value.String()
		}
	})
	if steps := cmd.Flags().Lookup("steps"); steps != nil && steps.Changed {
		given["rollout-steps"] = steps.Value.String()
	}
	over, err := a.takeOver()
	if err != nil {
		return err
	}
	src := config.Sources{File: a.configFile, Env: a.env, Flags: given, UID: a.uid}
	if over != nil { // the same settings as root read
		a.over, src.UID, src.Content = over, 0, over.Config
	}
	cfg, err := config.Load(src)
	if err != nil {
		return err
	}
	a.cfg = cfg
	if over == nil && cmd.Name() != "guard" { // whoever started those has said it
		for _, notice := range cfg.Notices {
			a.say("note: %s", notice)
		}
	}
	return nil
}

// configPath is the configuration file that counts.
func (a *app) configPath() string { return cmp.Or(a.configFile, config.DefaultFile) }

// say prints one message for people on stderr.
func (a *app) say(format string, args ...any) {
	text := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; ") // of errors joined
	fmt.Fprintln(a.stderr, "semantos: "+oneLine(text))
}

// print gives the document to programs or the table to people.
func (a *app) print(doc any, people func()) error {
	if a.json {
		printJSON(a.stdout, doc)
		return nil
	}
	people()
	return nil
}

// onClose runs at the end of the command, last registered first.
func (a *app) onClose(f func() error) { a.closers = append(a.closers, f) }

func (a *app) close() error {
	var errs []error
	for i := len(a.closers) - 1; i >= 0; i-- {
		errs = append(errs, a.closers[i]())
	}
	a.closers = nil
	return errors.Join(errs...)
}

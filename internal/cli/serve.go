package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"semantos/console"
	"semantos/internal/loop"
	"semantos/internal/tune"
)

func (a *app) serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "watch this host, answer on LISTEN and the control socket, act by itself under AUTO_APPLY",
		Long: "Watches, diagnoses and recommends; with --auto-apply on it also tries, one recommendation at a time, and\n" +
			"keeps what measured better. Without rights it watches and recommends only. SIGTERM ends it within a few\n" +
			"seconds; what is not committed is put back first.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.serve(cmd.Context()) },
	}
}

func (a *app) serve(ctx context.Context) error {
	if err := a.cfg.PrepareDataDir(); err != nil {
		return err
	}
	control, err := console.ListenUnix(a.cfg.Socket())
	if err != nil {
		return err
	}
	defer control.Close()
	web, err := listen(a.cfg.Listen)
	if err != nil {
		return err
	}
	defer web.Close()
	log := slog.New(slog.NewTextHandler(a.stderr, nil))
	s := &server{app: a, hub: console.NewHub()}
	desk, err := console.New(console.Config{
		Watch: s, Adviser: s, Rollouts: s, Samples: s, Records: s, Collectors: s.collectors, Hub: s.hub,
		Version: version, Listen: a.cfg.Listen, UID: a.uid, Log: log,
	})
	if err != nil {
		return err
	}
	// The listeners answer while the rest opens: /healthz at once, /readyz says how far it is.
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	answered := make(chan error, 1)
	go func() {
		err := desk.Serve(ctx, web, control)
		stop(err)
		answered <- err
	}()
	workErr := a.work(ctx, stop, s, log)
	stop(workErr)
	notify(a.env, "STOPPING=1")
	return errors.Join(workErr, <-answered)
}

// work opens the rooms and runs the loop until ctx ends or the guard dies.
func (a *app) work(ctx context.Context, stop context.CancelCauseFunc, s *server, log *slog.Logger) error {
	l, err := a.openLive(ctx, s, log)
	if err != nil {
		return err
	}
	s.open(l)
	a.announce(l)
	notify(a.env, "READY=1")
	if l.trials != nil {
		go func() {
			select {
			case <-l.trials.guard.Done():
				stop(errGuardDied)
			case <-ctx.Done():
			}
		}()
	}
	err = l.loop.Run(ctx)
	if cause := context.Cause(ctx); errors.Is(cause, errGuardDied) {
		err = errors.Join(err, cause)
	}
	return err
}

var errGuardDied = errors.New("the guard process ended: nothing is changed any more; semantos status shows what it left")

func (a *app) openLive(ctx context.Context, s *server, log *slog.Logger) (*live, error) {
	r, err := a.openRooms()
	if err != nil {
		return nil, err
	}
	store, err := a.openStore(ctx)
	if err != nil {
		return nil, err
	}
	l := &live{rooms: r}
	l.trials, err = a.newTrials(ctx, r, store)
	switch {
	case err == nil:
		l.adviser, err = newAdviser(r, store, l.trials.gate)
	case errors.Is(err, tune.ErrNotPermitted) && a.cfg.AutoApply == loop.Off:
		l.noTrial = err
		l.adviser, err = newAdviser(r, store, r.newGate(a.cfg, a.onDisk()))
	}
	if err != nil {
		return nil, err
	}
	if l.sampler, err = a.newSampler(r, a.cfg.SampleWindow); err != nil {
		return nil, err
	}
	cfg := loop.Config{
		Sampler: l.sampler, Adviser: l.adviser, Store: store, SampleInterval: a.cfg.SampleInterval,
		PollInterval: a.cfg.PollInterval, AutoApply: a.cfg.AutoApply, Missing: neededOutcomes,
		Leftovers: func(ctx context.Context) ([]tune.Managed, error) { return l.managed(ctx, a) },
		Observe:   s.observe, Now: a.now, Log: log,
	}
	if l.trials != nil {
		cfg.Applier = unattended{s}
	}
	l.loop, err = loop.New(cfg)
	return l, err
}

// announce says what is watched and where.
func (a *app) announce(l *live) {
	mode := "recommends only (AUTO_APPLY=off)"
	switch {
	case l.trials == nil:
		mode = "recommends only: " + tune.ErrNotPermitted.Error()
	case a.cfg.AutoApply != loop.Off:
		mode = "applies by itself (AUTO_APPLY=" + a.cfg.AutoApply + ")"
	}
	where := "this host"
	if a.cfg.Root != "" {
		where = a.cfg.Root
	}
	fmt.Fprintf(a.stdout, "semantos %s watches %s: %d tunables, %d rules, every %s over %s\n", version, where,
		len(l.rooms.cat.All()), len(l.rooms.rules), a.cfg.SampleInterval, a.cfg.SampleWindow)
	fmt.Fprintf(a.stdout, "  health    http://%s/healthz /readyz /snapshot /metrics\n", a.cfg.Listen)
	fmt.Fprintf(a.stdout, "  control   %s (the command line uses it)\n", a.cfg.Socket())
	fmt.Fprintf(a.stdout, "  data      %s\n", a.cfg.DataDir)
	fmt.Fprintf(a.stdout, "  mode      %s\n", mode)
}

// listen opens LISTEN and says plainly what is wrong with it.
func listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err == nil {
		return l, nil
	}
	e := &tune.Error{Op: "listen on", Subject: address, Err: err, Hint: "name an address of this host with --listen HOST:PORT"}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		e.Err = fmt.Errorf("the port is in use: %w", syscall.EADDRINUSE)
		e.Hint = "stop what listens there, or choose another port with --listen HOST:PORT"
	case errors.Is(err, os.ErrPermission):
		e.Err = fmt.Errorf("%w: %w", tune.ErrNotPermitted, err)
	}
	return nil, e
}

// notify tells systemd, where it asked for it.
func notify(env []string, state string) {
	for _, e := range env {
		name, ok := strings.CutPrefix(e, "NOTIFY_SOCKET=")
		if !ok || name == "" {
			continue
		}
		if strings.HasPrefix(name, "@") {
			name = "\x00" + name[1:]
		}
		conn, err := net.DialTimeout("unixgram", name, time.Second)
		if err != nil {
			return // nobody listens: the start does not hang on it
		}
		_, _ = conn.Write([]byte(state))
		conn.Close()
	}
}

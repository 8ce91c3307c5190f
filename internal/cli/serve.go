package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"semantos/console"
	"semantos/internal/loop"
	"semantos/internal/tune"
	"semantos/safety/alert"
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
		a.recoverLeftovers(ctx) // serve's own guard would have
		return err
	}
	if a.over == nil {
		if err := a.becomeOrdinary(ctx); err != nil {
			return err
		}
	}
	control, web, err := a.openDoors()
	if err != nil {
		return err
	}
	defer control.Close()
	defer web.Close()
	log := slog.New(slog.NewTextHandler(a.stderr, nil))
	a.log = log
	s := &server{app: a, hub: console.NewHub()}
	desk, err := console.New(console.Config{
		Watch: s, Adviser: s, Rollouts: s, Samples: s, Records: s, Knowing: knows{s}, Teaching: knows{s},
		Collectors: s.collectors, Hub: s.hub, Probes: s.probes, Safety: s.safety, HostID: a.hostName(), Version: version, Listen: a.cfg.Listen, UID: a.uid, Log: log,
	})
	if err != nil {
		return err
	}
	// The listeners answer while the rest opens: /healthz at once, /readyz says how far it is.
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	s.ending = ctx.Done()
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

// openDoors listens, or takes over what listens already and shuts what an ordinary user does not need.
func (a *app) openDoors() (control, web net.Listener, err error) {
	if a.over != nil {
		if err := a.confine(); err != nil {
			return nil, nil, err
		}
		return a.over.open()
	}
	if control, err = console.ListenUnix(a.cfg.Socket()); err != nil {
		return nil, nil, err
	}
	if web, err = listen(a.cfg.Listen); err != nil {
		return nil, nil, errors.Join(err, control.Close())
	}
	return control, web, nil
}

// work opens the rooms and runs the loop until ctx ends or the guard dies.
func (a *app) work(ctx context.Context, stop context.CancelCauseFunc, s *server, log *slog.Logger) error {
	l, err := a.openLive(ctx, s, log)
	switch {
	case err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled):
		return nil // told to end before all was open: that is an end, no failure
	case err != nil:
		return err
	}
	s.open(l)
	// Serve stays for weeks beside what it watches: less garbage is kept than Go's default, and what opening
	// used goes back now.
	debug.SetGCPercent(50)
	debug.FreeOSMemory()
	if err := a.announce(l); err != nil {
		return err
	}
	notify(a.env, "READY=1")
	if l.trials != nil {
		go func() {
			select {
			case <-l.trials.guard.Done():
				a.alerts.fault(alert.Fault, alert.Critical, "guard_died", errGuardDied.Error())
				stop(errGuardDied)
			case <-ctx.Done():
			}
		}()
	}
	s.resumeSaved(ctx, l)
	err = l.loop.Run(ctx)
	s.resuming.Wait()
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
	l := &live{rooms: r, cal: a.newCalibrator(store)}
	if l.know, err = a.openKnowledge(ctx, r, store, true); err != nil {
		return nil, err
	}
	l.find = &finder{}
	l.trials, err = a.newTrials(ctx, r, store, l.know, l.cal)
	switch {
	case err == nil:
		l.adviser, err = newAdviser(r, store, l.trials.gate, a.now)
	case errors.Is(err, tune.ErrNotPermitted) && a.cfg.AutoApply == loop.Off:
		l.noTrial, l.noBudget = err, newBudget(a.cfg)
		if err := l.noBudget.load(ctx, store, a.now()); err != nil {
			return nil, err
		}
		l.adviser, err = newAdviser(r, store, r.newGate(a.cfg, a.onDisk(), l.cal, a.newPace(store)), a.now)
	}
	if err != nil {
		return nil, err
	}
	if l.sampler, err = a.newSampler(ctx, r, a.cfg.SampleWindow); err != nil {
		return nil, err
	}
	l.adviser.asks, l.adviser.know, l.adviser.graph = r.probes, l.know, l.know.Graph
	cfg := loop.Config{
		Sampler: l.sampler, Adviser: l.adviser, Store: store, SampleInterval: a.cfg.SampleInterval,
		PollInterval: a.cfg.PollInterval, AutoApply: a.cfg.AutoApply, Calibration: l.cal.Standing,
		Leftovers: func(ctx context.Context) ([]tune.Managed, error) { return l.managed(ctx, a) },
		History:   func(ctx context.Context) ([]tune.Rollout, error) { return past{store}.Rollouts(ctx, historyLooked) },
		Frozen:    func(ctx context.Context) *tune.Freeze { return l.frozen(ctx, a) },
		Observe:   s.observe, Now: a.now, Log: log,
	}
	if l.trials != nil {
		cfg.Applier = unattended{s}
		cfg.Who = l.trials.who
		need := 2 * time.Duration(len(a.cfg.RolloutSteps)) * defaultStageTime // twice what its stages take at the earliest
		cfg.Closed = func(now time.Time) string { return l.trials.budget.closed(now, need) }
	}
	l.loop, err = loop.New(cfg)
	return l, err
}

// serveDocument is what serve --json prints once it works.
type serveDocument struct {
	Version   string `json:"version"`
	Listen    string `json:"listen"`
	Socket    string `json:"socket"`
	DataDir   string `json:"data_dir"`
	Root      string `json:"root,omitempty"`
	Tunables  int    `json:"tunables"`
	Rules     int    `json:"rules"`
	AutoApply string `json:"auto_apply"`
	Probes    int    `json:"probes"` // eBPF probes that count
	Writes    bool   `json:"writes"` // false without rights: it only recommends
	Rights    string `json:"rights"` // what it runs with
}

// announce says what is watched and where.
func (a *app) announce(l *live) error {
	doc := serveDocument{Version: version, Listen: a.cfg.Listen, Socket: a.cfg.Socket(), DataDir: a.cfg.DataDir, Root: a.cfg.Root,
		Tunables: len(l.rooms.cat.All()), Rules: len(l.rooms.rules), AutoApply: a.cfg.AutoApply, Writes: l.trials != nil, Rights: a.rightsText()}
	probes := probeFinding(l.rooms.probes.set.Status())
	doc.Probes = l.rooms.probes.counting()
	return a.print(doc, func() {
		where, mode := "this host", "recommends, and applies what it is told to (AUTO_APPLY=off)"
		switch {
		case !doc.Writes:
			mode = "recommends only: " + shortReason(l.noTrial.Error())
		case doc.AutoApply != loop.Off:
			mode = "applies by itself (AUTO_APPLY=" + doc.AutoApply + ")"
		}
		if doc.Root != "" {
			where = doc.Root
		}
		fmt.Fprintf(a.stdout, "semantos %s watches %s: %d tunables, %d rules, a reading every %s, %s of them at a time\n", doc.Version,
			where, doc.Tunables, doc.Rules, a.cfg.SampleInterval, a.cfg.SampleWindow)
		fmt.Fprintf(a.stdout, "  health    http://%s/healthz /readyz /snapshot /metrics\n", doc.Listen)
		fmt.Fprintf(a.stdout, "  control   %s (the command line uses it)\n", doc.Socket)
		fmt.Fprintf(a.stdout, "  data      %s\n", doc.DataDir)
		counting, _, _ := strings.Cut(probes.Text, ", at ") // what they cost is not known yet
		fmt.Fprintf(a.stdout, "  probes    %s\n", shortReason(counting))
		fmt.Fprintf(a.stdout, "  rights    %s\n", doc.Rights)
		fmt.Fprintf(a.stdout, "  mode      %s\n", mode)
	})
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

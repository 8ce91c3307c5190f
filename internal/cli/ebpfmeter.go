package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"semantos/ebpf/probe"
	"semantos/ebpf/reqlat"
	"semantos/internal/host"
	"semantos/internal/tune"
	"semantos/workloads/meter"
)

// ebpfMeter measures the requests a server answers, as the kernel sees them: with a probe of its own,
// narrowed to that server and attached all the time while the command runs. It adds no load and needs
// nothing of the application.
type ebpfMeter struct {
	name  string
	of    meter.Traffic
	mode  string // USE_EBPF
	root  string // ROOT
	say   func(format string, args ...any)
	later func(close func() error)
	fresh bool
	p     *probe.Probe
	each  map[string]*probe.Probe // by unit, where the probe's own keys cannot tell them apart
}

// newEBPFMeter makes the meter; Check loads its probe.
func (a *app) newEBPFMeter(name string, of meter.Traffic) *ebpfMeter {
	return &ebpfMeter{name: name, of: of, mode: a.cfg.UseEBPF, root: a.cfg.Root, say: a.say, later: a.onClose}
}

func (m *ebpfMeter) Name() string { return m.name }

// Fresh is false unless connections were seen to live shortly: a server's old ones keep what they have.
func (m *ebpfMeter) Fresh() bool { return m.fresh }

// Check loads the probe, so that what keeps it from measuring is said before anything is tried. That
// nobody answers there yet is only said.
func (m *ebpfMeter) Check(ctx context.Context) error {
	refuse := func(err error, hint string) error {
		return &tune.Error{Op: "use meter", Subject: fmt.Sprintf("%.80q", m.name), Err: err, Hint: hint}
	}
	switch {
	case m.mode == "off":
		return refuse(fmt.Errorf("USE_EBPF=off: %w", tune.ErrUnsupported), "set USE_EBPF=auto, or give an http: or cmd: meter")
	case m.root != "":
		return refuse(fmt.Errorf("probes see the running kernel, not what lies below ROOT: %w", tune.ErrUnsupported), "give an http: or cmd: meter")
	case m.p != nil:
		return nil
	}
	scope, err := scopeOf(m.of, "/sys/fs/cgroup", "/run/netns")
	if err != nil {
		return refuse(err, "semantos telemetry --entity server shows who answers requests")
	}
	p, err := probe.Load(reqlat.New(), probe.Options{Scope: scope})
	if err != nil {
		return refuse(err, "run semantos as root; semantos doctor says what else keeps probes from loading")
	}
	m.p = p
	m.later(p.Close)
	if why := absentServer(ctx, m.of); why != "" {
		m.say("note: %s: %s", m.name, why)
	}
	return nil
}

// Sample counts for d. No request answered meanwhile is no data.
func (m *ebpfMeter) Sample(ctx context.Context, d time.Duration) (tune.MeterSample, error) {
	if err := m.Check(ctx); err != nil {
		return tune.MeterSample{}, err
	}
	start := time.Now()
	before, err := reqlat.Totals(m.p)
	if err != nil {
		return tune.MeterSample{}, err
	}
	if err := letPass(ctx, d); err != nil {
		return tune.MeterSample{}, err
	}
	after, err := reqlat.Totals(m.p)
	end := time.Now()
	if err != nil {
		return tune.MeterSample{}, err
	}
	seen := after.Since(before)
	if seen.Latency.Count() == 0 {
		return tune.MeterSample{}, fmt.Errorf("meter %s saw no request answered in %.1f s: %w", m.name, d.Seconds(), tune.ErrNoData)
	}
	return sampleOf(seen, start, end), nil
}

// letPass lets a sample's time pass.
func letPass(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// sampleOf says what was answered in between as a meter does. There must be an answer.
func sampleOf(seen reqlat.Requests, start, end time.Time) tune.MeterSample {
	return tune.MeterSample{
		Start: start, End: end, MedianMS: seen.Latency.Quantile(0.5) / 1e6, P95MS: seen.Latency.Quantile(0.95) / 1e6,
		Throughput: float64(seen.Count) / end.Sub(start).Seconds(),
	}
}

// scopeOf finds what the kernel knows a cgroup and a namespace by.
func scopeOf(t meter.Traffic, cgroups, namespaces string) (probe.Scope, error) {
	s := probe.Scope{Comm: t.Comm, Port: t.Port, TGID: uint32(t.PID)}
	if t.PID != 0 && errors.Is(unix.Kill(t.PID, 0), unix.ESRCH) {
		return s, fmt.Errorf("process %d: %w", t.PID, tune.ErrGone)
	}
	if t.Cgroup != "" {
		ino, err := inode(filepath.Join(cgroups, t.Cgroup))
		if unified := filepath.Join(cgroups, "unified"); err != nil {
			ino, err = inode(filepath.Join(unified, t.Cgroup))
		}
		if err != nil {
			return s, fmt.Errorf("cgroup %s: %w", t.Cgroup, tune.ErrGone)
		}
		s.Cgroup = ino
	}
	if t.Netns != "" {
		n, err := strconv.ParseUint(t.Netns, 10, 32)
		if err != nil {
			n, err = inode(filepath.Join(namespaces, filepath.Base(t.Netns)))
		}
		if err != nil {
			return s, fmt.Errorf("network namespace %s: %w", t.Netns, tune.ErrGone)
		}
		s.Netns = uint32(n)
	}
	return s, nil
}

func inode(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, err
	}
	return st.Ino, nil
}

// absentServer says what a person who mistyped would want to know: that nothing has this name, or that
// nothing listens on this port. "" when it is there or cannot be known.
func absentServer(ctx context.Context, t meter.Traffic) string {
	if t.Comm != "" && !runs(t.Comm) {
		return fmt.Sprintf("no process is called %s now", t.Comm)
	}
	if t.Port == 0 {
		return ""
	}
	h := host.New(host.Config{})
	defer h.Close()
	spaces, err := h.Namespaces()
	if err != nil {
		return ""
	}
	for _, ns := range spaces {
		if ctx.Err() != nil {
			return ""
		}
		listeners, err := h.Listeners(ns.Target)
		if err != nil || slices.ContainsFunc(listeners, func(l host.Listener) bool { return l.Port == t.Port }) {
			return ""
		}
	}
	return fmt.Sprintf("nothing listens on port %d now", t.Port)
}

// runs looks for a process by the name the kernel keeps of it; what cannot be listed may run.
func runs(comm string) bool {
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil || len(names) == 0 {
		return true
	}
	for _, path := range names {
		if text, err := os.ReadFile(path); err == nil && strings.TrimSuffix(string(text), "\n") == comm {
			return true
		}
	}
	return false
}

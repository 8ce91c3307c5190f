package cli

import (
	"context"
	"errors"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"semantos/console"
	"semantos/ebpf"
	"semantos/ebpf/probe"
	"semantos/internal/tune"
	"semantos/reasoner"
	"semantos/telemetry"
	"semantos/workloads/meter"
)

// probes are the one set of this process, which every sampler reads, and what asks for its costly ones.
type probes struct {
	set   *ebpf.Set
	needs needs
	now   func() time.Time
	hold  time.Duration // how long an asked probe stays on after the last who asked
}

// openProbes opens the set once, as USE_EBPF says. Commands that look at no signal never come here.
func (a *app) openProbes(ctx context.Context, r *rooms) error {
	if r.probes != nil {
		return nil
	}
	cfg := ebpf.Config{Mode: a.cfg.UseEBPF, Log: a.log, Now: a.now}
	if a.log == nil { // only serve stays long
		cfg.Turn = time.Second
	}
	if a.cfg.Root != "" { // config refuses "on" beside it
		cfg.Mode, cfg.Why = ebpf.Off, "probes see the running kernel, not what lies below ROOT"
	}
	if a.over != nil {
		cfg.Stats = a.over.looks.Statistics
	}
	set, err := ebpf.Open(ctx, cfg)
	if err != nil {
		return err
	}
	a.onClose(set.Close)
	r.probes = &probes{set: set, needs: newNeeds(ebpf.All(), r.rules), now: a.now, hold: max(time.Minute, 2*a.cfg.SampleWindow)}
	return nil
}

// needs says which probe delivers a signal, and which costly ones a rule shows, measures or judges by.
type needs struct {
	signal map[string]string // by every spelling
	rule   map[string][]string
	costly map[string]bool
	// one holds the probes that count a process of choice: all their signals are of processes.
	one map[string]bool
}

// quoted finds the names in a condition.
var quoted = regexp.MustCompile(`"([^"]+)"`)

func newNeeds(all []probe.Spec, rules []tune.Rule) needs {
	n := needs{signal: map[string]string{}, rule: map[string][]string{}, costly: map[string]bool{}, one: map[string]bool{}}
	for _, p := range all {
		n.costly[p.Name] = p.Costly
		n.one[p.Name] = !slices.ContainsFunc(p.Signals, func(s tune.Signal) bool { return s.Entity != tune.EntityProcess })
		for _, s := range p.Signals {
			for _, one := range telemetry.Series(s) {
				n.signal[one.Name] = p.Name
			}
		}
	}
	for _, r := range rules {
		names := append([]string{r.Measure.Signal}, r.Show...)
		for _, m := range quoted.FindAllStringSubmatch(r.When, -1) {
			names = append(names, m[1])
		}
		for _, name := range names {
			if p := n.signal[name]; n.costly[p] && !slices.Contains(n.rule[r.Name], p) {
				n.rule[r.Name] = append(n.rule[r.Name], p)
			}
		}
	}
	return n
}

// ask switches on what the rules of these symptoms show or measure by, and what other rules lack to be
// judged: their cheap signals say already that it matters. Why a probe does not load, its status says.
func (p *probes) ask(symptoms []tune.Symptom, unseen []reasoner.Unseen) {
	if p == nil {
		return
	}
	until := p.now().Add(p.hold)
	for _, s := range symptoms {
		for _, name := range p.needs.rule[s.Name] {
			_ = p.set.Want(ebpf.Ask{Probe: name, Scope: p.needs.scope(name, s.Labels["process"]), Until: until, Why: "symptom " + s.Name})
		}
	}
	for _, u := range unseen {
		if name := p.needs.signal[u.Missing]; p.needs.costly[name] {
			_ = p.set.Want(ebpf.Ask{Probe: name, Scope: p.needs.scope(name, u.Entity), Until: until, Why: "to judge " + u.Rule})
		}
	}
}

// scope is the process a probe is to count, where it counts one; none without a pid:N.
func (n needs) scope(name, process string) probe.Scope {
	text, found := strings.CutPrefix(process, "pid:")
	pid, err := strconv.ParseUint(text, 10, 32)
	if !n.one[name] || !found || err != nil {
		return probe.Scope{}
	}
	return probe.Scope{TGID: uint32(pid)}
}

// want switches a probe on for a person who looks for some time: NAME, or NAME:comm=X and the like.
func (p *probes) want(spec string, d time.Duration) error {
	name, rest, narrow := strings.Cut(spec, ":")
	var scope probe.Scope
	if narrow {
		of, err := meter.ParseTraffic(spec, rest)
		if err == nil {
			scope, err = scopeOf(of, "/sys/fs/cgroup", "/run/netns")
		}
		if e := (*tune.Error)(nil); errors.As(err, &e) {
			err = e.Err // it speaks of meters
		}
		if err != nil {
			return &tune.Error{Op: "read --probe", Subject: spec, Err: err, Hint: "give NAME, or NAME:comm=PROCESS, NAME:pid=N"}
		}
	}
	err := p.set.Want(ebpf.Ask{Probe: name, Scope: scope, Until: p.now().Add(d + time.Minute), Whole: true, Why: "telemetry --probe"})
	switch {
	case errors.Is(err, tune.ErrUsage):
		return &tune.Error{Op: "switch on probe", Subject: spec, Err: err, Hint: "give --probe " + name + ":comm=PROCESS or " + name + ":pid=N"}
	case errors.Is(err, tune.ErrUnknown):
		var all []string
		for _, s := range ebpf.All() {
			all = append(all, s.Name)
		}
		return usage("read --probe", name, "the probes are "+strings.Join(all, ", "), "no probe has this name")
	case err != nil:
		return &tune.Error{Op: "switch on probe", Subject: name, Err: err, Hint: "semantos doctor --verbose says more"}
	}
	return nil
}

// keep gives what a meter calls before it measures a signal for some time: meanwhile the probe counts all
// the time. It is nil when no probe delivers the signal.
func (p *probes) keep(m tune.Measure) func(d time.Duration) {
	if p == nil || p.needs.signal[m.Signal] == "" {
		return nil
	}
	name := p.needs.signal[m.Signal]
	return func(d time.Duration) {
		until := p.now().Add(d + 5*time.Second) // the next slot asks again
		if p.needs.costly[name] {
			until = p.now().Add(d + p.hold) // loading takes longer than going on
		}
		_ = p.set.Want(ebpf.Ask{Probe: name, Scope: p.needs.scope(name, m.Entity), Until: until, Whole: true, Why: "a trial measures " + m.Signal})
	}
}

// page is what /metrics shows of the probes.
func (p *probes) page() ([]console.ProbeStat, []console.Histogram) {
	if p == nil {
		return nil, nil
	}
	var stats []console.ProbeStat
	for _, s := range p.set.Status() {
		up := s.State != ebpf.StateFailed && s.State != ebpf.StateOff
		stats = append(stats, console.ProbeStat{Name: s.Name, Up: up, Duty: s.Duty, Measured: s.Measured, CPUShare: s.CPUShare, Lost: s.Lost})
	}
	out := &histograms{help: map[string]string{}}
	for _, spec := range ebpf.All() {
		for _, s := range spec.Signals {
			if s.Histogram && out.help[s.Name] == "" {
				out.help[s.Name] = sentence(s.Help) + "."
			}
		}
	}
	p.set.Totals(out)
	return stats, out.list
}

// histograms collects those of a set that are times; it implements ebpf.Sink.
type histograms struct {
	help map[string]string // by signal: one text for all of a metric's series
	list []console.Histogram
}

func (h *histograms) Begin(ebpf.Origin)                      {}
func (h *histograms) Counter(probe.Subject, string, float64) {}
func (h *histograms) Seconds(probe.Subject, string, float64) {}
func (h *histograms) Gauge(probe.Subject, string, float64)   {}

// Hist keeps one. The name's unit gives way to seconds, the base unit.
func (h *histograms) Hist(of probe.Subject, name string, x probe.Hist) {
	base, us := strings.CutSuffix(name, "_us")
	base, ms := strings.CutSuffix(base, "_ms")
	if !us && !ms || h.help[name] == "" {
		return
	}
	kind := of.Kind
	if kind == "" {
		kind = "host"
	}
	h.list = append(h.list, console.Histogram{
		Name: strings.NewReplacer(".", "_", "-", "_").Replace(base), Help: h.help[name], Kind: kind, Entity: of.ID,
		Count: x.Count(), Sum: float64(x.Sum) / 1e9,
		Below: func(seconds float64) float64 { return x.Below(uint64(seconds * 1e9)) },
	})
}

// hostName is the name the kernel knows the host by, "" when it has none.
func (a *app) hostName() string {
	text, err := os.ReadFile(a.cfg.Root + "/proc/sys/kernel/hostname")
	if err != nil {
		return ""
	}
	return oneLine(strings.TrimSpace(string(text)))
}

package cli

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"semantos/console"
	"semantos/ebpf"
	"semantos/ebpf/probe"
	"semantos/ebpf/runqlat"
	"semantos/internal/tune"
	"semantos/kb"
	"semantos/reasoner"
)

// TestNeeds: a rule asks for a costly probe when it shows, measures or judges by one of its signals.
func TestNeeds(t *testing.T) {
	t.Parallel()
	costly := probe.Spec{Name: "dear", Costly: true, Signals: []tune.Signal{probe.HistSignal("dear.wait_us", "", "us", "h", "s"),
		{Name: "dear.errors", Unit: "errors", Counter: true}}}
	cheap := probe.Spec{Name: "cheap", Signals: []tune.Signal{{Name: "cheap.errors", Unit: "errors", Counter: true}}}
	n := newNeeds([]probe.Spec{cheap, costly}, []tune.Rule{
		{Name: "shows", Show: []string{"x", "dear.wait_us.p95"}},
		{Name: "measures", Measure: tune.Measure{Signal: "dear.errors.total"}},
		{Name: "judges", When: `s["cpu.busy"] > 0.5 && s["dear.errors"] > 3`},
		{Name: "does not", Show: []string{"cheap.errors"}, When: `s["cheap.errors"] > 3`, Measure: tune.Measure{Signal: "x"}},
	})
	for _, name := range []string{"shows", "measures", "judges"} {
		if !slices.Equal(n.rule[name], []string{"dear"}) {
			t.Errorf("%s asks for %v", name, n.rule[name])
		}
	}
	if n.one["dear"] || n.scope("dear", "pid:7") != (probe.Scope{}) {
		t.Error("a probe of the host is narrowed to a process")
	}
	costly.Signals = []tune.Signal{{Name: "dear.share", Entity: tune.EntityProcess}}
	if of := newNeeds([]probe.Spec{costly}, nil); of.scope("dear", "pid:7").TGID != 7 || of.scope("dear", "comm:x") != (probe.Scope{}) {
		t.Error("a probe of one process is not narrowed to it")
	}
	if n.rule["does not"] != nil || n.costly["cheap"] || n.signal["dear.wait_us.rate"] != "dear" {
		t.Errorf("%+v", n)
	}
}

// TestSymptomsAskForProbes on the real kernel: a probe goes on for a symptom, a rule that lacks a signal,
// and a trial that measures one.
func TestSymptomsAskForProbes(t *testing.T) {
	t.Parallel()
	spec := runqlat.New()
	spec.Costly = true
	signal := spec.Signals[0].Name + ".p95"
	rules := []tune.Rule{{Name: "slow", Show: []string{signal}}}
	for name, ask := range map[string]func(p *probes){
		"symptom":     func(p *probes) { p.ask([]tune.Symptom{{Name: "slow"}}, nil) },
		"not judged":  func(p *probes) { p.ask(nil, []reasoner.Unseen{{Rule: "other", Missing: signal}}) },
		"measured":    func(p *probes) { p.keep(tune.Measure{Signal: signal})(time.Second) },
		"not at all":  func(p *probes) { p.ask([]tune.Symptom{{Name: "fast"}}, []reasoner.Unseen{{Missing: "x"}}) },
		"not costly":  func(p *probes) { _ = p.keep(tune.Measure{Signal: "vm.pgfault"}) },
		"by a person": func(p *probes) { _ = p.want("runqlat", time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set, err := ebpf.Open(t.Context(), ebpf.Config{Mode: ebpf.Auto, Specs: []probe.Spec{spec}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { set.Close() })
			ask(&probes{set: set, needs: newNeeds([]probe.Spec{spec}, rules), now: time.Now, hold: time.Minute})
			got := set.Status()[0]
			if got.State == ebpf.StateFailed {
				t.Skipf("probes do not load here: %s", got.Reason)
			}
			want := map[bool]string{true: ebpf.StateOff, false: ebpf.StateAsked}[strings.HasPrefix(name, "not ") && name != "not judged"]
			if got.State != want {
				t.Errorf("%+v, want %s", got, want)
			}
		})
	}
	var none *probes
	none.ask([]tune.Symptom{{Name: "slow"}}, nil) // commands that look once ask for nothing
	if none.keep(tune.Measure{Signal: signal}) != nil {
		t.Error("without probes there is something to keep")
	}
}

// TestPageOfProbes: what /metrics shows is in seconds, of the right entity, and agrees with its count.
func TestPageOfProbes(t *testing.T) {
	t.Parallel()
	h := &histograms{help: map[string]string{"request.latency_ms": "Time.", "sched.runq_latency_us": "Wait.", "x.size_kb": "No time."}}
	d := probe.Hist{Sum: 3e6, Bins: []probe.Bin{{Bucket: uint16(probe.Bucket(1e6)), Count: 3}}}
	h.Hist(probe.Subject{Kind: tune.EntityServer, ID: "s"}, "request.latency_ms", d)
	h.Hist(probe.Subject{}, "sched.runq_latency_us", d)
	h.Hist(probe.Subject{}, "x.size_kb", d)
	h.Hist(probe.Subject{}, "unlisted_us", d)
	if len(h.list) != 2 {
		t.Fatalf("%d histograms", len(h.list))
	}
	s, host := h.list[0], h.list[1]
	if s.Name != "request_latency" || s.Kind != "server" || s.Entity != "s" || s.Help != "Time." || s.Count != 3 || s.Sum != 0.003 {
		t.Errorf("%+v", s)
	}
	if host.Name != "sched_runq_latency" || host.Kind != "host" || host.Entity != "" {
		t.Errorf("%+v", host)
	}
	if s.Below(0.0005) != 0 || s.Below(0.01) != 3 {
		t.Errorf("below 0.5 ms: %v, below 10 ms: %v", s.Below(0.0005), s.Below(0.01))
	}
	if stats, hists := (*probes)(nil).page(); stats != nil || hists != nil {
		t.Error("a page without probes")
	}
}

// TestRealProbesReachThePage: from the kernel through the sampler to what /metrics and doctor print.
func TestRealProbesReachThePage(t *testing.T) {
	t.Parallel()
	a := &app{now: time.Now}
	a.cfg.UseEBPF = "auto"
	t.Cleanup(func() {
		if err := a.close(); err != nil {
			t.Error(err)
		}
	})
	r, err := a.openRooms()
	if err != nil {
		t.Fatal(err)
	}
	if r.probes != nil {
		t.Error("opening the rooms loads probes: status and tunables would too")
	}
	first, err := a.newSampler(t.Context(), r, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	set := r.probes
	second, err := a.newSampler(t.Context(), r, time.Minute)
	if err != nil || r.probes != set {
		t.Fatalf("the second sampler has a set of its own: %v", err)
	}
	for range 2 {
		time.Sleep(200 * time.Millisecond)
		for _, s := range []watch{first, second} {
			if err := s.Tick(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	all := r.probes.status(t.Context())
	if f := probeFinding(all); all[0].State == ebpf.StateFailed {
		t.Skipf("probes do not load here: %s", f.Text)
	}
	for _, s := range all {
		if s.State == ebpf.StateFailed {
			t.Logf("%s does not load here: %s", s.Name, s.Reason)
		} else if s.State != ebpf.StateOff && !s.Measured {
			t.Errorf("what %s costs is not known", s.Name)
		}
	}
	stats, hists := r.probes.page()
	if len(stats) != len(ebpf.All()) {
		t.Errorf("%d probes on the page", len(stats))
	}
	if !slices.ContainsFunc(hists, func(h console.Histogram) bool { return h.Name == "sched_runq_latency" && h.Count > 0 && h.Sum > 0 }) {
		t.Error("no run-queue latency on the page")
	}
	if _, ok := second.Snapshot().Signals["sched.runq_latency_us.rate"]; !ok {
		t.Error("the second sampler does not deliver it")
	}
}

func TestDoctorOfProbes(t *testing.T) {
	t.Parallel()
	good := ebpf.ProbeStatus{Name: "runqlat", State: ebpf.StateOn, Duty: 1, Measured: true, CPUShare: 0.0012, NSPerEvent: 90, EventsPerSec: 26000}
	asleep := ebpf.ProbeStatus{Name: "offcpu", State: ebpf.StateOff, Costly: true, Reason: "costly"}
	bad := ebpf.ProbeStatus{Name: "reqlat", State: ebpf.StateFailed, Reason: "refused", Verifier: "0: (b7) r0 = 0\nR1 invalid mem access"}
	off := ebpf.ProbeStatus{Name: "runqlat", State: ebpf.StateOff, Reason: "USE_EBPF=off"}
	for want, all := range map[string][]ebpf.ProbeStatus{
		"ok 1 of 2 eBPF probes count, at 0.12 % of all CPUs": {good, asleep},
		"limited 1 of 2 eBPF probes do not load: refused":    {good, bad},
		"limited no eBPF probe counts: USE_EBPF=off":         {off, asleep},
	} {
		if f := probeFinding(all); f.Status+" "+f.Text != want {
			t.Errorf("%s %s, want %s", f.Status, f.Text, want)
		}
	}
	good.Lost, good.Missing, good.Duty = 3, []string{"sched_x"}, 0.25
	var page bytes.Buffer
	showProbes(&page, []ebpf.ProbeStatus{good, bad, asleep}, true)
	text := strings.Join(strings.Fields(page.String()), " ")
	for _, want := range []string{"25 %", "0.12 %, 90 ns x 26000/s", "3 events lost; this kernel has no sched_x", "reqlat failed", "R1 invalid mem access"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, page.String())
		}
	}
	page.Reset()
	if showProbes(&page, []ebpf.ProbeStatus{bad}, false); strings.Contains(page.String(), "invalid mem") {
		t.Error("the verifier's pages without --verbose")
	}
}

// TestTelemetryShowsDistributions: one line for a histogram, its parts when one of them is asked for.
func TestTelemetryShowsDistributions(t *testing.T) {
	t.Parallel()
	snap := tune.Snapshot{Signals: map[string]float64{"sched.runq_latency_us.p50": 10, "sched.runq_latency_us.p95": 20,
		"sched.runq_latency_us.p99": 30, "sched.runq_latency_us.mean": 12, "sched.runq_latency_us.rate": 500, "tcpinfo.rtt_us.p50": 7}}
	show := func(filter string) string {
		var page bytes.Buffer
		showSignals(&page, snap, filter, "")
		return strings.Join(strings.Fields(page.String()), " ")
	}
	if got := show("runq"); !strings.Contains(got, "sched.runq_latency_us p50 10 us, p95 20 us, p99 30 us, mean 12 us, 500/s host") {
		t.Errorf("%s", got)
	}
	if got := show("runq_latency_us.p95"); !strings.Contains(got, "sched.runq_latency_us.p95 20 us host") {
		t.Errorf("%s", got)
	}
	if got := show("rtt"); !strings.Contains(got, "tcpinfo.rtt_us.p50 7 us host") {
		t.Errorf("%s", got)
	}
	delete(snap.Signals, "sched.runq_latency_us.p50")
	if got := show("runq"); !strings.Contains(got, "none in this window") {
		t.Errorf("%s", got)
	}
}

// TestModesOfProbes: on a fake root nothing is loaded, "on" is refused there, and an unknown probe named.
func TestModesOfProbes(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	var doc doctorDocument
	m.run(t, "doctor", "--json").decode(t, &doc)
	if len(doc.Probes) != len(ebpf.All()) {
		t.Fatalf("%d probes", len(doc.Probes))
	}
	for _, s := range doc.Probes {
		if s.State != ebpf.StateOff || !strings.Contains(s.Reason, "ROOT") {
			t.Errorf("%+v", s)
		}
	}
	if got := m.run(t, "doctor", "--use-ebpf", "on"); got.exit != exitUsage || !strings.Contains(got.stderr, "ROOT") {
		t.Errorf("on beside ROOT: %d %s", got.exit, got.stderr)
	}
	if got := m.run(t, "telemetry", "--probe", "nosuch"); got.exit != exitUsage || !strings.Contains(got.stderr, "runqlat") {
		t.Errorf("an unknown probe: %d %s", got.exit, got.stderr)
	}
	if got := m.run(t, "telemetry", "--probe", "runqlat"); got.exit == 0 || !strings.Contains(got.stderr, "ROOT") {
		t.Errorf("a probe of another root: %d %s", got.exit, got.stderr)
	}
	if got := m.run(t, "apply", "--set", "vm.swappiness=10", "--meter", "ebpf:comm=nginx"); got.exit == 0 || !strings.Contains(got.stderr, "ROOT") {
		t.Errorf("a meter of another root: %d %s", got.exit, got.stderr)
	}
}

// TestRulesNameSeriesOfHistograms: a rule may use each of them with its unit, and not the bare name, under
// which nothing is delivered.
func TestRulesNameSeriesOfHistograms(t *testing.T) {
	t.Parallel()
	table := signalTable()
	for name, unit := range map[string]string{"sched.runq_latency_us.p95": "us", "sched.runq_latency_us.mean": "us", "sched.runq_latency_us.rate": "/s"} {
		if s, ok := table("", name); !ok || s.Unit != unit {
			t.Errorf("%s: %v, unit %q", name, ok, s.Unit)
		}
	}
	if _, ok := table("", "sched.runq_latency_us"); ok {
		t.Error("the bare name of a histogram is taken for a signal")
	}
	if _, ok := table(tune.EntityServer, "request.latency_ms.p95"); !ok {
		t.Error("a server's latency is no signal")
	}
}

// TestRulesOfThisBuildAskForRealProbes: what the shipped rules need is derived from both as they are.
func TestRulesOfThisBuildAskForRealProbes(t *testing.T) {
	t.Parallel()
	rules, err := kb.LoadRules(kb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, p := range ebpf.All() {
		names[p.Name] = p.Costly
	}
	for rule, all := range newNeeds(ebpf.All(), rules).rule {
		for _, p := range all {
			if !names[p] {
				t.Errorf("rule %s asks for %s, which is no costly probe", rule, p)
			}
		}
	}
}

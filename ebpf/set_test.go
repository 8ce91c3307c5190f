package ebpf

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"semantos/ebpf/probe"
	"semantos/ebpf/runqlat"
	"semantos/internal/tune"
)

func open(t *testing.T, cfg Config) *Set {
	t.Helper()
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func status(t *testing.T, s *Set, name string) ProbeStatus {
	t.Helper()
	for _, st := range s.Status() {
		if st.Name == name {
			return st
		}
	}
	t.Fatalf("no probe %s", name)
	return ProbeStatus{}
}

// broken are probes that never load: for a missing tracepoint, for the verifier, for a lack of rights.
func broken(name string, err error) probe.Spec {
	s := runqlat.New()
	s.Name = name
	s.Collection = func() (*ebpf.CollectionSpec, error) { return nil, err }
	return s
}

// TestOneFailureLeavesTheOthers, and "on" says which it was.
func TestOneFailureLeavesTheOthers(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	bad := broken("bad", tune.ErrUnsupported)
	specs := []probe.Spec{bad, runqlat.New()}
	s := open(t, Config{Mode: Auto, Specs: specs})
	time.Sleep(50 * time.Millisecond)
	out := newTally()
	missing := s.Read(out)
	if len(missing) != 1 || missing[0].Collector != "ebpf/bad" || !strings.Contains(missing[0].Reason, "not supported") {
		t.Errorf("missing %v", missing)
	}
	if out.hists["sched.runq_latency_us"].Count() == 0 {
		t.Error("the good probe delivers nothing")
	}
	if st := status(t, s, "bad"); st.State != StateFailed || st.Reason == "" {
		t.Errorf("%+v", st)
	}
	if st := status(t, s, "runqlat"); st.State != StateOn || st.Duty != 1 {
		t.Errorf("%+v", st)
	}
	_, err := Open(t.Context(), Config{Mode: On, Specs: specs})
	if !errors.Is(err, tune.ErrUnsupported) || !strings.Contains(err.Error(), "bad") || tune.Hint(err) == "" {
		t.Errorf("on: %v", err)
	}
	costly := bad
	costly.Costly = true
	open(t, Config{Mode: On, Specs: []probe.Spec{costly, runqlat.New()}}) // only the default probes must load
}

// TestNotPermittedIsToldOnce: without rights the second probe is not even tried.
func TestNotPermittedIsToldOnce(t *testing.T) {
	t.Parallel()
	tried := false
	second := broken("second", nil)
	second.Collection = func() (*ebpf.CollectionSpec, error) { tried = true; return nil, errors.New("tried") }
	s := open(t, Config{Mode: Auto, Specs: []probe.Spec{broken("first", tune.ErrNotPermitted), second}})
	if tried {
		t.Error("it was tried")
	}
	for _, st := range s.Status() {
		if st.State != StateFailed || !strings.Contains(st.Reason, "not permitted") {
			t.Errorf("%+v", st)
		}
	}
}

func TestModes(t *testing.T) {
	t.Parallel()
	if _, err := Open(t.Context(), Config{Mode: "maybe"}); !errors.Is(err, tune.ErrUsage) {
		t.Errorf("an unknown mode: %v", err)
	}
	s := open(t, Config{Mode: Off, Why: "not today"})
	for _, st := range s.Status() {
		if st.State != StateOff || st.Reason != "not today" || st.Answers == "" {
			t.Errorf("%+v", st)
		}
	}
	if missing := s.Read(newTally()); len(missing) != 0 {
		t.Errorf("what is off on purpose is not missing: %v", missing)
	}
	if err := s.Want(Ask{Probe: "runqlat", Until: time.Now(), Why: "x"}); !errors.Is(err, tune.ErrUnsupported) {
		t.Errorf("asked while off: %v", err)
	}
	if err := s.Want(Ask{Probe: "none", Until: time.Now(), Why: "x"}); !errors.Is(err, tune.ErrUnknown) {
		t.Errorf("an unknown probe: %v", err)
	}
}

// TestAskedForAWhile: a costly probe is off, on while asked for, and off again.
func TestAskedForAWhile(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	costly := runqlat.New()
	costly.Costly = true
	s := open(t, Config{Mode: Auto, Specs: []probe.Spec{costly}})
	out := newTally()
	if s.Read(out); len(out.begun) != 0 || status(t, s, "runqlat").State != StateOff {
		t.Errorf("before: %v %+v", out.begun, status(t, s, "runqlat"))
	}
	if err := s.Want(Ask{Probe: "runqlat", Until: time.Now().Add(time.Second), Why: "a symptom"}); err != nil {
		t.Fatal(err)
	}
	st := status(t, s, "runqlat")
	if s.Read(out); len(out.begun) != 1 || st.State != StateAsked || st.Reason != "a symptom" {
		t.Errorf("asked: %v %+v", out.begun, st)
	}
	if err := s.Want(Ask{Probe: "runqlat", Scope: probe.Scope{TGID: 1}, Until: time.Now().Add(time.Minute), Why: "another"}); !errors.Is(err, tune.ErrConflict) {
		t.Errorf("asked for something else: %v", err)
	}
	held := programs(t, os.Getpid())
	for deadline := time.Now().Add(10 * time.Second); status(t, s, "runqlat").State != StateOff; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it stays on")
		}
	}
	if len(held) == 0 {
		t.Error("nothing was loaded")
	}
	if err := s.Want(Ask{Probe: "runqlat", Until: time.Now().Add(time.Minute), Why: "again"}); err != nil {
		t.Fatal(err)
	}
	if got := s.member("runqlat").loads; got != 2 {
		t.Errorf("loaded %d times, want 2", got)
	}
}

// storm passes a byte back and forth between two threads: hundreds of thousands of switches a second.
func storm(t *testing.T) (stop func()) {
	t.Helper()
	var a, b [2]*os.File
	for _, pair := range []*[2]*os.File{&a, &b} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		pair[0], pair[1] = r, w
	}
	done := make(chan struct{}, 2)
	pass := func(from, to *os.File) {
		defer func() { done <- struct{}{} }()
		// Descriptors in blocking mode: the threads switch, not the goroutines.
		in, out := int(from.Fd()), int(to.Fd())
		buf := []byte{0}
		for {
			if n, err := unix.Read(in, buf); n != 1 || err != nil {
				return
			}
			if _, err := unix.Write(out, buf); err != nil {
				return
			}
		}
	}
	go pass(a[0], b[1])
	go pass(b[0], a[1])
	if _, err := a[1].Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	return func() {
		for _, f := range []*os.File{a[1], b[1]} {
			f.Close()
		}
		<-done
		<-done
		a[0].Close()
		b[0].Close()
	}
}

// spend watches a held probe for some seconds: the switches there were, the waits it told, and what was
// wrong with its share, "" when nothing.
func spend(t *testing.T, s *Set, m *member, budget float64) (real float64, waits probe.Hist, over string) {
	t.Helper()
	cost := func() probe.Cost {
		c, err := m.p.Cost()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first, second := newTally(), newTally()
	s.Read(first)
	costBefore := cost()
	before, activeBefore, at := switches(t), m.p.Active(), time.Now()
	time.Sleep(5 * time.Second)
	st := status(t, s, "runqlat")
	s.Read(second)
	wall := time.Since(at)
	real = float64(switches(t) - before)
	duty := (m.p.Active() - activeBefore).Seconds() / wall.Seconds()
	waits = second.hists["sched.runq_latency_us"].Since(first.hists["sched.runq_latency_us"])
	t.Logf("%.0f switches, %d waits told, counted %.1f %% of the time, %.0f ns each, %.3f %% of all CPUs", real, waits.Count(),
		100*duty, st.NSPerEvent, 100*st.CPUShare)
	// Storms swell and fade between two looks; uncut it would be many times the budget.
	if spent := (cost().Time - costBefore.Time).Seconds() / wall.Seconds() / s.cpus; spent > 2*budget || duty > 0.6 {
		over = fmt.Sprintf("%.5f of all CPUs with a budget of %.5f, duty %.3f", spent, budget, duty)
	}
	return real, waits, over
}

// TestStormIsHeldToTheBudget: under a storm of switches a probe that would cost more counts part of the
// time within seconds, still tells how many there were, and counts more of the time once it is over.
func TestStormIsHeldToTheBudget(t *testing.T) {
	needsRoot(t)
	const budget = 0.0005 // the machine of a test may be slow to switch
	s := open(t, Config{Mode: Auto, Budget: budget, Specs: []probe.Spec{runqlat.New()}})
	stop := storm(t)
	start := time.Now()
	for status(t, s, "runqlat").State != StatePaused {
		if time.Since(start) > 10*time.Second {
			stop()
			t.Fatalf("not held after 10 s: %+v", status(t, s, "runqlat"))
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Logf("held after %v", time.Since(start).Round(time.Millisecond))
	m := s.member("runqlat")
	time.Sleep(time.Second)
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		t.Fatal(err)
	}
	defer stats.Close()
	var real float64
	var waits probe.Hist
	var over string
	for range 4 { // a look may meet a moment in which others have the CPUs and the storm rests
		if real, waits, over = spend(t, s, m, budget); over == "" {
			break
		}
		t.Log(over)
	}
	if over != "" {
		t.Error(over)
	}
	// A switch that wakes nobody has no wait, and idle ones none either: waits are most of the switches.
	if ratio := float64(waits.Count()) / real; ratio < 0.2 || ratio > 1.6 {
		t.Errorf("%.2f waits a switch: the share of time is not made up for", ratio)
	}
	duty := status(t, s, "runqlat").Duty
	measuredWhole(t, s)
	stop()
	// Other programs of this machine may alone be too much for this budget.
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if now := status(t, s, "runqlat"); now.State == StateOn || now.Duty > 3*duty {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("still cut as in the storm: %+v", now)
		}
	}
}

// measuredWhole: what something is measured by counts all the time, storm or not.
func measuredWhole(t *testing.T, s *Set) {
	t.Helper()
	if err := s.Want(Ask{Probe: "runqlat", Until: time.Now().Add(4 * time.Second), Whole: true}); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if st := status(t, s, "runqlat"); st.State != StateOn || st.Duty != 1 {
			t.Fatalf("measured by, and yet cut: %+v", st)
		}
		time.Sleep(300 * time.Millisecond)
	}
}

func switches(t *testing.T) uint64 {
	t.Helper()
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "ctxt "); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(v), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no ctxt in /proc/stat")
	return 0
}

// BenchmarkOpen is what a command waits for its probes, and what closing them takes.
func BenchmarkOpen(b *testing.B) {
	for b.Loop() {
		s, err := Open(b.Context(), Config{Mode: Auto})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkRead is what the set adds to a tick of telemetry.
func BenchmarkRead(b *testing.B) {
	s, err := Open(b.Context(), Config{Mode: Auto})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	for b.Loop() {
		s.Read(newTally())
	}
}

package rollout

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"semantos/internal/tune"
	"semantos/safety/gate"
	"semantos/safety/guard"
)

// fakeWriter is a machine of one value.
type fakeWriter struct {
	mu     sync.Mutex
	live   tune.Value
	log    []string
	fail   map[string]error
	yields bool
	known  bool
	hangs  string       // this verb waits for the disk until its caller gives up
	on     func(string) // told of each verb; may be nil
}

func (w *fakeWriter) do(verb string, v tune.Value) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, verb)
	if w.on != nil {
		w.on(verb)
	}
	if err := w.fail[verb]; err != nil {
		return err
	}
	if v != "" {
		w.live = v
	}
	return nil
}

func (w *fakeWriter) refuse(verb string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail[verb] = err
}

func (w *fakeWriter) value() tune.Value {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.live
}

// wait is what a hung disk does to a change.
func (w *fakeWriter) wait(ctx context.Context, verb string) error {
	if w.hangs != verb {
		return nil
	}
	if w.on != nil {
		w.on(verb)
	}
	<-ctx.Done()
	return ctx.Err()
}

func (w *fakeWriter) Apply(ctx context.Context, _ string, c []tune.Change, _ string) ([]guard.Applied, error) {
	if w.value() != "60" { // another dose
		if err := w.wait(ctx, "apply"); err != nil {
			return nil, err
		}
	}
	if err := w.do("apply", c[0].Proposed); err != nil {
		return nil, err
	}
	w.known = true
	return []guard.Applied{{Change: c[0], ReadBack: c[0].Proposed}}, nil
}

func (w *fakeWriter) Revert(context.Context, string, ...string) ([]guard.Restored, error) {
	if w.yields {
		return []guard.Restored{{Tunable: "vm.swappiness", Target: "host", Outcome: guard.Yielded, Detail: "something else set it"}}, w.do("revert", "")
	}
	return nil, w.do("revert", "60")
}

func (w *fakeWriter) Commit(ctx context.Context, _ string) error {
	if err := w.wait(ctx, "commit"); err != nil {
		return err
	}
	return w.do("commit", "")
}

func (w *fakeWriter) Reopen(context.Context, string) error { return w.do("reopen", "") }

func (w *fakeWriter) Rollback(ctx context.Context, _, _ string) ([]guard.Restored, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if !w.known {
		return nil, fmt.Errorf("find rollout: %w", tune.ErrUnknown)
	}
	return nil, w.do("rollback", "60")
}

// fakeMeter measures the fake machine: p95 by its value.
type fakeMeter struct {
	w      *fakeWriter
	p95    map[tune.Value]float64
	err    error
	hangs  bool
	stale  bool       // its sockets stay open
	jitter *rand.Rand // a few percent of noise; nil: none
}

func (m *fakeMeter) Name() string { return "fake" }
func (m *fakeMeter) Fresh() bool  { return !m.stale }
func (m *fakeMeter) Sample(ctx context.Context, d time.Duration) (tune.MeterSample, error) {
	if m.hangs {
		<-ctx.Done()
		return tune.MeterSample{}, ctx.Err()
	}
	if err := sleep(ctx, d); err != nil {
		return tune.MeterSample{}, err
	}
	p95 := m.p95[m.w.value()]
	if m.jitter != nil {
		p95 *= 0.95 + 0.1*m.jitter.Float64()
	}
	return sample(p95, 100, 0), m.err
}

type nothingLive struct{}

func (nothingLive) Managed(context.Context) ([]tune.Managed, error) { return nil, nil }

type noRanges struct{}

func (noRanges) Safe(*tune.Tunable, tune.Facts) ([]tune.Range, error) { return nil, nil }

func testTunables() Tunables {
	return book1(&tune.Tunable{Name: "vm.swappiness", Kind: tune.KindInteger})
}

// testGate admits what is surer than 0.55.
func testGate() *gate.Gate {
	return gate.New(gate.Config{Tau: 0.55, Outcomes: 100, Live: nothingLive{}, Ranges: noRanges{}, Tunables: testTunables()})
}

func advice(u float64) tune.Recommendation {
	return tune.Recommendation{ID: tune.RecommendationID(someone()), Changes: someone(), Uncertainty: u}
}

type trialRun struct {
	writer *fakeWriter
	meter  *fakeMeter
	cfg    RunnerConfig
	req    Request
	events []Event
	heard  func(Event) // may be nil
}

func newTrialRun(now float64) *trialRun {
	w := &fakeWriter{live: "60", fail: map[string]error{}}
	m := &fakeMeter{w: w, p95: map[tune.Value]float64{"60": 10, "10": now}}
	return &trialRun{writer: w, meter: m,
		cfg: RunnerConfig{Writer: w, Gate: testGate(), Tunables: testTunables(), Now: time.Now,
			Rand: rand.New(rand.NewPCG(3, 4))},
		req: Request{Recommendation: advice(0.2), Meter: m, StageTime: 5 * time.Second, Steps: []float64{5, 25, 50, 100},
			Margin: 0.1, Actor: "uid 0"}}
}

func (r *trialRun) run(ctx context.Context) (tune.Rollout, error) {
	return NewRunner(r.cfg).Run(ctx, r.req, func(e Event) {
		r.events = append(r.events, e)
		if r.heard != nil {
			r.heard(e)
		}
	})
}

// outlive makes the change one that open sockets keep, so that it is dosed.
func (r *trialRun) outlive() {
	r.req.Recommendation.Changes[0].TakesEffect = tune.NewSockets
}

func (r *trialRun) want(t *testing.T, out tune.Rollout, state tune.State, reason string, live tune.Value) {
	t.Helper()
	if out.State != state || out.Reason != reason || r.writer.live != live {
		t.Fatalf("%s, %s (%s), value %s; want %s, %s, %s; log %v", out.State, out.Reason, out.Detail, r.writer.live,
			state, reason, live, r.writer.log)
	}
}

func TestRunnerKeepsAndPutsBack(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		p95    float64
		state  tune.State
		reason string
		live   tune.Value
	}{
		{"better", 6, tune.Committed, tune.ReasonBetter, "10"},
		{"equal", 10, tune.RolledBack, tune.ReasonNoEffect, "60"},
		{"worse", 30, tune.RolledBack, tune.ReasonWorse, "60"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newTrialRun(tc.p95)
				started := time.Now()
				out, err := r.run(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				r.want(t, out, tc.state, tc.reason, tc.live)
				if out.ID != out.Recommendation.ID+"-"+strconv.FormatInt(started.UnixMilli(), 36) || out.Meter != "fake" || out.Ended.IsZero() {
					t.Errorf("rollout %+v", out)
				}
				if !slices.ContainsFunc(r.events, func(e Event) bool { return strings.Contains(e.Text, "stage 1 of 3") }) {
					t.Error("no progress was told")
				}
			})
		})
	}
}

func TestRunnerVetoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTrialRun(6)
		r.req.Recommendation.Uncertainty = 0.9
		out, err := r.run(t.Context())
		if err != nil || out.State != tune.Vetoed || len(r.writer.log) != 0 || out.Stages == nil {
			t.Fatalf("%+v, %v, %v", out, err, r.writer.log)
		}
		r.req.Yes = true
		if out, err = r.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.want(t, out, tune.Committed, tune.ReasonBetter, "10")
	})
}

func TestRunnerEndsEarly(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken pipe")
	for _, tc := range []struct {
		name   string
		set    func(r *trialRun, cancel func())
		state  tune.State
		reason string
		detail string
		err    error
		within time.Duration
	}{
		{"interrupted", func(_ *trialRun, cancel func()) { time.AfterFunc(3*time.Second, cancel) },
			tune.RolledBack, tune.ReasonInterrupted, "", nil, 4 * time.Second},
		{"stopped by a person", func(r *trialRun, _ func()) {
			c := make(chan Command, 1)
			r.req.Commands = c
			time.AfterFunc(2500*time.Millisecond, func() { c <- Command{Kind: KindAbort, Actor: "uid 7"} })
		}, tune.RolledBack, tune.ReasonOperator, "uid 7", nil, 3 * time.Second},
		{"meter fails", func(r *trialRun, _ func()) { r.meter.err = broken },
			tune.RolledBack, tune.ReasonInconclusive, "fake: broken pipe", nil, 5 * time.Second},
		{"meter hangs", func(r *trialRun, _ func()) { r.meter.hangs = true },
			tune.RolledBack, tune.ReasonInconclusive, "deadline", nil, 40 * time.Second},
		{"refused by the kernel", func(r *trialRun, _ func()) { r.writer.fail["apply"] = tune.ErrReadOnly },
			tune.RolledBack, tune.ReasonFault, "read-only", tune.ErrReadOnly, time.Second},
		{"commit fails", func(r *trialRun, _ func()) { r.writer.fail["commit"] = tune.ErrStorage },
			tune.RolledBack, tune.ReasonFault, "storage", tune.ErrStorage, time.Minute},
		{"somebody else changed it before the commit", func(r *trialRun, _ func()) { r.writer.fail["commit"] = tune.ErrDrifted },
			tune.RolledBack, tune.ReasonYielded, "changed by something else", nil, time.Minute},
		{"a vital breaks", func(r *trialRun, _ func()) { r.cfg.Vitals = &pressed{w: r.writer, treated: 100, limit: 10} },
			tune.RolledBack, tune.ReasonLimit, "memory pressure 100 % of the time, limit 10 %", nil, 2100 * time.Millisecond},
		{"vitals without data do not break", func(r *trialRun, _ func()) { r.cfg.Vitals = blind{}; r.meter.p95["10"] = 10 },
			tune.RolledBack, tune.ReasonNoEffect, "", nil, time.Minute},
		{"held with nobody to advance it", func(r *trialRun, _ func()) { r.req.Hold = true },
			tune.Held, "held", "--hold", nil, time.Minute},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newTrialRun(6)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				tc.set(r, cancel)
				start := time.Now()
				out, err := r.run(ctx)
				if !errors.Is(err, tc.err) || (err != nil) != (tc.err != nil) {
					t.Fatalf("error %v, want %v", err, tc.err)
				}
				if errors.Is(err, tune.ErrUnknown) {
					t.Errorf("putting back what was never written is an error: %v", err)
				}
				r.want(t, out, tc.state, tc.reason, "60")
				if !strings.Contains(out.Detail, tc.detail) {
					t.Errorf("detail %q, want %q", out.Detail, tc.detail)
				}
				if took := time.Since(start); took > tc.within {
					t.Errorf("took %s", took)
				}
			})
		})
	}
}

func TestRunnerYieldsAndRestoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTrialRun(6)
		r.writer.yields = true
		out, err := r.run(t.Context())
		if err != nil || out.Reason != tune.ReasonYielded || !strings.Contains(out.Detail, "vm.swappiness") {
			t.Errorf("%s %s, %v", out.Reason, out.Detail, err)
		}
		r = newTrialRun(30)
		r.writer.fail["rollback"] = tune.ErrNotPermitted
		out, err = r.run(t.Context())
		if !errors.Is(err, tune.ErrNotPermitted) || out.Reason != tune.ReasonFault || !strings.Contains(out.Detail, "putting back failed") {
			t.Errorf("%s %s, %v", out.Reason, out.Detail, err)
		}
	})
}

func TestRunnerStopsWhenTheGuardDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTrialRun(6)
		dead := make(chan struct{})
		r.cfg.Dead = dead
		time.AfterFunc(2500*time.Millisecond, func() { close(dead) })
		out, err := r.run(t.Context())
		if !errors.Is(err, errGuardDead) || out.Reason != tune.ReasonFault {
			t.Errorf("%s, %v", out.Reason, err)
		}
		if n := len(r.writer.log); n == 0 || r.writer.log[n-1] == "rollback" {
			t.Errorf("wrote after the guard died: %v", r.writer.log)
		}
	})
}

func TestRunnerAdvancesAHeldOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTrialRun(6)
		c := make(chan Command, 1)
		r.req.Hold, r.req.Commands = true, c
		time.AfterFunc(time.Minute, func() { c <- Command{Kind: KindAdvance, Actor: "uid 7"} })
		out, err := r.run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		r.want(t, out, tune.Committed, tune.ReasonBetter, "10")
		if !slices.ContainsFunc(r.events, func(e Event) bool { return e.Rollout.State == tune.Held }) {
			t.Error("never told that it waits")
		}
	})
}

// fakeSensor reads a signal that falls to nothing while the change stands.
type fakeSensor struct{ w *fakeWriter }

func (f fakeSensor) Name() string { return "signal:tcp.listen_overflows" }
func (f fakeSensor) Fresh() bool  { return false }
func (f fakeSensor) Measure() tune.Measure {
	return tune.Measure{Signal: "tcp.listen_overflows", Better: "lower", Floor: 1}
}

func (f fakeSensor) Sample(ctx context.Context, d time.Duration) (tune.MeterSample, error) {
	v := 500.0
	if f.w.value() == "10" {
		v = 0
	}
	return tune.MeterSample{Value: &v}, sleep(ctx, d)
}

func TestRunnerMeasuresOneSignal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTrialRun(6)
		r.req.Meter = fakeSensor{r.writer}
		out, err := r.run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		r.want(t, out, tune.Committed, tune.ReasonBetter, "10")
		if out.Effect.Metric != "tcp.listen_overflows" || out.Effect.High >= 1 || out.Meter != "signal:tcp.listen_overflows" {
			t.Errorf("effect %+v, meter %s", out.Effect, out.Meter)
		}
		// No meter: nothing to keep it by.
		r = newTrialRun(6)
		r.req.Meter, r.req.Set = nil, true
		out, err = r.run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		r.want(t, out, tune.RolledBack, tune.ReasonUnmeasured, "60")
	})
}

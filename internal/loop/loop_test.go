package loop

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"semantos/internal/tune"
)

// machine is a scripted host: its symptom stands until cure was committed.
type machine struct {
	t        *testing.T
	ticks    int
	tickErr  error
	resets   int
	sick     bool
	offers   []tune.Recommendation
	verdict  map[string]tune.Rollout // by recommendation id; absent: the trial runs until ctx ends
	applied  []string
	saved    []tune.Rollout
	storeErr error
	mu       sync.Mutex // guards applied and live, which a test reads while a trial starts
	live     int
	interval time.Duration
	events   []string
}

func (m *machine) Tick(context.Context) error {
	if m.tickErr == nil {
		m.ticks++
	}
	return m.tickErr
}
func (m *machine) Reset() { m.resets++; m.ticks = 0 }
func (m *machine) Snapshot() tune.Snapshot {
	return tune.Snapshot{Ticks: m.ticks, Window: float64(max(0, m.ticks-1)) * m.interval.Seconds()}
}

func (m *machine) Advise(context.Context, tune.Snapshot) ([]tune.Symptom, []tune.Recommendation, error) {
	if !m.sick {
		return nil, nil, nil
	}
	return []tune.Symptom{{Name: "slow"}}, m.offers, nil
}

func (m *machine) SaveRecommendations(context.Context, []tune.Recommendation, time.Time) error {
	return m.storeErr
}

func (m *machine) SaveRollout(ctx context.Context, r tune.Rollout) error {
	m.saved = append(m.saved, r)
	return ctx.Err()
}

func (m *machine) Apply(ctx context.Context, rec tune.Recommendation) (tune.Rollout, error) {
	if live := m.start(rec.ID, 1); live > 1 {
		m.t.Error("two trials at once")
	}
	defer m.start("", -1)
	r, ok := m.verdict[rec.ID]
	if !ok {
		<-ctx.Done()
		time.Sleep(time.Second) // putting back takes a moment
		return rolledBack(rec, tune.ReasonInterrupted), nil
	}
	time.Sleep(20 * time.Second)
	if r.State == tune.Committed {
		m.sick = false
	}
	return r, nil
}

func (m *machine) start(id string, n int) (live int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.live += n
	if id != "" {
		m.applied = append(m.applied, id)
	}
	return m.live
}

func (m *machine) tried() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.applied)
}

func (m *machine) loop(mode string) *Loop {
	m.t.Helper()
	l, err := New(Config{Sampler: m, Adviser: m, Store: m, Applier: m, SampleInterval: m.interval, PollInterval: 10 * time.Second,
		AutoApply: mode, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Observe: func(e Event) { m.events = append(m.events, e.Kind) }})
	if err != nil {
		m.t.Fatal(err)
	}
	return l
}

// watch runs the loop for d and returns after it has stopped.
func watch(t *testing.T, l *Loop, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := l.Run(ctx); err != nil {
		t.Error(err)
	}
}

func TestFindsTheCureAndStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		placebo, cure := recommend("slow", "vm.a", "1", "2"), recommend("slow", "vm.b", "1", "2")
		m := &machine{t: t, sick: true, interval: 5 * time.Second, offers: []tune.Recommendation{placebo, cure},
			verdict: map[string]tune.Rollout{placebo.ID: rolledBack(placebo, tune.ReasonNoEffect), cure.ID: committed(cure)}}
		l := m.loop(On)
		watch(t, l, 10*time.Minute)
		if want := []string{placebo.ID, cure.ID}; !slices.Equal(m.tried(), want) {
			t.Errorf("tried %v, want %v", m.tried(), want)
		}
		if len(m.saved) != 2 || m.resets != 2 {
			t.Errorf("%d outcomes recorded, %d fresh windows", len(m.saved), m.resets)
		}
		s := l.State()
		if s.Decisions["committed"] != 1 || s.Decisions["rolled_back_no_effect"] != 1 || len(s.Resting) != 1 {
			t.Errorf("state %+v", s)
		}
	})
}

func TestHealthyHostIsLeftAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &machine{t: t, interval: 5 * time.Second}
		l := m.loop(On)
		watch(t, l, time.Hour)
		if len(m.tried()) != 0 || l.State().Diagnoses < 300 {
			t.Errorf("tried %v in %d diagnoses", m.tried(), l.State().Diagnoses)
		}
	})
}

func TestNotBeforeAFullWindowAndTwoDiagnoses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cure := recommend("slow", "vm.a", "1", "2")
		m := &machine{t: t, sick: true, interval: 5 * time.Second, offers: []tune.Recommendation{cure}}
		l := m.loop(On)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		time.Sleep(9 * time.Second)
		synctest.Wait()
		if s := l.State(); s.Ready || s.Phase != "warming" {
			t.Errorf("after 9 s: %+v", s)
		}
		time.Sleep(10 * time.Second) // 19 s: one diagnosis
		synctest.Wait()
		if s := l.State(); !s.Ready || len(m.tried()) != 0 {
			t.Errorf("after 19 s: tried %v, %+v", m.tried(), s)
		}
		time.Sleep(2 * time.Second) // 21 s: two diagnoses
		synctest.Wait()
		if s := l.State(); s.Phase != "rolling_out" || s.Running != cure.ID {
			t.Errorf("after 21 s: %+v", s)
		}
		waits, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		if err := l.Enter(waits, byHand("x"), func(string) {}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a second trial could begin: %v", err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if m.start("", 0) != 0 || len(m.saved) != 1 || m.saved[0].Reason != tune.ReasonInterrupted {
			t.Errorf("stopped with %d trials live, recorded %v", m.start("", 0), m.saved)
		}
		if s := l.State(); s.Phase != "stopped" || s.Ready {
			t.Errorf("stopped as %+v", s)
		}
	})
}

func TestRecommendOnly(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{Off, Calibrated} {
		synctest.Test(t, func(t *testing.T) {
			m := &machine{t: t, sick: true, interval: 5 * time.Second, offers: []tune.Recommendation{recommend("slow", "vm.a", "1", "2")}}
			l := m.loop(mode)
			watch(t, l, 10*time.Minute)
			if len(m.tried()) != 0 || len(l.Recommendations()) != 1 {
				t.Errorf("%s: tried %v", mode, m.tried())
			}
		})
	}
}

func TestAPersonsTrialExcludesTheLoop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cure := recommend("slow", "vm.a", "1", "2")
		m := &machine{t: t, sick: true, interval: 5 * time.Second, offers: []tune.Recommendation{cure},
			verdict: map[string]tune.Rollout{cure.ID: committed(cure)}}
		l := m.loop(On)
		if err := l.Enter(t.Context(), byHand("by hand"), nil); err != nil {
			t.Fatal(err)
		}
		watch(t, l, 5*time.Minute)
		if len(m.tried()) != 0 {
			t.Errorf("tried %v beside a person", m.tried())
		}
		l.End(rolledBack(recommend("slow", "vm.z", "1", "2"), tune.ReasonNoEffect), nil)
		m.Reset()
		watch(t, l, 5*time.Minute)
		if len(m.tried()) != 1 {
			t.Errorf("tried %v after the person's trial", m.tried())
		}
	})
}

func TestHoldAndResume(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cure := recommend("slow", "vm.a", "1", "2")
		m := &machine{t: t, sick: true, interval: 5 * time.Second, offers: []tune.Recommendation{cure},
			verdict: map[string]tune.Rollout{cure.ID: committed(cure)}}
		l := m.loop(On)
		l.Hold("maintenance")
		watch(t, l, 5*time.Minute)
		if s := l.State(); len(m.tried()) != 0 || !strings.Contains(s.Decision, "maintenance") {
			t.Errorf("held, but tried %v: %+v", m.tried(), s)
		}
		l.Resume()
		watch(t, l, 5*time.Minute)
		if len(m.tried()) != 1 {
			t.Errorf("after resume tried %v", m.tried())
		}
	})
}

func TestFaults(t *testing.T) {
	t.Parallel()
	cure := recommend("slow", "vm.a", "1", "2")
	cases := map[string]struct {
		spoil func(m *machine)
		says  string
		ready bool
	}{
		"store fails":    {func(m *machine) { m.storeErr = tune.ErrStorage }, "storage unusable", true},
		"sampling fails": {func(m *machine) { m.tickErr = tune.ErrNoData }, "no data", false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := &machine{t: t, sick: true, interval: 5 * time.Second, offers: []tune.Recommendation{cure}}
				tc.spoil(m)
				l := m.loop(On)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := make(chan error, 1)
				go func() { done <- l.Run(ctx) }()
				time.Sleep(5 * time.Minute)
				synctest.Wait()
				s := l.State()
				if len(m.tried()) != 0 || s.Ready != tc.ready || !strings.Contains(s.LastError, tc.says) {
					t.Errorf("tried %v, state %+v", m.tried(), s)
				}
				if n := len(slices.DeleteFunc(slices.Clone(m.events), func(k string) bool { return k != "error" })); n != 1 {
					t.Errorf("one lasting fault made %d error events", n)
				}
				cancel()
				<-done
			})
		})
	}
}

func TestLeftoversAreReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &machine{t: t, interval: 5 * time.Second}
		l := m.loop(Off)
		l.cfg.Leftovers = func(context.Context) ([]tune.Managed, error) {
			return []tune.Managed{{Tunable: "vm.a", Target: "host", Original: "1", Current: "2", State: "in_doubt"}}, nil
		}
		watch(t, l, time.Minute)
		if len(l.State().Leftovers) != 1 || !slices.Contains(m.events, "leftover") {
			t.Errorf("state %+v, events %v", l.State(), m.events)
		}
	})
}

// TestRoundingIsNotDrift: the kernel kept 4096 where 4000 was proposed; raising it further is no fight.
func TestRoundingIsNotDrift(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first, next := recommend("slow", "vm.a", "8", "4000"), recommend("slow", "vm.a", "4096", "8000")
		m := &machine{t: t, interval: 5 * time.Second}
		l := m.loop(On)
		l.cfg.Leftovers = func(context.Context) ([]tune.Managed, error) {
			return []tune.Managed{{Tunable: "vm.a", Target: "host", Original: "8", Current: "4096", State: "committed"},
				{Tunable: "vm.other", Target: "host", Original: "1", Current: "2", State: "committed"}}, nil
		}
		if err := l.Enter(t.Context(), byHand(first.ID), nil); err != nil {
			t.Fatal(err)
		}
		l.End(committed(first), nil)
		if y := l.mem.drifted([]tune.Recommendation{next}); len(y) != 0 {
			t.Errorf("yielded %v", y)
		}
		if _, ok := l.mem.kept["vm.other@host"]; ok {
			t.Error("took over what this trial did not touch")
		}
	})
}

func TestATrialThatHangsDoesNotHoldTheStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &machine{t: t, interval: 5 * time.Second}
		l := m.loop(On)
		done := make(chan finished)
		if err := l.lastTrial(t.Context(), true, done); err == nil || !strings.Contains(err.Error(), "guard") {
			t.Errorf("got %v", err)
		}
		if err := l.lastTrial(t.Context(), false, done); err != nil {
			t.Error(err)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	m := &machine{t: t}
	good := Config{Sampler: m, Adviser: m, Store: m, Applier: m, SampleInterval: 1, PollInterval: 1, AutoApply: On,
		Now: time.Now, Log: slog.New(slog.DiscardHandler)}
	for name, spoil := range map[string]func(*Config){
		"no sampler": func(c *Config) { c.Sampler = nil }, "no clock": func(c *Config) { c.Now = nil },
		"no interval": func(c *Config) { c.PollInterval = 0 }, "unknown mode": func(c *Config) { c.AutoApply = "yes" },
		"on without applier": func(c *Config) { c.Applier = nil },
	} {
		c := good
		spoil(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

package loop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"semantos/internal/tune"
)

// Sampler reads the machine. Reset forgets the window: after a trial it holds both sides mixed.
type Sampler interface {
	Tick(ctx context.Context) error
	Snapshot() tune.Snapshot
	Reset()
}

// Adviser turns a snapshot into symptoms and ranked recommendations.
type Adviser interface {
	Advise(ctx context.Context, snap tune.Snapshot) ([]tune.Symptom, []tune.Recommendation, error)
}

// Store keeps what was recommended and what became of it.
type Store interface {
	SaveRecommendations(ctx context.Context, recs []tune.Recommendation, at time.Time) error
	SaveRollout(ctx context.Context, r tune.Rollout) error
}

// Applier runs one whole trial; when ctx ends it puts back what is not committed and returns.
type Applier interface {
	Apply(ctx context.Context, rec tune.Recommendation) (tune.Rollout, error)
}

// Config is what the loop drives and how often. Every interface is required but Applier, without which
// AutoApply must be off.
type Config struct {
	Sampler        Sampler
	Adviser        Adviser
	Store          Store
	Applier        Applier
	SampleInterval time.Duration
	PollInterval   time.Duration
	MinWindow      time.Duration // no diagnosis over less; 0 means 8 s
	AutoApply      string
	Calibration    func(ctx context.Context) tune.Calibration        // where the gate stands; nil: never calibrated
	Leftovers      func(ctx context.Context) ([]tune.Managed, error) // asked at start and after each kept trial
	Closed         func(now time.Time) string                        // why no trial may start by itself now; may be nil
	// History is read at start and after each trial, so that what rests, what is left to others and what
	// goes back and forth is known after a restart; nil: each start begins anew.
	History func(ctx context.Context) ([]tune.Rollout, error)
	Who     func(found tune.Change) string         // who made a kept tunable its Current value; may be nil
	Frozen  func(ctx context.Context) *tune.Freeze // asked before anything starts; nil: never
	Observe func(Event)                            // may be nil; called in order, must not block
	Now     func() time.Time
	Log     *slog.Logger
}

// Event is something an operator may want to see as it happens.
type Event struct {
	Time    time.Time `json:"time"`
	Kind    string    `json:"kind"` // leftover, symptoms, trial, outcome, yielded, swinging, hold, freeze, error
	Message string    `json:"message"`
	Data    any       `json:"data,omitempty"`
}

// Loop is safe for concurrent use; Run may be called once.
type Loop struct {
	cfg Config

	mu       sync.Mutex
	mem      *memory
	state    tune.LoopState
	snap     tune.Snapshot
	symptoms []tune.Symptom
	recs     []tune.Recommendation
	lastPoll time.Time
	queue    []*waiter
	onPlace  string // the rollout that runs, where its id is known
	window   int    // counts resets: a sample that began before the newest one is dropped
}

// New checks the configuration.
func New(cfg Config) (*Loop, error) {
	switch {
	case cfg.Sampler == nil || cfg.Adviser == nil || cfg.Store == nil || cfg.Now == nil || cfg.Log == nil:
		return nil, errors.New("make loop: sampler, adviser, store, clock and log are required")
	case cfg.SampleInterval <= 0 || cfg.PollInterval <= 0:
		return nil, errors.New("make loop: intervals must be above 0")
	case cfg.AutoApply != Off && cfg.AutoApply != Calibrated && cfg.AutoApply != On:
		return nil, fmt.Errorf("make loop: AUTO_APPLY=%q: %w", cfg.AutoApply, tune.ErrUsage)
	case cfg.AutoApply != Off && cfg.Applier == nil:
		return nil, fmt.Errorf("make loop: AUTO_APPLY=%s needs an applier", cfg.AutoApply)
	}
	if cfg.MinWindow == 0 {
		cfg.MinWindow = 8 * time.Second
	}
	l := &Loop{cfg: cfg, mem: newMemory(cfg.AutoApply)}
	l.state = tune.LoopState{Phase: "starting", Reason: "not sampled yet", AutoApply: cfg.AutoApply,
		Decisions: map[string]int64{}, Resting: []tune.Resting{}, Yielded: []string{}, Leftovers: []tune.Managed{}}
	return l, nil
}

// finished is how a trial ended.
type finished struct {
	rollout tune.Rollout
	err     error
}

// Run works until ctx ends, then waits for a running trial to put its changes back.
func (l *Loop) Run(ctx context.Context) error {
	l.recall(ctx)
	l.leftovers(ctx)
	ticker := time.NewTicker(l.cfg.SampleInterval)
	defer ticker.Stop()
	done := make(chan finished, 1)
	running := false
	step := func() {
		l.tick(ctx)
		if rec := l.poll(ctx); rec != nil {
			running = true
			go func() {
				r, err := l.cfg.Applier.Apply(ctx, *rec)
				done <- finished{r, err}
			}()
		}
	}
	step()
	for {
		select {
		case <-ctx.Done():
			err := l.lastTrial(context.WithoutCancel(ctx), running, done)
			l.setPhase("stopped", "stopped")
			return err
		case <-ticker.C:
			step()
		case f := <-done:
			running = false
			l.finish(ctx, f)
		}
	}
}

// stopTime is what a trial has to put its changes back once serve stops. A trial that needs longer is
// left to the guard, which restores as soon as this process is gone.
const stopTime = 30 * time.Second

func (l *Loop) lastTrial(ctx context.Context, running bool, done <-chan finished) error {
	if !running {
		return nil
	}
	timer := time.NewTimer(stopTime)
	defer timer.Stop()
	select {
	case f := <-done:
		l.finish(ctx, f)
		return nil
	case <-timer.C:
		return fmt.Errorf("stop loop: the trial did not end within %v; the guard puts its changes back", stopTime)
	}
}

func (l *Loop) leftovers(ctx context.Context) {
	if l.cfg.Leftovers == nil {
		return
	}
	left, err := l.cfg.Leftovers(ctx)
	if err != nil {
		l.fail("look for leftovers", err)
		return
	}
	l.mu.Lock()
	l.state.Leftovers = append(l.state.Leftovers, left...)
	l.mem.inherit(left)
	l.mu.Unlock()
	for _, x := range left {
		l.say("leftover", fmt.Sprintf("%s on %s is %q, was %q (%s, rollout %s)",
			x.Tunable, x.Target, x.Current, x.Original, x.State, x.Rollout), x)
	}
}

// tick samples; a failing tick is counted and said, and the next one is tried as usual.
func (l *Loop) tick(ctx context.Context) {
	l.mu.Lock()
	window := l.window
	l.mu.Unlock()
	err := l.cfg.Sampler.Tick(ctx)
	if ctx.Err() != nil {
		return
	}
	snap := l.cfg.Sampler.Snapshot()
	l.mu.Lock()
	l.state.Ticks++
	switch {
	case err != nil:
		l.state.TickErrors++
	case window == l.window:
		l.snap, l.state.LastTick = snap, l.cfg.Now()
	}
	l.mu.Unlock()
	if err != nil {
		l.fail("sample", err)
	}
}

// finish records a trial and starts a fresh window.
func (l *Loop) finish(ctx context.Context, f finished) {
	r := f.rollout
	if r.Recommendation.ID == "" {
		r.Recommendation = l.onTrial()
	}
	if r.ID != "" {
		if err := l.cfg.Store.SaveRollout(ctx, r); err != nil {
			l.fail("store rollout", err)
		}
	}
	l.end(ctx, r, f.err)
}

func (l *Loop) onTrial() tune.Recommendation {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.recs {
		if r.ID == l.mem.running {
			return r
		}
	}
	return tune.Recommendation{ID: l.mem.running}
}

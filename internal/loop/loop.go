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
	Missing        int // outcomes a calibrated bound still needs
	Leftovers      func(ctx context.Context) ([]tune.Managed, error)
	Observe        func(Event) // may be nil; called in order, must not block
	Now            func() time.Time
	Log            *slog.Logger
}

// Event is something an operator may want to see as it happens.
type Event struct {
	Time    time.Time `json:"time"`
	Kind    string    `json:"kind"` // leftover, symptoms, trial, outcome, yielded, hold, error
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
	window   int // counts resets: a sample that began before the newest one is dropped
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
	case cfg.AutoApply == On && cfg.Applier == nil:
		return nil, errors.New("make loop: AUTO_APPLY=on needs an applier")
	}
	if cfg.MinWindow == 0 {
		cfg.MinWindow = 8 * time.Second
	}
	l := &Loop{cfg: cfg, mem: newMemory(cfg.AutoApply)}
	l.mem.missing = cfg.Missing
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
			if running {
				f := <-done
				l.finish(context.WithoutCancel(ctx), f)
			}
			l.setPhase("stopped", "stopped")
			return nil
		case <-ticker.C:
			step()
		case f := <-done:
			running = false
			l.finish(ctx, f)
		}
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

// poll diagnoses when it is time to, and gives the recommendation to try, if any.
func (l *Loop) poll(ctx context.Context) *tune.Recommendation {
	snap, due := l.due(ctx)
	if !due {
		return nil
	}
	symptoms, recs, err := l.cfg.Adviser.Advise(ctx, snap)
	if err != nil {
		l.fail("diagnose", err)
		return nil
	}
	now := l.cfg.Now()
	if len(recs) > 0 {
		if err := l.cfg.Store.SaveRecommendations(ctx, recs, now); err != nil {
			// A trial that history cannot keep must not be started by a machine.
			l.fail("store recommendations", err)
			return l.decide(symptoms, nil, now)
		}
	}
	l.mu.Lock()
	l.state.LastError = ""
	l.mu.Unlock()
	return l.decide(symptoms, recs, now)
}

func (l *Loop) due(ctx context.Context) (tune.Snapshot, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.cfg.Now()
	switch {
	case ctx.Err() != nil:
		return tune.Snapshot{}, false
	case l.mem.running != "":
		l.state.Phase, l.state.Reason = "rolling_out", "a trial is running: "+l.mem.running
		return tune.Snapshot{}, false
	case now.Sub(l.state.LastTick) > 3*l.cfg.SampleInterval+l.cfg.PollInterval:
		l.state.Phase, l.state.Ready, l.state.Reason = "warming", false, "no sample succeeds: "+l.state.LastError
		return tune.Snapshot{}, false
	case l.snap.Window < l.cfg.MinWindow.Seconds():
		l.state.Phase = "warming"
		l.state.Reason = fmt.Sprintf("%.0f of %.0f s sampled", l.snap.Window, l.cfg.MinWindow.Seconds())
		return tune.Snapshot{}, false
	case !l.lastPoll.IsZero() && now.Sub(l.lastPoll) < l.cfg.PollInterval:
		return tune.Snapshot{}, false
	}
	l.lastPoll = now
	return l.snap, true
}

func (l *Loop) decide(symptoms []tune.Symptom, recs []tune.Recommendation, now time.Time) *tune.Recommendation {
	l.mu.Lock()
	l.mem.observe(symptoms)
	var yielded []string
	if l.mem.running == "" {
		yielded = l.mem.drifted(recs)
	}
	c := choose(l.mem, recs, now)
	fresh := changed(l.symptoms, symptoms)
	l.symptoms, l.recs = symptoms, recs
	l.state.Diagnoses++
	l.state.LastDiagnosis, l.state.Ready, l.state.Decision = now, true, c.why
	l.state.Phase, l.state.Reason = "watching", c.why
	if l.mem.waiting != "" {
		l.state.Phase = "waiting"
	} else if l.mem.held != "" {
		l.state.Phase = "held"
	}
	if c.rec != nil {
		l.mem.running = c.rec.ID
		l.state.Phase, l.state.Reason = "rolling_out", "a trial is running: "+c.rec.ID
	}
	l.mu.Unlock()

	if fresh {
		l.say("symptoms", fmt.Sprintf("%d symptoms, %d recommendations", len(symptoms), len(recs)), symptoms)
	}
	for _, y := range yielded {
		l.say("yielded", y+" was written by something else and is left alone until restart", nil)
	}
	if c.rec != nil {
		l.say("trial", "trying "+c.rec.ID+": "+c.rec.Rationale, *c.rec)
	}
	return c.rec
}

// changed reports whether other symptoms stand than before; their numbers always move.
func changed(before, after []tune.Symptom) bool {
	if len(before) != len(after) {
		return true
	}
	for i := range before {
		if before[i].Name != after[i].Name || before[i].Entity != after[i].Entity {
			return true
		}
	}
	return false
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
	l.end(r, f.err)
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

package cli

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"semantos/console"
	"semantos/internal/loop"
	"semantos/internal/tune"
	"semantos/kb/knowledge"
	"semantos/safety/alert"
	"semantos/safety/gate"
	"semantos/telemetry"
)

// server is serve's side of the console: it answers from the moment the listeners are open, and says
// "starting" until the rooms are.
type server struct {
	app *app
	hub *console.Hub

	ending   <-chan struct{} // closed when serve is told to end
	resuming sync.WaitGroup  // trials that an earlier serve left

	mu      sync.Mutex
	live    *live
	current *trialOnAir
}

// live is what is open once the start is over. Without rights there are no trials.
type live struct {
	rooms    *rooms
	adviser  *adviser
	sampler  *telemetry.Sampler
	loop     *loop.Loop
	trials   *trials
	know     *knowledge.Knowledge
	find     *finder
	cal      *gate.Calibrator
	noTrial  error // why trials is nil; noBudget is then what others used
	noBudget *budget
}

// starting answers what needs the rooms before they are open.
func starting(op string) error {
	return &tune.Error{Op: op, Err: tune.ErrStarting, Hint: "try again in a second; /readyz says when it is ready"}
}

func (s *server) ready() *live {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live
}

func (s *server) open(l *live) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live = l
}

// Snapshot and State are what the loop saw.
func (s *server) Snapshot() (tune.Snapshot, []tune.Symptom) {
	if l := s.ready(); l != nil {
		return l.loop.Snapshot()
	}
	return tune.Snapshot{}, nil
}

// State says where the loop stands.
func (s *server) State() tune.LoopState {
	if l := s.ready(); l != nil {
		st := l.loop.State()
		if away := awayReason(l.adviser.store); away != "" {
			st.Reason += "; " + away + ", so the last known graph answers"
		}
		return st
	}
	return tune.LoopState{Phase: "starting", Reason: "catalogue, store and guard are being opened", AutoApply: s.app.cfg.AutoApply,
		Decisions: map[string]int64{}, Resting: []tune.Resting{}, Yielded: []string{}, Leftovers: []tune.Managed{}}
}

// Recommend samples a window of its own, or answers from the loop's for a window of 0.
func (s *server) Recommend(ctx context.Context, req console.RecommendRequest) (console.Advice, error) {
	l := s.ready()
	if l == nil {
		return console.Advice{}, starting("recommend")
	}
	snap, _ := l.loop.Snapshot()
	if req.WindowS > 0 {
		window := max(shortestWindow, time.Duration(req.WindowS*float64(time.Second)))
		sampler, err := l.rooms.sampler(window, s.app.now)
		if err != nil {
			return console.Advice{}, err
		}
		err = look(ctx, sampler, window, s.app.now, func(time.Duration) {})
		if err = errors.Join(err, sampler.Close()); err != nil {
			return console.Advice{}, err
		}
		snap = sampler.Snapshot()
	}
	if snap.Ticks < 2 {
		return console.Advice{}, starting("recommend")
	}
	doc, notes := l.adviser.advise(ctx, snap)
	if err := l.adviser.store.SaveRecommendations(ctx, doc.Recommendations, s.app.now()); err != nil {
		return console.Advice{}, err
	}
	return console.Advice{Recommendations: doc.Recommendations, Symptoms: doc.Symptoms, Snapshot: doc.Snapshot, Notes: notes}, nil
}

// Advise is what the loop asks at each poll.
func (ad *adviser) Advise(ctx context.Context, snap tune.Snapshot) ([]tune.Symptom, []tune.Recommendation, error) {
	doc, _ := ad.advise(ctx, snap)
	return doc.Symptoms, doc.Recommendations, nil
}

// Status is what stands: rollouts, managed tunables, the loop.
func (s *server) Status(ctx context.Context) (console.Status, error) {
	l := s.ready()
	if l == nil {
		return console.Status{}, starting("show status")
	}
	rollouts, err := l.adviser.store.Rollouts(ctx, recentRollouts)
	if err != nil {
		return console.Status{}, err
	}
	managed, err := l.managed(ctx, s.app)
	if err != nil {
		return console.Status{}, err
	}
	queued := l.loop.Queue()
	slices.Reverse(queued)
	return console.Status{Rollouts: append(queued, s.settled(ctx, managed).all(rollouts)...), Managed: managed, Loop: l.loop.State(),
		Calibration: l.cal.Standing(ctx), Limits: l.budget().standing(s.app.cfg, s.app.now()), Frozen: l.frozen(ctx, s.app)}, nil
}

// budget is what trials have used; without rights there are none.
func (l *live) budget() *budget {
	if l.trials != nil {
		return l.trials.budget
	}
	return l.noBudget
}

// managed asks the guard, or reads the journal where there is none.
func (l *live) managed(ctx context.Context, a *app) ([]tune.Managed, error) {
	if l.trials != nil {
		return l.trials.guard.Managed(ctx)
	}
	return a.onDisk().Managed(ctx)
}

// History finds past rollouts.
func (s *server) History(ctx context.Context, q console.HistoryQuery) ([]tune.Rollout, error) {
	l := s.ready()
	if l == nil {
		return nil, starting("show history")
	}
	managed, err := l.managed(ctx, s.app)
	if err != nil {
		return nil, err
	}
	if q.ID != "" {
		r, err := l.adviser.store.Rollout(ctx, q.ID)
		if err != nil {
			return nil, err
		}
		return s.settled(ctx, managed).all([]tune.Rollout{r}), nil
	}
	rollouts, err := l.adviser.store.Rollouts(ctx, q.Limit)
	return s.settled(ctx, managed).all(rollouts), err
}

// settled knows what runs: the one trial on air, for nobody else writes while serve does.
func (s *server) settled(ctx context.Context, managed []tune.Managed) settle {
	return settle{managed: managed, saved: s.saved(ctx), live: func(r tune.Rollout, newest bool) bool {
		l := s.ready()
		return s.onAir(r.ID) != nil || l != nil && l.trials == nil && newest
	}}
}

// saved are trials of an earlier serve that are about to go on.
func (s *server) saved(ctx context.Context) map[string]bool {
	if l := s.ready(); l != nil {
		return savedTrials(ctx, l.adviser.store)
	}
	return nil
}

// collectors tells /metrics how telemetry fares.
func (s *server) collectors() []console.CollectorStat {
	l := s.ready()
	if l == nil {
		return nil
	}
	var out []console.CollectorStat
	for _, st := range l.sampler.Stats() {
		out = append(out, console.CollectorStat{Name: st.Collector, Duration: st.Duration, Success: st.Success})
	}
	return out
}

// probes tells /metrics what the probes counted and cost.
func (s *server) probes() ([]console.ProbeStat, []console.Histogram) {
	if l := s.ready(); l != nil {
		return l.rooms.probes.page()
	}
	return nil, nil
}

// safety tells /metrics what was decided and done.
func (s *server) safety() console.SafetyCounts {
	if l := s.ready(); l != nil && l.trials != nil {
		return l.trials.alerts.counts()
	}
	return console.SafetyCounts{}
}

// observe passes the loop's events on, and alerts where another writer took a tunable over.
func (s *server) observe(e loop.Event) {
	if e.Kind == "yielded" {
		go s.app.alerts.fault(alert.Yield, alert.Warning, tune.ReasonYielded, e.Message)
	}
	s.hub.Publish(console.Event{Time: e.Time, Kind: e.Kind, Message: e.Message, Data: e.Data})
}

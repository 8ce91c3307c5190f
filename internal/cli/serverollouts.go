package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"semantos/console"
	"semantos/internal/tune"
	"semantos/safety/rollout"
)

// trialOnAir is the one rollout that runs in serve, started by a person or by the loop.
type trialOnAir struct {
	rec      string // the recommendation's id
	rollout  tune.Rollout
	commands chan rollout.Command
	meter    *postedMeter // nil unless the client measures
	done     chan struct{}
}

// trialsOf gives what runs rollouts, or why nothing does.
func (s *server) trialsOf(op string) (*live, error) {
	l := s.ready()
	switch {
	case l == nil:
		return nil, starting(op)
	case l.trials == nil:
		return nil, &tune.Error{Op: op, Err: l.noTrial, Hint: "start serve as root to let it change tunables"}
	}
	return l, nil
}

// begin puts a trial on air and gives what takes it off again.
func (s *server) begin(r tune.Rollout, meter *postedMeter) (*trialOnAir, func()) {
	t := &trialOnAir{rec: r.Recommendation.ID, rollout: r, commands: make(chan rollout.Command, 4), meter: meter, done: make(chan struct{})}
	s.mu.Lock()
	s.current = t
	s.mu.Unlock()
	return t, func() {
		s.mu.Lock()
		if s.current == t { // the next one may be on air already
			s.current = nil
		}
		s.mu.Unlock()
		close(t.done)
	}
}

func (s *server) onAir(id string) *trialOnAir {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.current; t != nil && (id == "" || id == t.rec || id == t.rollout.ID) {
		return t
	}
	return nil
}

// Apply runs a person's rollout, after those that came before it; ctx ends when the client leaves.
func (s *server) Apply(ctx context.Context, req console.ApplyRequest, progress func(console.Event)) (tune.Rollout, error) {
	l, err := s.trialsOf("apply")
	if err != nil {
		return tune.Rollout{}, err
	}
	rec, err := s.app.chosen(ctx, l.rooms, l.adviser.store, args(req.ID), req.Set)
	if err != nil {
		return tune.Rollout{}, err
	}
	if req.DryRun {
		return tune.Rollout{}, usage("apply", rec.ID, "run semantos apply --dry-run, which needs no serve", "serve does not do dry runs")
	}
	own, done, err := s.app.serveMeter(ctx, req)
	if err != nil {
		return tune.Rollout{}, err
	}
	defer done()
	asked := s.asked(rec, req.Actor)
	if out, over, err := s.enter(ctx, l, asked, progress); over {
		return out, err
	}
	var meter *postedMeter
	if req.ClientMeter != "" {
		meter = &postedMeter{name: req.ClientMeter, fresh: req.FreshMeter, rollout: asked.ID, publish: progress, now: s.app.now,
			answers: make(chan console.SampleRequest, 1)}
	}
	t, end := s.begin(asked, meter)
	defer end()
	trial := s.request(req, rec, t)
	if own != nil {
		trial.meter = own
	}
	if t.meter == nil { // what the client measures ends with the client
		trial.keeper, trial.ending = keeper{l.adviser.store}, s.ending
	}
	rollout, err := l.trials.run(ctx, trial, s.teller(t, progress))
	l.loop.End(rollout, err)
	return rollout, err
}

// byServe is the actor of what the loop starts.
const byServe = "serve"

// asked is a rollout before its first step.
func (s *server) asked(rec tune.Recommendation, actor string) tune.Rollout {
	now := s.app.now()
	return tune.Rollout{ID: rollout.NewID(rec, now), Recommendation: rec, State: tune.Queued, Stages: []tune.Stage{}, Actor: actor, Started: now}
}

// stopped says who ended a rollout that was still waiting.
type stopped struct{ by, why string }

func (e *stopped) Error() string {
	if e.why == "" {
		return "stopped by " + e.by + " while it waited"
	}
	return "stopped by " + e.by + " while it waited: " + e.why
}

// enter waits until the place is this rollout's, and looks again at what it was asked on. over: it does not
// begin, and out and err are how it ended.
func (s *server) enter(ctx context.Context, l *live, r tune.Rollout, progress func(console.Event)) (out tune.Rollout, over bool, err error) {
	l.loop.CheckFreeze(ctx)
	waited := false
	err = l.loop.Enter(ctx, r, func(behind string) {
		waited = true
		message := "waits for " + behind
		if t := s.onAir(""); t != nil {
			s.mu.Lock()
			first := t.rollout
			s.mu.Unlock()
			if first.State == tune.Held {
				message += ", which " + waitsForPerson(first.ID)
			}
		}
		progress(console.Event{Time: s.app.now(), Kind: "queued", Message: message, Rollout: r.ID})
	})
	var by *stopped
	if errors.As(err, &by) {
		r.State, r.Reason, r.Detail, r.Ended = tune.RolledBack, tune.ReasonOperator, by.Error(), s.app.now()
		return r, true, l.adviser.store.SaveRollout(context.WithoutCancel(ctx), r)
	}
	if err != nil || !waited {
		return tune.Rollout{}, err != nil, err
	}
	progress(console.Event{Time: s.app.now(), Kind: "queued", Message: "its turn: looking again at what it rests on", Rollout: r.ID})
	if err := l.rooms.fresh(r.Recommendation); err != nil {
		l.loop.End(r, err)
		return tune.Rollout{}, true, err
	}
	return tune.Rollout{}, false, nil
}

func args(id string) []string {
	if id == "" {
		return nil
	}
	return []string{id}
}

func (s *server) request(req console.ApplyRequest, rec tune.Recommendation, t *trialOnAir) trialRequest {
	out := trialRequest{
		rec: rec, stageTime: defaultStageTime, steps: s.app.cfg.RolloutSteps, margin: s.app.cfg.Margin,
		maxP95: s.app.cfg.SLOMaxP95, maxErrors: s.app.cfg.MaxErrorRate, yes: req.Yes, set: rec.Provenance.Operator, hold: req.Hold, persist: req.Persist,
		actor: req.Actor, commands: t.commands, id: t.rollout.ID,
	}
	if t.meter != nil {
		out.meter = t.meter
	}
	if req.StageTimeS > 0 {
		out.stageTime = time.Duration(req.StageTimeS * float64(time.Second))
	}
	if len(req.Steps) > 0 {
		out.steps = req.Steps
	}
	if req.Margin != nil {
		out.margin = *req.Margin
	}
	if req.SLOMaxP95 != nil {
		out.maxP95 = *req.SLOMaxP95
	}
	if req.MaxErrorRate != nil {
		out.maxErrors = *req.MaxErrorRate
	}
	return out
}

// teller keeps the rollout as it stands and passes progress on.
func (s *server) teller(t *trialOnAir, progress func(console.Event)) func(rollout.Event) {
	return func(e rollout.Event) {
		s.mu.Lock()
		t.rollout = e.Rollout
		s.mu.Unlock()
		kind := "slot"
		if e.Text != "" {
			kind = "stage"
		}
		progress(console.Event{Time: s.app.now(), Kind: kind, Message: e.Text, Rollout: e.Rollout.ID, Data: e.Sample})
	}
}

// unattended runs what the loop chose.
type unattended struct{ server *server }

// Apply is one trial of the loop, within the limits its operator set.
func (u unattended) Apply(ctx context.Context, rec tune.Recommendation) (tune.Rollout, error) {
	s := u.server
	l, err := s.trialsOf("apply")
	if err != nil {
		return tune.Rollout{Recommendation: rec}, err
	}
	if err := l.rooms.fresh(rec); err != nil {
		return tune.Rollout{Recommendation: rec}, err
	}
	t, end := s.begin(s.asked(rec, byServe), nil)
	defer end()
	req := u.request(rec, t)
	req.keeper, req.ending = keeper{l.adviser.store}, s.ending
	return l.trials.run(ctx, req, s.teller(t, s.hub.Publish))
}

// request is a trial with nobody beside it: it keeps to budget and window, and with AUTO_POLL=off waits for a
// person after every stage.
func (u unattended) request(rec tune.Recommendation, t *trialOnAir) trialRequest {
	req := u.server.request(console.ApplyRequest{Actor: byServe}, rec, t)
	req.alone, req.gates = true, !u.server.app.cfg.AutoPoll
	return req
}

// Sample takes what the client's meter measured.
func (s *server) Sample(ctx context.Context, req console.SampleRequest) error {
	t := s.onAir(req.Rollout)
	if t == nil || t.meter == nil {
		return &tune.Error{Op: "take sample of", Subject: req.Rollout, Err: fmt.Errorf("it waits for none: %w", tune.ErrUnknown),
			Hint: "samples answer the progress events of kind sample"}
	}
	select {
	case t.meter.answers <- req:
		return nil
	case <-t.done:
		return nil // too late, and no harm
	case <-ctx.Done():
		return ctx.Err()
	}
}

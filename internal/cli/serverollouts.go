package cli

import (
	"context"
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
func (s *server) begin(rec string, meter *postedMeter) (*trialOnAir, func()) {
	t := &trialOnAir{rec: rec, commands: make(chan rollout.Command, 4), meter: meter, done: make(chan struct{})}
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

// Apply runs a person's rollout; ctx ends when the client leaves.
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
	if err := l.loop.Begin(rec.ID); err != nil {
		return tune.Rollout{}, err
	}
	var meter *postedMeter
	if req.ClientMeter != "" {
		meter = &postedMeter{name: req.ClientMeter, fresh: req.FreshMeter, rollout: rec.ID, publish: progress, now: s.app.now,
			answers: make(chan console.SampleRequest, 1)}
	}
	t, end := s.begin(rec.ID, meter)
	defer end()
	trial := s.request(req, rec, t)
	if own != nil {
		trial.meter = own
	}
	rollout, err := l.trials.run(ctx, trial, s.teller(t, progress))
	l.loop.End(rollout, err)
	return rollout, err
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
		actor: req.Actor, commands: t.commands,
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
	t, end := s.begin(rec.ID, nil)
	defer end()
	req := s.request(console.ApplyRequest{Actor: "serve", Hold: !s.app.cfg.AutoPoll}, rec, t)
	req.alone = true
	return l.trials.run(ctx, req, s.teller(t, s.hub.Publish))
}

// Rollback puts back: what runs is stopped first.
func (s *server) Rollback(ctx context.Context, req console.RollbackRequest) (console.RollbackResult, error) {
	l, err := s.trialsOf("roll back")
	if err != nil {
		return nothingBack(), err
	}
	stopped, err := s.stop(ctx, req)
	if err != nil {
		return nothingBack(), err
	}
	id := req.ID
	if id == "" && !req.All {
		managed, err := l.trials.guard.Managed(ctx)
		if err != nil {
			return nothingBack(), err
		}
		if id = newestRollout(managed); id == "" {
			return nothingBack(), nil
		}
	}
	if stopped != nil && !req.All {
		doc := nothingBack()
		doc.Rollouts = append(doc.Rollouts, *stopped)
		return doc, nil
	}
	doc, err := (&putBack{guard: l.trials.guard, store: l.adviser.store, actor: req.Actor, elsewhere: s.app.elsewhere()}).rollback(ctx, id)
	for _, r := range doc.Rollouts {
		l.loop.RolledBack(r)
	}
	if stopped != nil {
		doc.Rollouts = append(doc.Rollouts, *stopped)
	}
	return doc, err
}

// stop aborts the rollout on air if it is meant, and waits until it is put back.
func (s *server) stop(ctx context.Context, req console.RollbackRequest) (*tune.Rollout, error) {
	t := s.onAir(req.ID)
	if t == nil {
		return nil, nil
	}
	select {
	case t.commands <- rollout.Command{Kind: rollout.KindAbort, Actor: req.Actor}:
	default: // it has commands enough to end
	}
	select {
	case <-t.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return &t.rollout, nil
}

// Advance lets a held rollout go on.
func (s *server) Advance(ctx context.Context, req console.AdvanceRequest) (tune.Rollout, error) {
	return s.tell(ctx, req.ID, rollout.Command{Kind: rollout.KindAdvance, Actor: req.Actor})
}

// Hold keeps one rollout from its last stage, or the loop from starting any.
func (s *server) Hold(ctx context.Context, req console.HoldRequest) (tune.LoopState, error) {
	l := s.ready()
	if l == nil {
		return tune.LoopState{}, starting("hold")
	}
	switch {
	case req.ID != "" && req.Hold:
		if _, err := s.tell(ctx, req.ID, rollout.Command{Kind: rollout.KindHold, Actor: req.Actor}); err != nil {
			return tune.LoopState{}, err
		}
	case req.ID != "":
		if _, err := s.tell(ctx, req.ID, rollout.Command{Kind: rollout.KindAdvance, Actor: req.Actor}); err != nil {
			return tune.LoopState{}, err
		}
	case req.Hold:
		l.loop.Hold(req.Why)
	default:
		l.loop.Resume()
	}
	return l.loop.State(), nil
}

func (s *server) tell(ctx context.Context, id string, c rollout.Command) (tune.Rollout, error) {
	t := s.onAir(id)
	if t == nil || id == "" {
		return tune.Rollout{}, &tune.Error{Op: "steer rollout", Subject: id, Err: fmt.Errorf("it does not run: %w", tune.ErrUnknown),
			Hint: "semantos status lists what runs"}
	}
	select {
	case t.commands <- c:
	case <-t.done:
	case <-ctx.Done():
		return tune.Rollout{}, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return t.rollout, nil
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

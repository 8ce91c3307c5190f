package cli

import (
	"context"
	"fmt"
	"time"

	"semantos/console"
	"semantos/internal/tune"
	"semantos/safety/rollout"
)

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
	if stopped != nil && stopped.State != tune.Committed && !req.All { // one that was kept meanwhile is put back below
		doc := nothingBack()
		doc.Rollouts = append(doc.Rollouts, *stopped)
		return doc, nil
	}
	history := func(_ context.Context, use func(store) error) error { return use(l.adviser.store) }
	doc, err := (&putBack{guard: l.trials.guard, history: history, late: &s.app.late, dataDir: s.app.cfg.DataDir, actor: req.Actor,
		alerts: s.app.alerts, now: s.app.now, elsewhere: s.app.elsewhere}).rollback(ctx, id)
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
	r, err := s.end(ctx, t, rollout.Command{Kind: rollout.KindAbort, Actor: req.Actor})
	return &r, err
}

// end speaks the last word to a rollout on air, and waits until it is put back.
func (s *server) end(ctx context.Context, t *trialOnAir, c rollout.Command) (tune.Rollout, error) {
	select {
	case t.commands <- c:
	default: // it has commands enough to end
	}
	select {
	case <-t.done:
	case <-ctx.Done():
		return tune.Rollout{}, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return t.rollout, nil
}

// Abort ends what runs, is held, or waits.
func (s *server) Abort(ctx context.Context, req console.AbortRequest) (tune.Rollout, error) {
	l, err := s.trialsOf("abort")
	if err != nil {
		return tune.Rollout{}, err
	}
	if r, waited := l.loop.Dismiss(req.ID, &stopped{req.Actor, req.Why}); waited {
		r.State, r.Reason, r.Detail = tune.RolledBack, tune.ReasonOperator, (&stopped{req.Actor, req.Why}).Error()
		return r, nil
	}
	t := s.onAir(req.ID)
	if t == nil {
		return tune.Rollout{}, notSteered("abort", req.ID)
	}
	return s.end(ctx, t, rollout.Command{Kind: rollout.KindAbort, Actor: req.Actor, Why: req.Why})
}

// Freeze puts back what runs and lets nothing start on this host, or takes that back.
func (s *server) Freeze(ctx context.Context, req console.FreezeRequest) (console.FreezeResult, error) {
	out := console.FreezeResult{}
	l, err := s.trialsOf("freeze")
	if err != nil {
		return out, err
	}
	if !req.Freeze {
		if err := l.trials.guard.Thaw(ctx, req.Actor); err != nil {
			return out, err
		}
		l.loop.Thaw()
		return out, nil
	}
	f := tune.Freeze{At: s.app.now().UTC(), By: req.Actor, Why: req.Why, DataDir: s.app.cfg.DataDir}
	l.loop.Freeze(f)
	t := s.onAir("")
	if t != nil {
		select { // the guard puts back in any case; this says why
		case t.commands <- rollout.Command{Kind: rollout.KindInterrupt, Actor: req.Actor, Why: f.Error()}:
		default:
		}
	}
	restored, err := l.trials.guard.Freeze(ctx, req.Actor, req.Why)
	for _, r := range restored {
		out.Restored = append(out.Restored, outcomeOf(r, nil))
	}
	if t != nil {
		select {
		case <-t.done:
			s.mu.Lock()
			out.Rollouts = append(out.Rollouts, t.rollout)
			s.mu.Unlock()
		case <-time.After(freezeTime):
		case <-ctx.Done():
		}
	}
	l.loop.CheckFreeze(ctx)
	out.Frozen = l.frozen(ctx, s.app)
	return out, err
}

// freezeTime is what the record of a trial may take after its values are back.
const freezeTime = 5 * time.Second

// frozen asks the guard, or looks where there is none.
func (l *live) frozen(ctx context.Context, a *app) *tune.Freeze {
	if l.trials == nil {
		return a.frozen()
	}
	f, err := l.trials.guard.Frozen(ctx)
	if err != nil {
		return nil // without a guard nothing is changed anyway
	}
	return f
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
	case req.ID != "" && req.Hold && s.wholly(req.ID):
		return tune.LoopState{}, &tune.Error{Op: "hold rollout", Subject: req.ID, Err: fmt.Errorf("its whole exposure has begun, there is nothing left to wait before: %w", tune.ErrConflict),
			Hint: "semantos abort " + req.ID + " puts it back"}
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

// wholly reports that the last stage of a rollout on air has begun.
func (s *server) wholly(id string) bool {
	t := s.onAir(id)
	if t == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(t.rollout.Stages)
	return n > 0 && t.rollout.Stages[n-1].Share >= 100
}

func (s *server) tell(ctx context.Context, id string, c rollout.Command) (tune.Rollout, error) {
	t := s.onAir(id)
	if t == nil || id == "" {
		return tune.Rollout{}, notSteered("steer", id)
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

// notSteered is the answer about a rollout that neither runs nor waits.
func notSteered(op, id string) error {
	return &tune.Error{Op: op + " rollout", Subject: id, Err: wrapf(tune.ErrUnknown, "it neither runs nor waits here"),
		Hint: "semantos status lists what does"}
}

package rollout

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"semantos/internal/tune"
	"semantos/safety/audit"
)

// Keeper keeps running trials beyond the process that runs them. Whoever has the end of a rollout in
// history forgets its saved trial.
type Keeper interface {
	SaveTrial(ctx context.Context, s Saved) error
}

// Resume goes on with a saved trial whose process ended, in the stage where it was and with the readings
// it had. Every value must be back, and its meter made again. What may not go on is ended as interrupted:
// the gate is asked again, and the guard.
func (r *Runner) Resume(ctx context.Context, s Saved, req Request, progress func(Event)) (tune.Rollout, error) {
	out := s.Rollout
	req.ID, req.Recommendation, req.StageTime, req.Persist = out.ID, out.Recommendation, s.StageTime, s.Persist
	req.Actor = out.Actor
	refused := func(reason string, err error) (tune.Rollout, error) {
		out.State, out.Reason, out.Ended = tune.RolledBack, tune.ReasonInterrupted, r.cfg.Now()
		out.Detail = "serve ended while it ran, every value was put back, and it does not go on: " + reason
		r.recordEnd(out)
		return out, err
	}
	decision, err := r.cfg.Gate.Check(ctx, out.Recommendation)
	decision.Vetoes = append(decision.Vetoes, req.Vetoes...)
	r.recordChoice(req, out, decision, err)
	switch {
	case err != nil:
		return refused(err.Error(), err)
	case !decision.Admitted(s.Trial.Policy.Yes):
		return refused(decision.Reason(), nil)
	}
	err = r.cfg.Writer.Reopen(ctx, out.ID)
	if err != nil && !errors.Is(err, tune.ErrUnknown) {
		return refused(err.Error(), nil)
	}
	out.Resumed++
	down := r.cfg.Now().Sub(s.At)
	if s.Trial.exposed { // it was killed: the slot under way stood up to its end, and until the guard put it back
		s.Exposed += max(0, min(down, s.Trial.Plan.Slot()+time.Second))
	}
	run := &run{Runner: r, req: req, meter: req.Meter, trial: s.Trial, out: out, progress: progress, wrote: err == nil, mixed: decision.Mixed,
		exposure: exposureClock{total: s.Exposed}}
	run.tellText(fmt.Sprintf("goes on after %s without serve, in stage %d of %d", down.Round(time.Second),
		max(1, len(s.Trial.Stages)), len(s.Trial.Plan.Stages)))
	return run.whole(ctx, Observation{Kind: KindResume, Down: down})
}

// ending reports that the process ends, and that another may go on.
func (r *run) ending() bool {
	if r.saver == nil || r.req.Ending == nil {
		return false
	}
	select {
	case <-r.req.Ending:
		return r.trial.phase == phaseSlots || r.trial.phase == phaseHeld
	default:
		return false
	}
}

// suspend puts everything back and leaves the trial as it stands to the next process. It reports false
// where that cannot be: then the trial ends as an interrupted one does.
func (r *run) suspend() bool {
	ctx, cancel := context.WithTimeout(context.Background(), restoreTime)
	defer cancel()
	got, err := r.cfg.Writer.Rollback(ctx, r.out.ID, r.req.Actor)
	if err != nil && (r.wrote || !errors.Is(err, tune.ErrUnknown)) || notOurs(got) != "" {
		return false
	}
	r.suspended = true
	r.exposure.turn(r.cfg.Now(), false)
	r.trial.exposed, r.trial.dosed, r.trial.standing = false, 0, nil
	r.save()
	r.out.Detail = suspendedDetail
	r.record(r.out, audit.Entry{Kind: audit.Skipped, Reason: "suspended", Detail: suspendedDetail})
	r.tellText(suspendedDetail)
	return true
}

const suspendedDetail = "serve ended: every value was put back, and it goes on when serve starts again"

// save hands the trial as it stands to the keeper, and waits for nothing.
func (r *run) save() {
	if r.saver == nil {
		return
	}
	r.sync()
	now := r.cfg.Now()
	r.saver.put(Saved{Rollout: r.out, Trial: r.trial, At: now, StageTime: r.req.StageTime, Persist: r.req.Persist,
		Exposed: r.exposure.at(now)})
}

// tellUnsaved says why a trial is not saved, once for each reason.
func (r *run) tellUnsaved() {
	if r.saver == nil {
		return
	}
	if why := r.saver.fault(); why != "" {
		r.tellText("it is not saved, and would end with serve: " + why)
	}
}

// tellText says one line of progress.
func (r *run) tellText(text string) {
	if r.progress != nil {
		r.progress(Event{Rollout: r.out, Text: text, Elapsed: r.cfg.Now().Sub(r.out.Started), Total: r.trial.Plan.Total()})
	}
}

// saver writes the newest state from a goroutine of its own: no step and no restore waits for a disk. What
// is lost with the process is the newest slot; its state before is a state too.
type saver struct {
	keeper Keeper
	box    chan Saved // the newest, at most one
	done   chan struct{}

	mu        sync.Mutex
	said, why string // why the last save failed
}

// saveTime bounds one save, and what the end of a rollout waits for the last one.
const saveTime = 3 * time.Second

func newSaver(k Keeper) *saver {
	if k == nil {
		return nil
	}
	s := &saver{keeper: k, box: make(chan Saved, 1), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		for one := range s.box {
			s.write(one)
		}
	}()
	return s
}

func (s *saver) write(one Saved) {
	ctx, cancel := context.WithTimeout(context.Background(), saveTime)
	defer cancel()
	err := s.keeper.SaveTrial(ctx, one)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.why = ""
	if err != nil {
		s.why = err.Error()
	}
}

// put replaces what waits.
func (s *saver) put(one Saved) {
	select {
	case <-s.box:
	default:
	}
	s.box <- one
}

// fault says why the last save failed, once for each reason.
func (s *saver) fault() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why == s.said {
		return ""
	}
	s.said = s.why
	return s.why
}

// stop waits for the last save, unless the disk hangs: then an older state is what is saved.
func (s *saver) stop() {
	if s == nil {
		return
	}
	close(s.box)
	select {
	case <-s.done:
	case <-time.After(saveTime):
	}
}

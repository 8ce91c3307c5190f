package ablate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"semantos/internal/tune"
	"semantos/safety/guard"
	"semantos/safety/rollout"
)

// run is one ablation under way.
type run struct {
	*Runner
	req    Request
	out    *tune.Ablation
	tell   func(string)
	seen   []int // changes a slot can see
	settle time.Duration
	sample time.Duration
	away   int          // the change left out now, or whole
	wrote  map[int]bool // those whose trial has written
	watch  *rollout.Watch
	misses int
}

// maxMisses in a row end it: a meter that says nothing cannot tell what a change earns.
const maxMisses = 3

// errStopped ends the passes; why is in the document.
var errStopped = errors.New("ablation was stopped")

func (r *run) stop(reason, detail string) error {
	r.out.Reason, r.out.Detail = reason, detail
	return errStopped
}

// passes measures, undoes what is clearest, and measures what is left in question.
func (r *run) passes(ctx context.Context) error {
	r.away, r.watch = whole, rollout.NewWatch(r.cfg.Vitals, r.cfg.Now)
	for open := r.seen; len(open) > 0; {
		p, err := r.pass(ctx, open)
		var idle []int
		for _, i := range open {
			f := p.Finding(i)
			a := &r.out.Changes[i]
			a.Verdict, a.Why, a.Effect = f.Worth, f.Why, f.Effect
			if f.Worth == tune.Nothing || f.Worth == tune.Harms {
				idle = append(idle, i)
			}
		}
		if err != nil || r.req.Keep || len(idle) == 0 {
			return notStopped(err)
		}
		undone, err := r.undo(ctx, idle)
		if err != nil || undone == whole {
			return notStopped(err)
		}
		open = slices.DeleteFunc(idle, func(i int) bool { return i == undone })
	}
	return nil
}

// notStopped leaves out what is no failure: the document says it.
func notStopped(err error) error {
	if errors.Is(err, errStopped) {
		return nil
	}
	return err
}

// pass measures until each change has its answer, or until the time of all of them is over.
func (r *run) pass(ctx context.Context, open []int) (*Pass, error) {
	p := NewPass(open)
	r.say("measuring what %d changes earn, in slots of %s", len(open), (r.settle + r.sample).Round(100*time.Millisecond))
	end := r.cfg.Now().Add(patience * time.Duration(len(open)) * r.req.StageTime)
	for !p.Done() {
		if p.atEnd() && !r.cfg.Now().Before(end) {
			p.Close()
			return p, nil
		}
		if err := r.slot(ctx, p); err != nil {
			return p, err
		}
	}
	return p, nil
}

// slot leaves out what its turn it is, measures, and judges.
func (r *run) slot(ctx context.Context, p *Pass) error {
	next := p.Next(r.cfg.Rand.Shuffle)
	settle, err := r.leaveOut(ctx, next)
	if err != nil {
		return err
	}
	sample, why, err := r.measure(ctx, settle)
	switch {
	case err != nil:
		return err
	case why != "" && next != whole:
		// The limit broke without it, and it stood before: the slot ends here.
		if _, err := r.leaveOut(ctx, whole); err != nil {
			return err
		}
		return r.stop(tune.ReasonLimit, why+" while "+r.req.Changes[next].Tunable+" was left out")
	case why != "":
		return r.stop(tune.ReasonLimit, why)
	}
	p.Take(sample)
	if sample != nil {
		r.misses = 0
	} else if r.misses++; r.misses >= maxMisses {
		return r.stop(tune.ReasonInconclusive, fmt.Sprintf("no data in %d slots in a row", r.misses))
	}
	before := slices.Clone(p.open)
	p.Judge(r.req.Policy)
	for _, i := range before {
		if !slices.Contains(p.open, i) {
			r.say("%s: %s (%s)", r.req.Changes[i].Tunable, p.said[i].Worth, p.said[i].Why)
		}
	}
	return nil
}

// trialOf names the trial in which a change is left out: a rollout of the guard's on top of the bundle, so
// that a death of anybody puts the bundle back. A name is used once: what has ended does not begin again.
func (r *run) trialOf(i int) string {
	return fmt.Sprintf("%s-without-%d-%s", r.req.Rollout, i+1, strconv.FormatInt(r.out.Started.UnixMilli(), 36))
}

// leaveOut brings the machine to where one change is at its original, or none.
func (r *run) leaveOut(ctx context.Context, next int) (settle time.Duration, err error) {
	if next == r.away {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), restoreTime) // half of a write helps nobody
	defer cancel()
	if r.away != whole {
		got, err := r.cfg.Writer.Revert(ctx, r.trialOf(r.away))
		r.watch.Turn(false, r.settle)
		if err != nil {
			return 0, fmt.Errorf("put back %s: %w", r.req.Changes[r.away].Tunable, err)
		}
		if lost := notOurs(got); lost != "" {
			return 0, r.stop(tune.ReasonYielded, lost)
		}
		r.away = whole
	}
	if next == whole {
		return r.settle, nil
	}
	r.watch.Turn(true, r.settle)
	c := r.req.Changes[next]
	c.Current, c.Proposed = c.Proposed, c.Current
	r.wrote[next] = true // also when it fails half-way
	if _, err := r.cfg.Writer.Apply(ctx, r.trialOf(next), []tune.Change{c}, r.req.Actor); err != nil {
		if errors.Is(err, tune.ErrDrifted) || errors.Is(err, tune.ErrStale) {
			return 0, r.stop(tune.ReasonYielded, err.Error())
		}
		return 0, fmt.Errorf("leave out %s: %w", c.Tunable, err)
	}
	r.away = next
	return r.settle, nil
}

// restoreTime is what a write may take after the caller has given up.
const restoreTime = 30 * time.Second

// notOurs names what was left alone because something else set it, or because it is gone.
func notOurs(got []guard.Restored) string {
	for _, g := range got {
		if g.Outcome == guard.Yielded || g.Outcome == guard.Gone {
			return fmt.Sprintf("%s on %s was left alone: %s", g.Tunable, g.Target, g.Detail)
		}
	}
	return ""
}

// measure waits for the settle time and takes one sample, with an eye on the limits. why says which broke.
func (r *run) measure(ctx context.Context, settle time.Duration) (sample *tune.MeterSample, why string, err error) {
	sctx, cancel := context.WithTimeout(ctx, settle+2*r.sample+max(5*time.Second, 2*r.req.StageTime))
	defer cancel()
	done := make(chan *tune.MeterSample, 1)
	go func() {
		select {
		case <-sctx.Done():
			done <- nil
			return
		case <-time.After(settle):
		}
		s, err := r.req.Meter.Sample(sctx, r.sample)
		if err != nil {
			done <- nil // missing data: three in a row end it
			return
		}
		done <- &s
	}()
	tick := time.NewTicker(rollout.LookEvery)
	defer tick.Stop()
	for {
		select {
		case <-r.cfg.Dead:
			return nil, "", errGuardDead
		case <-ctx.Done():
			return nil, "", r.stop(tune.ReasonInterrupted, "the command was interrupted")
		case <-tick.C:
			if why := r.watch.Look(); why != "" {
				return nil, why, nil
			}
		case s := <-done:
			if ctx.Err() != nil {
				return nil, "", r.stop(tune.ReasonInterrupted, "the command was interrupted")
			}
			return s, r.watch.Look(), nil
		}
	}
}

// errGuardDead: with the guard gone nothing may be written, and what was left out is put back by the next
// one.
var errGuardDead = errors.New("the guard process ended")

// undo takes the clearest of the idle changes out of the bundle for good, unless it is all that is left.
func (r *run) undo(ctx context.Context, idle []int) (int, error) {
	held := 0
	for _, c := range r.out.Changes {
		if !c.Undone {
			held++
		}
	}
	if held < 2 {
		r.out.Detail = fmt.Sprintf("%s is all that is left: semantos rollback %s undoes it", r.req.Changes[idle[0]].Tunable, r.req.Rollout)
		return whole, nil
	}
	i := slices.MinFunc(idle, func(a, b int) int { return r.compare(a, b) })
	if _, err := r.leaveOut(ctx, whole); err != nil {
		return whole, err
	}
	if err := r.endTrial(i); err != nil {
		return whole, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), restoreTime)
	defer cancel()
	c := r.req.Changes[i]
	got, err := r.cfg.Writer.Release(ctx, r.req.Rollout, []tune.Change{{Tunable: c.Tunable, Target: c.Target}}, r.req.Actor)
	if err != nil {
		return whole, fmt.Errorf("undo %s: %w", c.Tunable, err)
	}
	r.out.Changes[i].Undone = true
	r.say("%s is undone: %s", c.Tunable, r.out.Changes[i].Why)
	if lost := notOurs(got); lost != "" {
		return whole, r.stop(tune.ReasonYielded, lost)
	}
	return i, nil
}

// compare puts what harms first, then what is surest to be worth nothing.
func (r *run) compare(a, b int) int {
	x, y := r.out.Changes[a], r.out.Changes[b]
	if x.Verdict != y.Verdict {
		if x.Verdict == tune.Harms {
			return -1
		}
		return 1
	}
	switch d := x.Effect.WorstLog() - y.Effect.WorstLog(); {
	case d < 0:
		return -1
	case d > 0:
		return 1
	}
	return 0
}

// endTrial closes the trial in which a change was left out.
func (r *run) endTrial(i int) error {
	ctx, cancel := context.WithTimeout(context.Background(), restoreTime)
	defer cancel()
	got, err := r.cfg.Writer.Rollback(ctx, r.trialOf(i), r.req.Actor)
	delete(r.wrote, i)
	switch {
	case errors.Is(err, tune.ErrUnknown): // its first write was refused
		return nil
	case err != nil:
		return fmt.Errorf("put back %s: %w", r.req.Changes[i].Tunable, err)
	}
	if lost := notOurs(got); lost != "" {
		return r.stop(tune.ReasonYielded, lost)
	}
	return nil
}

// end puts the bundle back whatever happened.
func (r *run) end() error {
	var errs []error
	for i := range r.req.Changes {
		if r.wrote[i] {
			errs = append(errs, notStopped(r.endTrial(i)))
		}
	}
	return errors.Join(errs...)
}

func (r *run) say(format string, args ...any) {
	if r.tell != nil {
		r.tell(fmt.Sprintf(format, args...))
	}
}

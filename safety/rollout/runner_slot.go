package rollout

import (
	"context"
	"fmt"
	"time"

	"semantos/internal/tune"
)

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

const (
	// A sample may take longer than asked (a command runs as long as it runs), but a hanging meter must
	// not leave a treated machine waiting for it.
	leastPatience, mostPatience = 5 * time.Second, 30 * time.Second
	// meterGrace is what a cancelled meter gets to end its processes before the rollout goes on.
	meterGrace = 250 * time.Millisecond
)

func (r *run) patience(sample time.Duration) time.Duration {
	return 2*sample + max(leastPatience, min(mostPatience, 2*r.req.StageTime))
}

// slot measures one slot and reports what happened in it, commands first.
func (r *run) slot(ctx context.Context, e Effect) []Observation {
	sctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		sample *tune.MeterSample
		units  []*tune.MeterSample
		err    error
	}
	done := make(chan result, 1)
	go func() {
		s, units, err := r.measure(sctx, e)
		done <- result{s, units, err}
	}()
	var seen []Observation
	stop := func(o Observation) []Observation {
		cancel()
		select {
		case <-done:
		case <-time.After(meterGrace):
		}
		return append(seen, o)
	}
	commands := r.req.Commands
	for {
		select {
		case <-r.cfg.Dead:
			r.fatal = errGuardDead
			return stop(Observation{Kind: KindFault, Why: errGuardDead.Error()})
		case <-ctx.Done():
			return stop(Observation{Kind: KindInterrupt})
		case c, ok := <-commands:
			switch {
			case !ok:
				commands = nil // nobody speaks any more; closing is not a command
			case c.Kind == KindAbort || c.Kind == KindInterrupt:
				return stop(Observation{Kind: c.Kind, Actor: c.Actor, Why: c.Why})
			case c.Kind == KindAdvance || c.Kind == KindHold:
				seen = append(seen, Observation{Kind: c.Kind, Actor: c.Actor})
			}
		case <-r.looks:
			if broke := r.look(); broke != nil {
				cancel() // nobody waits for the meter: putting back comes first
				return append(seen, *broke)
			}
		case res := <-done:
			if ctx.Err() != nil {
				return append(seen, Observation{Kind: KindInterrupt})
			}
			if broke := r.look(); broke != nil {
				return append(seen, *broke)
			}
			o := Observation{Kind: KindSlot, Sample: res.sample, Units: res.units}
			if res.err != nil {
				o.Why = res.err.Error()
			}
			return append(seen, o)
		}
	}
}

// measure waits for the change to settle and takes one sample; without a meter it only waits.
func (r *run) measure(ctx context.Context, e Effect) (*tune.MeterSample, []*tune.MeterSample, error) {
	if err := sleep(ctx, e.Settle); err != nil {
		return nil, nil, err
	}
	if r.meter == nil {
		return nil, nil, sleep(ctx, e.Sample)
	}
	ctx, cancel := context.WithTimeout(ctx, r.patience(e.Sample))
	defer cancel()
	if len(r.trial.Plan.Units) > 0 {
		units, err := r.measureUnits(ctx, e.Sample)
		return nil, units, err
	}
	s, err := r.meter.Sample(ctx, e.Sample)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", r.meter.Name(), err)
	}
	return &s, nil, nil
}

// tell reports progress after a step.
func (r *run) tell(o Observation, before Trial) {
	r.sync()
	if r.progress == nil {
		return
	}
	now := r.cfg.Now()
	ev := Event{Rollout: r.out, Elapsed: now.Sub(r.out.Started), Total: r.trial.Plan.Total(),
		Sample: o.Sample, Treated: before.Treated()}
	n := len(r.trial.Stages)
	switch {
	case n > len(before.Stages):
		st := r.trial.Stages[n-1]
		ev.Text = fmt.Sprintf("stage %d of %d: %.0f %% by %s", n, len(r.trial.Plan.Stages), st.Share, st.Mode)
		if n == 1 && r.note != "" {
			ev.Text += " (" + r.note + ")"
		}
	case r.trial.Over():
		ev.Text = join(fmt.Sprintf("%s: %s", r.trial.State, r.trial.Reason), r.trial.Detail)
	case (o.Kind == KindSlot && o.Sample == nil || o.Kind == KindGone) && o.Why != "":
		ev.Text = "no data: " + o.Why
		if o.Kind == KindGone {
			ev.Text = o.Why
		}
	case r.trial.State == tune.Held && before.State != tune.Held: // said once, not for each slot of days
		ev.Text = r.trial.Detail
	}
	r.progress(ev)
}

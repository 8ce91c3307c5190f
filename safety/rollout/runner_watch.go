package rollout

import (
	"context"
	"time"

	"semantos/internal/tune"
)

// exposureClock adds up how long anything of a rollout stood on the machine.
type exposureClock struct {
	total time.Duration
	since time.Time // zero: nothing stands
}

func (c *exposureClock) turn(now time.Time, exposed bool) {
	c.total, c.since = c.at(now), time.Time{}
	if exposed {
		c.since = now
	}
}

func (c *exposureClock) at(now time.Time) time.Duration {
	if c.since.IsZero() {
		return c.total
	}
	return c.total + now.Sub(c.since)
}

// startWatch looks for the first time, before anything is exposed, and then once every interval,
// whatever the rollout is doing.
func (r *run) startWatch() (stop func()) {
	r.watch = newWatch()
	r.watch.look(r.cfg.Now(), r.vitals())
	tick := time.NewTicker(lookEvery)
	r.looks = tick.C
	return tick.Stop
}

// lookTime bounds one look: reading a few files of the kernel.
const lookTime = 100 * time.Millisecond

func (r *run) vitals() []Vital {
	if r.cfg.Vitals == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookTime) // also when the caller has given up
	defer cancel()
	return r.cfg.Vitals.Look(ctx)
}

// look says what is broken or used up now; nil for nothing.
func (r *run) look() *Observation {
	now := r.cfg.Now()
	if why := r.watch.look(now, r.vitals()); why != "" {
		return &Observation{Kind: KindLimit, Why: why}
	}
	if r.req.Allowance != nil {
		if why := r.req.Allowance(now, r.exposure.at(now)); why != "" {
			return &Observation{Kind: KindExpired, Why: why}
		}
	}
	return nil
}

// turn tells the watch that what is exposed changes now.
func (r *run) turn(exposed bool) *Observation {
	now := r.cfg.Now()
	r.exposure.turn(now, exposed)
	if why := r.watch.turn(now, exposed, r.trial.Plan.Settle, r.vitals()); why != "" {
		return &Observation{Kind: KindLimit, Why: why}
	}
	return nil
}

// expose writes a stage's values, unless a limit breaks before or meanwhile.
func (r *run) expose(ctx context.Context, changes []tune.Change) (*Observation, error) {
	if broke := r.turn(true); broke != nil {
		return broke, nil
	}
	broke, err := r.watched(ctx, func(ctx context.Context) error {
		_, err := r.cfg.Writer.Apply(ctx, r.out.ID, changes, r.req.Actor)
		return err
	})
	if err != nil && broke == nil {
		broke, err = r.findGone(ctx, err)
	}
	r.wrote = r.wrote || err == nil && broke == nil
	return broke, err
}

// watched does a write that may have to wait for the disk. A limit that breaks meanwhile ends the wait:
// the guard gives up what waits as soon as it is asked to put back.
func (r *run) watched(ctx context.Context, write func(ctx context.Context) error) (*Observation, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- write(ctx) }()
	for {
		select {
		case err := <-done:
			return nil, err
		case <-r.looks:
			if broke := r.look(); broke != nil {
				return broke, nil
			}
		}
	}
}

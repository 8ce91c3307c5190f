package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"semantos/internal/tune"
	"semantos/safety/guard"
)

// UnitMeter is a meter that can measure like targets each by itself. Splits says whether it can these;
// SampleUnits gives one sample for each, nil where a unit gave no data.
type UnitMeter interface {
	Meter
	Splits(units []tune.Unit) bool
	SampleUnits(ctx context.Context, d time.Duration, units []tune.Unit) ([]*tune.MeterSample, error)
}

// apart reports that a meter can tell the like targets of a bundle from one another. Without a meter there
// is nothing to tell apart, and limits are watched for all.
func apart(m Meter, changes []tune.Change) bool {
	if m == nil {
		return true
	}
	split, ok := m.(UnitMeter)
	return ok && split.Splits(tune.Units(changes))
}

// measureUnits takes one sample of each unit.
func (r *run) measureUnits(ctx context.Context, d time.Duration) ([]*tune.MeterSample, error) {
	units := r.trial.Plan.Units
	split, ok := r.meter.(UnitMeter)
	if !ok {
		return nil, fmt.Errorf("%s measures all targets together: %w", r.meter.Name(), tune.ErrNoData)
	}
	out, err := split.SampleUnits(ctx, d, units)
	if err == nil && len(out) != len(units) {
		err = fmt.Errorf("%d samples of %d targets: %w", len(out), len(units), tune.ErrNoData)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.meter.Name(), err)
	}
	return out, nil
}

// unitsOf names the units that changes with these targets belong to.
func (s Trial) unitsOf(targets []string) []string {
	var out []string
	for _, u := range s.Plan.Units {
		hit := slices.ContainsFunc(u.Changes, func(i int) bool { return slices.Contains(targets, s.plan().Changes[i].Target) })
		if hit {
			out = append(out, u.Target)
		}
	}
	return out
}

// vanished turns what is gone from one of several like targets into an observation: the others go on.
func (r *run) vanished(targets []string, why string) *Observation {
	gone := r.trial.unitsOf(targets)
	if len(gone) == 0 {
		return nil
	}
	return &Observation{Kind: KindGone, Gone: gone, Why: "left out: " + strings.Join(gone, ", ") + " vanished (" + why + ")"}
}

// goneOf gives the targets that a restore found gone, when nothing else was wrong with it.
func goneOf(got []guard.Restored) (targets []string, why string) {
	for _, g := range got {
		switch g.Outcome {
		case guard.Gone:
			targets, why = append(targets, g.Target), g.Detail
		case guard.Yielded:
			return nil, ""
		}
	}
	return targets, why
}

// findGone writes the units one by one after a write of all of them found a target gone, to learn which.
// The guard has put everything back before.
func (r *run) findGone(ctx context.Context, cause error) (*Observation, error) {
	if len(r.trial.Plan.Units) == 0 || !errors.Is(cause, tune.ErrGone) || !r.wrote {
		return nil, cause
	}
	var gone []string
	var there []tune.Change
	for _, u := range r.trial.standing {
		changes := r.trial.changesOf([]int{u})
		_, err := r.cfg.Writer.Apply(ctx, r.out.ID, changes, r.req.Actor)
		switch {
		case errors.Is(err, tune.ErrGone):
			gone = append(gone, changes[0].Target)
		case err != nil:
			return nil, errors.Join(cause, err)
		default:
			there = append(there, changes...)
		}
	}
	if len(gone) > 0 && len(there) > 0 { // each that was gone took the others back with it
		if _, err := r.cfg.Writer.Apply(ctx, r.out.ID, there, r.req.Actor); err != nil {
			return nil, errors.Join(cause, err)
		}
	}
	return r.vanished(gone, cause.Error()), nil
}

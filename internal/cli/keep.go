package cli

import (
	"context"

	"semantos/internal/tune"
	"semantos/kb/sqlite"
	"semantos/safety/rollout"
)

// keeper saves serve's trials, so that the next serve goes on with them.
type keeper struct{ store trialStore }

// SaveTrial replaces what was saved of the rollout.
func (k keeper) SaveTrial(ctx context.Context, s rollout.Saved) error {
	body, err := s.Encode()
	if err != nil {
		return err
	}
	return k.store.SaveTrial(ctx, sqlite.Trial{Rollout: s.Rollout.ID, At: s.At, Body: body})
}

// savedTrials names what a serve that has ended left to the next one. A store that cannot be read has none
// that anybody could go on with.
func savedTrials(ctx context.Context, s trialStore) map[string]bool {
	out := map[string]bool{}
	if s == nil {
		return out
	}
	all, err := s.Trials(ctx)
	if err != nil {
		return out
	}
	for _, t := range all {
		out[t.Rollout] = true
	}
	return out
}

// unfinished reports that history has no end of a rollout.
func unfinished(r tune.Rollout) bool {
	return (r.State == tune.Running || r.State == tune.Held) && r.Ended.IsZero()
}

package neo4j

import (
	"context"

	"semantos/kb/sqlite"
)

// Trials that run belong to this machine: they lie in the spool and are never delivered.

// SaveTrial replaces what was saved of a rollout.
func (s *Store) SaveTrial(ctx context.Context, t sqlite.Trial) error {
	return s.spool.SaveTrial(ctx, t)
}

// DropTrial forgets a rollout's saved state.
func (s *Store) DropTrial(ctx context.Context, rollout string) error {
	return s.spool.DropTrial(ctx, rollout)
}

// Trials gives what is saved, oldest first.
func (s *Store) Trials(ctx context.Context) ([]sqlite.Trial, error) { return s.spool.Trials(ctx) }

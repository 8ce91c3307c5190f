package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"

	"semantos/internal/tune"
	"semantos/kb/validate"
)

// SaveRollout stores a rollout; saving the same id again replaces it (running, then finished, then
// rolled back by a person).
func (s *Store) SaveRollout(ctx context.Context, r tune.Rollout) error {
	return s.Apply(ctx, validate.Batch{Rollouts: []tune.Rollout{r}})
}

func (w *writer) putRollout(r tune.Rollout) error {
	if err := w.put1(r, `INSERT INTO rollout (id, recommendation, symptom, state, started, body)
		VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET recommendation = excluded.recommendation,
		symptom = excluded.symptom, state = excluded.state, started = excluded.started, body = excluded.body`,
		r.ID, r.Recommendation.ID, r.Recommendation.Provenance.Symptom, string(r.State), r.Started.UnixNano()); err != nil {
		return err
	}
	if _, err := w.exec(`DELETE FROM rollout_change WHERE rollout = ?`, r.ID); err != nil {
		return err
	}
	for _, c := range r.Recommendation.Changes {
		if _, err := w.exec(`INSERT OR IGNORE INTO rollout_change (rollout, tunable, target) VALUES (?, ?, ?)`,
			r.ID, c.Tunable, c.Target); err != nil {
			return err
		}
	}
	return nil
}

// Rollout finds one by its own id, else the newest of a recommendation's id.
func (s *Store) Rollout(ctx context.Context, id string) (tune.Rollout, error) {
	var body string
	err := s.db.QueryRowContext(ctx, `SELECT body FROM rollout WHERE id = ?1 OR recommendation = ?1
		ORDER BY id = ?1 DESC, started DESC, id DESC LIMIT 1`, id).Scan(&body)
	if errors.Is(err, sql.ErrNoRows) {
		near := s.nearest(ctx, `SELECT id FROM rollout WHERE id >= ?1 AND id < ?1 || '~' ORDER BY started DESC LIMIT 2`, id)
		return tune.Rollout{}, validate.UnknownRollout(id, near)
	}
	if err != nil {
		return tune.Rollout{}, s.explain("find rollout "+id, err)
	}
	var r tune.Rollout
	return r, s.unmarshal("rollout", body, &r)
}

// Rollouts lists the newest rollouts first; a limit of 0 or less gives all.
func (s *Store) Rollouts(ctx context.Context, limit int) ([]tune.Rollout, error) {
	if limit <= 0 {
		limit = -1
	}
	return list[tune.Rollout](ctx, s, "rollouts", `SELECT body FROM rollout ORDER BY started DESC, id DESC LIMIT ?`, limit)
}

// outcomeLimit is the sliding window of outcomes that knowledge and calibration look at.
const outcomeLimit = 400

// Outcomes gives past trials of a symptom that touched one of the tunables (any tunable when none is
// named), newest first. Only finished trials that taught something: a veto changed nothing, and an
// interruption says nothing about the change.
func (s *Store) Outcomes(ctx context.Context, symptom string, tunables []string) ([]tune.Rollout, error) {
	query := `SELECT body FROM rollout WHERE symptom = ? AND state IN (?, ?)
		AND json_extract(body, '$.reason') NOT IN (?, ?, ?, ?)`
	args := []any{symptom, string(tune.Committed), string(tune.RolledBack),
		tune.ReasonInterrupted, tune.ReasonFault, tune.ReasonYielded, tune.ReasonExpired}
	if len(tunables) > 0 {
		marks := strings.Join(slices.Repeat([]string{"?"}, len(tunables)), ", ")
		query += ` AND id IN (SELECT rollout FROM rollout_change WHERE tunable IN (` + marks + `))`
		for _, t := range tunables {
			args = append(args, t)
		}
	}
	return list[tune.Rollout](ctx, s, "outcomes", query+` ORDER BY started DESC, id DESC LIMIT ?`, append(args, outcomeLimit)...)
}

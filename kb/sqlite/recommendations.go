package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"semantos/internal/tune"
)

// keepAdvice is how long a recommendation that was not given again can still be applied by id.
const keepAdvice = 90 * 24 * time.Hour

// SaveRecommendations stores what was printed, so that apply can find it by id. The same id again
// replaces the older text and numbers.
func (s *Store) SaveRecommendations(ctx context.Context, recs []tune.Recommendation, at time.Time) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return s.explain("save recommendations", err)
	}
	defer tx.Rollback()
	for _, r := range recs {
		body, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("save recommendation %s: %w", r.ID, err)
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO recommendation (id, at, body) VALUES (?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET at = excluded.at, body = excluded.body`, r.ID, at.UnixNano(), string(body)); err != nil {
			return s.explain("save recommendation "+r.ID, err)
		}
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM recommendation WHERE at < ?`, at.Add(-keepAdvice).UnixNano()); err != nil {
		return s.explain("expire recommendations", err)
	}
	if err := tx.Commit(); err != nil {
		return s.explain("save recommendations", err)
	}
	return nil
}

// Recommendation finds one by its id and says when it was given last.
func (s *Store) Recommendation(ctx context.Context, id string) (tune.Recommendation, time.Time, error) {
	var (
		r    tune.Recommendation
		body string
		at   int64
	)
	err := s.db.QueryRowContext(ctx, `SELECT body, at FROM recommendation WHERE id = ?`, id).Scan(&body, &at)
	if errors.Is(err, sql.ErrNoRows) {
		hint := "run semantos recommend; ids change with the proposed values"
		if near := s.nearest(ctx, `SELECT id FROM recommendation WHERE id >= ?1 AND id < ?1 || 'g' ORDER BY at DESC LIMIT 2`, id); near != "" {
			hint = "did you mean " + near + "? Otherwise " + hint
		}
		return r, time.Time{}, unknown("find recommendation", id, hint)
	}
	if err != nil {
		return r, time.Time{}, s.explain("find recommendation "+id, err)
	}
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		return r, time.Time{}, corrupt(s.path, fmt.Errorf("recommendation %s: %w", id, err))
	}
	return r, time.Unix(0, at), nil
}

// nearest completes the beginning of an id when exactly one stored id starts with it.
func (s *Store) nearest(ctx context.Context, query, id string) string {
	if len(id) < 3 {
		return ""
	}
	found, err := s.column(ctx, query, id)
	if err != nil || len(found) != 1 {
		return ""
	}
	return found[0]
}

func (s *Store) column(ctx context.Context, query string, args ...any) ([]string, error) {
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		out = append(out, text)
	}
	return out, rows.Err()
}

func unknown(op, id, hint string) error {
	return &tune.Error{Op: op, Subject: fmt.Sprintf("%q", id), Err: tune.ErrUnknown, Hint: hint}
}

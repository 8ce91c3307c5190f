package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"semantos/internal/tune"
	"semantos/kb/validate"
)

// keepAdvice is how long a recommendation that was not given again can still be applied by id.
const keepAdvice = 90 * 24 * time.Hour

// SaveRecommendations stores what was printed, so that apply can find it by id. The same id again
// replaces the older text and numbers.
func (s *Store) SaveRecommendations(ctx context.Context, recs []tune.Recommendation, at time.Time) error {
	b := validate.Batch{AdviceBefore: at.Add(-keepAdvice)}
	for _, r := range recs {
		b.Recommendations = append(b.Recommendations, validate.Advice{At: at, Recommendation: r})
	}
	return s.Apply(ctx, b)
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
		near := s.nearest(ctx, `SELECT id FROM recommendation WHERE id >= ?1 AND id < ?1 || 'g' ORDER BY at DESC LIMIT 2`, id)
		return r, time.Time{}, validate.UnknownRecommendation(id, near)
	}
	if err != nil {
		return r, time.Time{}, s.explain("find recommendation "+id, err)
	}
	if err := s.unmarshal("recommendation", body, &r); err != nil {
		return r, time.Time{}, err
	}
	return r, time.Unix(0, at), nil
}

// EachRecommendation walks all recommendations, sorted by id, with the time each was given last, in UTC.
func (s *Store) EachRecommendation(ctx context.Context, yield func(validate.Advice) error) error {
	rows, err := s.db.QueryContext(ctx, `SELECT at, body FROM recommendation ORDER BY id`)
	if err != nil {
		return s.explain("list recommendations", err)
	}
	defer rows.Close()
	for rows.Next() {
		var (
			a    validate.Advice
			at   int64
			body string
		)
		if err := rows.Scan(&at, &body); err != nil {
			return s.explain("list recommendations", err)
		}
		if err := s.unmarshal("recommendation", body, &a.Recommendation); err != nil {
			return err
		}
		a.At = time.Unix(0, at).UTC()
		if err := yield(a); err != nil {
			return err
		}
	}
	return s.ended("list recommendations", rows)
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
	return texts(rows)
}

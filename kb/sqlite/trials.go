package sqlite

import (
	"context"
	"fmt"
	"time"
)

// Trial is one running rollout as it stood, in the words of whoever saved it. It outlives a kill of the
// process and need not outlive the machine: a trial is not gone on with after a boot.
type Trial struct {
	Rollout string
	At      time.Time
	Body    []byte
}

// SaveTrial replaces what was saved of a rollout. It does not wait for the disk: a commit that the kernel
// has is one that a killed process keeps, and a flush after every slot would be a load of its own.
func (s *Store) SaveTrial(ctx context.Context, t Trial) (err error) {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return s.explain("save trial", err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "PRAGMA synchronous = NORMAL"); err != nil {
		return s.explain("save trial", err)
	}
	defer func() { // the connection goes back to others, whatever the caller's patience
		if _, full := conn.ExecContext(context.WithoutCancel(ctx), "PRAGMA synchronous = FULL"); full != nil && err == nil {
			err = s.explain("save trial", full)
		}
	}()
	if _, err := conn.ExecContext(ctx, `INSERT INTO trial (rollout, at, body) VALUES (?, ?, ?)
		ON CONFLICT (rollout) DO UPDATE SET at = excluded.at, body = excluded.body`, t.Rollout, t.At.UnixNano(), t.Body); err != nil {
		return s.explain(fmt.Sprintf("save trial %s", t.Rollout), err)
	}
	return nil
}

// DropTrial forgets a rollout's saved state; one that was never saved is fine.
func (s *Store) DropTrial(ctx context.Context, rollout string) error {
	if _, err := s.db.ExecContext(ctx, `DELETE FROM trial WHERE rollout = ?`, rollout); err != nil {
		return s.explain("forget trial "+rollout, err)
	}
	return nil
}

// Trials gives what is saved, oldest first.
func (s *Store) Trials(ctx context.Context) ([]Trial, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT rollout, at, body FROM trial ORDER BY at, rollout`)
	if err != nil {
		return nil, s.explain("list trials", err)
	}
	defer rows.Close()
	out := []Trial{}
	for rows.Next() {
		var t Trial
		var at int64
		if err := rows.Scan(&t.Rollout, &at, &t.Body); err != nil {
			return nil, s.explain("list trials", err)
		}
		t.At = time.Unix(0, at)
		out = append(out, t)
	}
	return out, s.ended("list trials", rows)
}

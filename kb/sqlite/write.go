package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"

	"semantos/kb/validate"
)

// Apply stores a batch in one transaction: all of it, durably, or nothing. What must not be stored is
// refused with the errors of [validate.Batch.Check] and [validate.Batch.CheckAgainst].
func (s *Store) Apply(ctx context.Context, b validate.Batch) error {
	if err := b.Check(); err != nil {
		return err
	}
	if b.Empty() {
		return nil
	}
	return s.transact(ctx, "store knowledge", func(w *writer) error {
		if err := b.CheckAgainst(w); err != nil {
			return err
		}
		if err := w.put(b); err != nil {
			return err
		}
		if s.queue {
			return w.enqueue(b)
		}
		return nil
	})
}

// transact runs do in one write transaction, which ends with its error.
func (s *Store) transact(ctx context.Context, op string, do func(*writer) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return s.explain(op, err)
	}
	defer tx.Rollback()
	if err := do(&writer{ctx: ctx, tx: tx, prepared: map[string]*sql.Stmt{}}); err != nil {
		return s.explain(op, err)
	}
	if err := tx.Commit(); err != nil {
		return s.explain(op, err)
	}
	return nil
}

// writer is one write transaction. Its statements end with it.
type writer struct {
	ctx      context.Context
	tx       *sql.Tx
	prepared map[string]*sql.Stmt
}

func (w *writer) stmt(query string) (*sql.Stmt, error) {
	if st := w.prepared[query]; st != nil {
		return st, nil
	}
	st, err := w.tx.PrepareContext(w.ctx, query)
	if err == nil {
		w.prepared[query] = st
	}
	return st, err
}

// exec gives the number of rows changed.
func (w *writer) exec(query string, args ...any) (int64, error) {
	st, err := w.stmt(query)
	if err != nil {
		return 0, err
	}
	res, err := st.ExecContext(w.ctx, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// put stores everything in the order in which one thing may name another.
func (w *writer) put(b validate.Batch) error {
	changed, err := w.putGraph(b)
	if err != nil {
		return err
	}
	if changed {
		if _, err := w.exec(`UPDATE counter SET n = n + 1 WHERE name = 'graph'`); err != nil {
			return err
		}
	}
	for _, e := range b.Events {
		if err := w.putEvent(e); err != nil {
			return err
		}
	}
	for _, t := range b.Traces {
		if err := w.put1(t, `INSERT INTO trace (id, at, body) VALUES (?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET at = excluded.at, body = excluded.body`, t.ID, t.Time.UnixNano()); err != nil {
			return err
		}
	}
	for _, r := range b.Rollouts {
		if err := w.putRollout(r); err != nil {
			return err
		}
	}
	for _, a := range b.Recommendations {
		if err := w.put1(a.Recommendation, `INSERT INTO recommendation (id, at, body) VALUES (?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET at = excluded.at, body = excluded.body`, a.Recommendation.ID, a.At.UnixNano()); err != nil {
			return err
		}
	}
	if !b.AdviceBefore.IsZero() {
		_, err = w.exec(`DELETE FROM recommendation WHERE at < ?`, b.AdviceBefore.UnixNano())
	}
	return err
}

// put1 runs an insert whose last argument is the document v.
func (w *writer) put1(v any, query string, args ...any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.exec(query, append(args, string(body))...)
	return err
}

// putGraph reports whether any node or edge is new or different now.
func (w *writer) putGraph(b validate.Batch) (bool, error) {
	var changed int64
	for _, n := range b.Nodes {
		body, err := json.Marshal(n)
		if err != nil {
			return false, err
		}
		rows, err := w.exec(`INSERT INTO node (id, body) VALUES (?, ?) ON CONFLICT (id) DO UPDATE
			SET body = excluded.body WHERE body <> excluded.body`, n.ID, string(body))
		if err != nil {
			return false, err
		}
		changed += rows
	}
	for _, e := range b.Edges {
		body, err := json.Marshal(e)
		if err != nil {
			return false, err
		}
		rows, err := w.exec(`INSERT INTO edge (from_id, type, to_id, retired, body) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (from_id, type, to_id) DO UPDATE SET retired = excluded.retired, body = excluded.body
			WHERE body <> excluded.body`, e.From, string(e.Type), e.To, e.Retired, string(body))
		if err != nil {
			return false, err
		}
		changed += rows
	}
	return changed > 0, nil
}

// putEvent stores the very same event once, so that an import can be repeated.
func (w *writer) putEvent(e validate.Event) error {
	body, err := json.Marshal(e.Event)
	if err != nil {
		return err
	}
	_, err = w.exec(`INSERT INTO edge_event (from_id, type, to_id, at, body) SELECT ?1, ?2, ?3, ?4, ?5
		WHERE NOT EXISTS (SELECT 1 FROM edge_event WHERE from_id = ?1 AND type = ?2 AND to_id = ?3 AND at = ?4 AND body = ?5)`,
		e.From, string(e.Type), e.To, e.Event.At.UnixNano(), string(body))
	return err
}

// MissingNodes makes the writer a [validate.Known].
func (w *writer) MissingNodes(ids []string) ([]string, error) {
	var missing []string
	for _, id := range ids {
		there, err := w.exists(`SELECT EXISTS (SELECT 1 FROM node WHERE id = ?)`, id)
		if err != nil {
			return nil, err
		}
		if !there {
			missing = append(missing, id)
		}
	}
	return missing, nil
}

// MissingEdges makes the writer a [validate.Known].
func (w *writer) MissingEdges(keys []validate.EdgeKey) ([]validate.EdgeKey, error) {
	var missing []validate.EdgeKey
	for _, k := range keys {
		there, err := w.exists(`SELECT EXISTS (SELECT 1 FROM edge WHERE from_id = ? AND type = ? AND to_id = ?)`,
			k.From, string(k.Type), k.To)
		if err != nil {
			return nil, err
		}
		if !there {
			missing = append(missing, k)
		}
	}
	return missing, nil
}

// DependsOn makes the writer a [validate.Known].
func (w *writer) DependsOn(id string) ([]string, error) {
	st, err := w.stmt(`SELECT to_id FROM edge WHERE from_id = ? AND type = 'depends_on' AND NOT retired`)
	if err != nil {
		return nil, err
	}
	rows, err := st.QueryContext(w.ctx, id)
	if err != nil {
		return nil, err
	}
	return texts(rows)
}

func (w *writer) exists(query string, args ...any) (there bool, err error) {
	st, err := w.stmt(query)
	if err != nil {
		return false, err
	}
	return there, st.QueryRowContext(w.ctx, args...).Scan(&there)
}

func texts(rows *sql.Rows) ([]string, error) {
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

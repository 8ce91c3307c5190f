package sqlite

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"semantos/internal/tune"
	"semantos/kb/validate"
)

// Spool is a store that stands before a remote one: the last known copy of it, and in the same
// transactions an ordered queue of what it was not told yet. It belongs to one machine; several
// processes of that machine may use it.
type Spool struct {
	*Store
}

// Remote is what a spool knows of the store behind it.
type Remote struct {
	Writer   string           // our name there
	Database string           // which database it is, "" before the first meeting
	Seq      int64            // the newest queued write it has confirmed
	Cursors  map[string]int64 // how far its changes were pulled, by kind of thing
}

// Queued is one write that waits, in the order of Seq.
type Queued struct {
	Seq   int64
	Batch validate.Batch
}

// pieceSize bounds the things in one queued write, so that an import is delivered in many.
const pieceSize = 500

// OpenSpool opens or creates the spool in dir. A store of [Open] that is there already becomes a spool
// with everything it holds queued.
func OpenSpool(ctx context.Context, dir string) (*Spool, error) { return OpenSpoolWith(ctx, dir, nil) }

// OpenSpoolWith opens every file with other rights than our own; nil are our own.
func OpenSpoolWith(ctx context.Context, dir string, rights Rights) (*Spool, error) {
	s, err := OpenWith(ctx, dir, rights)
	if err != nil {
		return nil, err
	}
	sp := &Spool{s}
	if err := sp.transact(ctx, "open spool", func(w *writer) error {
		there, err := w.exists(`SELECT EXISTS (SELECT 1 FROM remote)`)
		if err != nil || there {
			return err
		}
		if _, err := w.exec(`INSERT INTO remote VALUES (1, ?, '', 0, '{}')`, rand.Text()); err != nil {
			return err
		}
		return w.requeueAll()
	}); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.queue = true
	return sp, nil
}

// enqueue runs inside the transaction that changes the copy.
func (w *writer) enqueue(b validate.Batch) error {
	for _, piece := range b.Split(pieceSize) {
		if err := w.put1(piece, `INSERT INTO outbox (things, body) VALUES (?, ?)`, piece.Len()); err != nil {
			return err
		}
	}
	return nil
}

// Remote reads what is known of the remote store.
func (s *Spool) Remote(ctx context.Context) (Remote, error) {
	var (
		r       Remote
		cursors string
	)
	err := s.db.QueryRowContext(ctx, `SELECT writer, database, seq, cursors FROM remote`).Scan(&r.Writer, &r.Database, &r.Seq, &cursors)
	if err != nil {
		return r, s.explain("read spool", err)
	}
	return r, s.unmarshal("cursor", cursors, &r.Cursors)
}

// Waiting counts the queued writes. Their numbers have no gaps, so that a long queue need not be read.
func (s *Spool) Waiting(ctx context.Context) (int, error) {
	var n int
	if err := s.db.QueryRowContext(ctx, `SELECT coalesce((SELECT max(seq) FROM outbox) -
		(SELECT min(seq) FROM outbox) + 1, 0)`).Scan(&n); err != nil {
		return 0, s.explain("count queued writes", err)
	}
	return n, nil
}

// Next gives the oldest queued writes: at most rows of them, and no more after bytes of JSON.
func (s *Spool) Next(ctx context.Context, rows, bytes int) ([]Queued, error) {
	found, err := s.db.QueryContext(ctx, `SELECT seq, body FROM outbox ORDER BY seq LIMIT ?`, rows)
	if err != nil {
		return nil, s.explain("read queued writes", err)
	}
	defer found.Close()
	var out []Queued
	for found.Next() && bytes > 0 {
		var (
			q    Queued
			body string
		)
		if err := found.Scan(&q.Seq, &body); err != nil {
			return nil, s.explain("read queued writes", err)
		}
		if err := s.unmarshal("queued write", body, &q.Batch); err != nil {
			return nil, err
		}
		bytes -= len(body)
		out = append(out, q)
	}
	return out, s.ended("read queued writes", found)
}

// LastQueued gives the number of the newest write that was ever queued.
func (s *Spool) LastQueued(ctx context.Context) (int64, error) {
	var n int64
	if err := s.db.QueryRowContext(ctx, `SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'outbox'`).Scan(&n); err != nil {
		return 0, s.explain("read spool", err)
	}
	return n, nil
}

// Delivered forgets the queued writes up to seq: the remote store has them, as its changes after from up
// to to. A copy that was complete up to from is then complete up to to.
func (s *Spool) Delivered(ctx context.Context, seq, from, to int64) error {
	return s.transact(ctx, "confirm queued writes", func(w *writer) error {
		if err := w.delivered(seq); err != nil {
			return err
		}
		_, err := w.exec(`UPDATE remote SET cursors = (SELECT json_group_object(key, ?2) FROM json_each(cursors))
			WHERE (SELECT count(*) > 0 AND min(value) = ?1 AND max(value) = ?1 FROM json_each(cursors))`, from, to)
		return err
	})
}

func (w *writer) delivered(seq int64) error {
	if _, err := w.exec(`DELETE FROM outbox WHERE seq <= ?`, seq); err != nil {
		return err
	}
	_, err := w.exec(`UPDATE remote SET seq = max(seq, ?)`, seq)
	return err
}

// Meeting is what a remote store says of itself when a connection begins.
type Meeting struct {
	Database string   // which one it is
	Seq      int64    // the newest of our queued writes it has
	Clock    int64    // the number of its newest change
	Kinds    []string // the kinds of things that are pulled, each with a cursor
}

// cursors are where to pull from after a meeting with a database not known before: of an empty one
// everything is known.
func (m Meeting) cursors() string {
	out := map[string]int64{}
	if m.Clock == 0 {
		for _, k := range m.Kinds {
			out[k] = 0
		}
	}
	text, _ := json.Marshal(out) // strings and numbers always can be
	return string(text)
}

// Meet is told at each connection what the remote store says; known is what [Spool.Remote] gave before
// it was asked. Another database than last time, or one that lost what it had confirmed or shown
// (restored from a backup), is told everything again; requeued says so.
func (s *Spool) Meet(ctx context.Context, known Remote, m Meeting) (requeued bool, err error) {
	err = s.transact(ctx, "meet remote store", func(w *writer) error {
		var (
			database string
			last     int64
		)
		if err := w.tx.QueryRowContext(ctx, `SELECT database, (SELECT coalesce(max(seq), 0)
			FROM sqlite_sequence WHERE name = 'outbox') FROM remote`).Scan(&database, &last); err != nil {
			return err
		}
		if m.Seq > last {
			// It knows writes of ours that we do not: this spool is an older copy of itself. Under the
			// old name its next writes would pass for ones already delivered.
			_, err := w.exec(`UPDATE remote SET writer = ?, database = ?, seq = 0, cursors = ?`, rand.Text(), m.Database, m.cursors())
			return err
		}
		behind := m.Seq < known.Seq
		for _, cursor := range known.Cursors {
			behind = behind || cursor > m.Clock
		}
		if database == "" || database == m.Database && !(behind && known.Database == m.Database) {
			if _, err := w.exec(`UPDATE remote SET cursors = ?1 WHERE database <> ?2`, m.cursors(), m.Database); err != nil {
				return err
			}
			if _, err := w.exec(`UPDATE remote SET database = ?`, m.Database); err != nil {
				return err
			}
			return w.delivered(m.Seq)
		}
		requeued = true
		if _, err := w.exec(`UPDATE remote SET database = ?, seq = ?, cursors = ?`, m.Database, m.Seq, m.cursors()); err != nil {
			return err
		}
		return w.requeueAll()
	})
	return requeued, err
}

// Requeue queues everything again in place of what waits, for a remote store that lost some of it.
func (s *Spool) Requeue(ctx context.Context) error {
	return s.transact(ctx, "queue everything", (*writer).requeueAll)
}

// Page is what others changed in the remote store, in one kind of thing, after one number of its clock
// up to another. Seq is the newest own write it had confirmed, by [Spool.Remote], before the page was read.
type Page struct {
	Kind        string
	After, Upto int64
	Seq         int64
	Batch       validate.Batch
}

// Pulled stores a page. It does nothing and says false when the page may be older than the copy: an own
// write waits or was delivered meanwhile, or another process has pulled further.
func (s *Spool) Pulled(ctx context.Context, p Page) (stored bool, err error) {
	if err := p.Batch.Check(); err != nil {
		return false, fmt.Errorf("%w: %w", tune.ErrCorrupt, err)
	}
	err = s.transact(ctx, "copy remote store", func(w *writer) error {
		fits, err := w.exists(`SELECT NOT EXISTS (SELECT 1 FROM outbox) AND EXISTS (SELECT 1 FROM remote
			WHERE seq = ? AND coalesce(json_extract(cursors, '$.' || ?), 0) = ?)`, p.Seq, p.Kind, p.After)
		if err != nil || !fits {
			return err
		}
		if err := p.Batch.CheckEnds(w); err != nil {
			return fmt.Errorf("%w: %w", tune.ErrCorrupt, err)
		}
		if err := w.put(p.Batch); err != nil {
			return err
		}
		_, err = w.exec(`UPDATE remote SET cursors = json_set(cursors, '$.' || ?, ?)`, p.Kind, p.Upto)
		stored = err == nil
		return err
	})
	return stored && err == nil, err
}

// requeueAll queues everything the store holds, in an order in which it can be stored; what waited is in
// it, because a write is stored and queued at once.
func (w *writer) requeueAll() error {
	if _, err := w.exec(`DELETE FROM outbox`); err != nil {
		return err
	}
	for _, q := range []string{
		`SELECT json_object('nodes', json_group_array(json(body) ORDER BY n)), count(*) FROM
			(SELECT body, row_number() OVER (ORDER BY id) AS n FROM node) GROUP BY (n - 1) / ?1 ORDER BY min(n)`,
		`SELECT json_object('edges', json_group_array(json(body) ORDER BY n)), count(*) FROM
			(SELECT body, row_number() OVER (ORDER BY from_id, type, to_id) AS n FROM edge) GROUP BY (n - 1) / ?1 ORDER BY min(n)`,
		`SELECT json_object('events', json_group_array(json_object('from', from_id, 'type', type, 'to', to_id, 'event', json(body))
			ORDER BY n)), count(*) FROM (SELECT *, row_number() OVER (ORDER BY from_id, type, to_id, at, seq) AS n FROM edge_event)
			GROUP BY (n - 1) / ?1 ORDER BY min(n)`,
		`SELECT json_object('traces', json_group_array(json(body) ORDER BY n)), count(*) FROM
			(SELECT body, row_number() OVER (ORDER BY at, id) AS n FROM trace) GROUP BY (n - 1) / ?1 ORDER BY min(n)`,
		`SELECT json_object('rollouts', json_group_array(json(body) ORDER BY n)), count(*) FROM
			(SELECT body, row_number() OVER (ORDER BY started, id) AS n FROM rollout) GROUP BY (n - 1) / ?1 ORDER BY min(n)`,
	} {
		if _, err := w.exec(`INSERT INTO outbox (body, things) `+q, pieceSize); err != nil {
			return err
		}
	}
	rows, err := w.tx.QueryContext(w.ctx, `SELECT at, body FROM recommendation ORDER BY id`)
	if err != nil {
		return err
	}
	defer rows.Close()
	var b validate.Batch
	for rows.Next() {
		var (
			a    validate.Advice
			at   int64
			body []byte
		)
		if err := rows.Scan(&at, &body); err != nil {
			return err
		}
		if err := json.Unmarshal(body, &a.Recommendation); err != nil {
			return fmt.Errorf("%w: a stored recommendation: %w", tune.ErrCorrupt, err)
		}
		a.At = time.Unix(0, at).UTC()
		b.Recommendations = append(b.Recommendations, a)
	}
	if err := rows.Err(); err != nil || b.Empty() {
		return err
	}
	return w.enqueue(b)
}

package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"semantos/internal/tune"
	"semantos/kb/validate"
)

// UpsertNodes stores nodes; the same id again replaces the older one.
func (s *Store) UpsertNodes(ctx context.Context, nodes []tune.Node) error {
	return s.Apply(ctx, validate.Batch{Nodes: nodes})
}

// UpsertEdges stores edges between stored nodes; the same from, type and to again replace the older one.
func (s *Store) UpsertEdges(ctx context.Context, edges []tune.Edge) error {
	return s.Apply(ctx, validate.Batch{Edges: edges})
}

// AppendEdgeEvent adds a line to the history of a stored edge. The very same line is stored once.
func (s *Store) AppendEdgeEvent(ctx context.Context, from string, typ tune.EdgeType, to string, e tune.EdgeEvent) error {
	return s.Apply(ctx, validate.Batch{Events: []validate.Event{{From: from, Type: typ, To: to, Event: e}}})
}

// Node finds one node.
func (s *Store) Node(ctx context.Context, id string) (tune.Node, error) {
	var (
		n    tune.Node
		body string
	)
	err := s.db.QueryRowContext(ctx, `SELECT body FROM node WHERE id = ?`, id).Scan(&body)
	if errors.Is(err, sql.ErrNoRows) {
		return n, validate.UnknownNode(id)
	}
	if err != nil {
		return n, s.explain("find node", err)
	}
	return n, s.unmarshal("node", body, &n)
}

// Nodes gives all nodes, sorted by id (by bytes).
func (s *Store) Nodes(ctx context.Context) ([]tune.Node, error) {
	return list[tune.Node](ctx, s, "nodes", `SELECT body FROM node ORDER BY id`)
}

// Edges gives all edges, retired ones too, sorted by from, type and to.
func (s *Store) Edges(ctx context.Context) ([]tune.Edge, error) {
	return list[tune.Edge](ctx, s, "edges", `SELECT body FROM edge ORDER BY from_id, type, to_id`)
}

// EdgeHistory gives the events of an edge, oldest first; none for an edge without any.
func (s *Store) EdgeHistory(ctx context.Context, from string, typ tune.EdgeType, to string) ([]tune.EdgeEvent, error) {
	return list[tune.EdgeEvent](ctx, s, "edge events", `SELECT body FROM edge_event
		WHERE from_id = ? AND type = ? AND to_id = ? ORDER BY at, seq`, from, string(typ), to)
}

// EachEdgeEvent walks the history of all edges, sorted by edge, oldest first. An error of yield ends it.
func (s *Store) EachEdgeEvent(ctx context.Context, yield func(validate.Event) error) error {
	rows, err := s.db.QueryContext(ctx, `SELECT from_id, type, to_id, body FROM edge_event ORDER BY from_id, type, to_id, at, seq`)
	if err != nil {
		return s.explain("list edge events", err)
	}
	defer rows.Close()
	for rows.Next() {
		var (
			e    validate.Event
			body string
		)
		if err := rows.Scan(&e.From, &e.Type, &e.To, &body); err != nil {
			return s.explain("list edge events", err)
		}
		if err := s.unmarshal("edge event", body, &e.Event); err != nil {
			return err
		}
		if err := yield(e); err != nil {
			return err
		}
	}
	return s.ended("list edge events", rows)
}

// GraphVersion grows with every write that changed a node or an edge, and only then.
func (s *Store) GraphVersion(ctx context.Context) (int64, error) {
	var n int64
	if err := s.db.QueryRowContext(ctx, `SELECT n FROM counter WHERE name = 'graph'`).Scan(&n); err != nil {
		return 0, s.explain("read graph version", err)
	}
	return n, nil
}

// SaveTrace stores an outcome; the same id again replaces it.
func (s *Store) SaveTrace(ctx context.Context, t tune.Trace) error {
	return s.Apply(ctx, validate.Batch{Traces: []tune.Trace{t}})
}

// Trace finds one trace.
func (s *Store) Trace(ctx context.Context, id string) (tune.Trace, error) {
	var (
		t    tune.Trace
		body string
	)
	err := s.db.QueryRowContext(ctx, `SELECT body FROM trace WHERE id = ?`, id).Scan(&body)
	if errors.Is(err, sql.ErrNoRows) {
		return t, validate.UnknownTrace(id)
	}
	if err != nil {
		return t, s.explain("find trace", err)
	}
	return t, s.unmarshal("trace", body, &t)
}

// Traces lists the newest traces first; a limit of 0 or less gives all.
func (s *Store) Traces(ctx context.Context, limit int) ([]tune.Trace, error) {
	if limit <= 0 {
		limit = -1
	}
	return list[tune.Trace](ctx, s, "traces", `SELECT body FROM trace ORDER BY at DESC, id DESC LIMIT ?`, limit)
}

// EachTrace walks all traces, newest first, without holding them all. An error of yield ends it.
func (s *Store) EachTrace(ctx context.Context, yield func(tune.Trace) error) error {
	return each(ctx, s, "traces", yield, `SELECT body FROM trace ORDER BY at DESC, id DESC`)
}

func list[T any](ctx context.Context, s *Store, what, query string, args ...any) ([]T, error) {
	out := []T{}
	err := each(ctx, s, what, func(v T) error { out = append(out, v); return nil }, query, args...)
	if err != nil {
		return nil, err
	}
	return out, nil
}

// each decodes the documents of a query of one column.
func each[T any](ctx context.Context, s *Store, what string, yield func(T) error, query string, args ...any) error {
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return s.explain("list "+what, err)
	}
	defer rows.Close()
	for rows.Next() {
		var (
			v    T
			body sql.RawBytes
		)
		if err := rows.Scan(&body); err != nil {
			return s.explain("list "+what, err)
		}
		if err := json.Unmarshal(body, &v); err != nil {
			return corrupt(s.path, fmt.Errorf("one of the stored %s: %w", what, err))
		}
		if err := yield(v); err != nil {
			return err
		}
	}
	return s.ended("list "+what, rows)
}

func (s *Store) ended(op string, rows *sql.Rows) error {
	if err := rows.Err(); err != nil {
		return s.explain(op, err)
	}
	return nil
}

func (s *Store) unmarshal(what, body string, v any) error {
	if err := json.Unmarshal([]byte(body), v); err != nil {
		return corrupt(s.path, fmt.Errorf("a stored %s: %w", what, err))
	}
	return nil
}

package neo4j

import (
	"context"
	"fmt"
	"time"

	"semantos/internal/tune"
	"semantos/kb/sqlite"
	"semantos/kb/validate"
)

// pullLimit is how many things one page of a copy has; a trace may have a megabyte.
const pullLimit = 200

// kind is one kind of thing that is copied; its name is that of the cursor.
type kind struct {
	name string
	read cypher
	add  func(*row, *validate.Batch)
}

// kinds in an order in which things can be stored: what names another comes after it.
func kinds() []kind {
	return []kind{
		{"nodes", readNodes, addNode},
		{"edges", readEdges, addEdge},
		{"events", readEvents, addEvent},
		{"traces", readTraces, func(r *row, b *validate.Batch) { b.Traces = append(b.Traces, document[tune.Trace](r)) }},
		{"rollouts", readRollouts, func(r *row, b *validate.Batch) { b.Rollouts = append(b.Rollouts, document[tune.Rollout](r)) }},
		{"advice", readAdvice, addAdvice},
	}
}

// pull copies what changed in the database since the last time. It does nothing while own writes wait:
// the copy has them, the database does not.
func (s *Store) pull(ctx context.Context, l *link) error {
	select {
	case s.pulling <- struct{}{}:
		defer func() { <-s.pulling }()
	case <-ctx.Done():
		return ctx.Err()
	}
	// Own writes and other processes may come in between; a few more tries make that unlikely to matter.
	for range 3 {
		if whole, err := s.pullAll(ctx, l); whole || err != nil {
			return err
		}
	}
	return nil
}

// pullAll says false when something came in between.
func (s *Store) pullAll(ctx context.Context, l *link) (bool, error) {
	if n, err := s.spool.Waiting(ctx); err != nil || n > 0 {
		return true, err
	}
	known, err := s.spool.Remote(ctx)
	if err != nil {
		return false, err
	}
	now, err := s.clock(ctx, l)
	if err != nil {
		return false, err
	}
	for _, k := range kinds() {
		whole, err := s.pullKind(ctx, l, k, known, now.Clock)
		if err != nil {
			return false, fmt.Errorf("copy %s: %w", k.name, err)
		}
		if !whole {
			return false, nil
		}
	}
	return true, nil
}

// pullKind copies page by page up to a number of the clock.
func (s *Store) pullKind(ctx context.Context, l *link, k kind, known sqlite.Remote, until int64) (bool, error) {
	for after := known.Cursors[k.name]; after < until; {
		rows, err := read(ctx, l, s.limits.deliver, func(t tx) ([]row, error) {
			return t.run(k.read, map[string]any{"after": after, "until": until, "limit": int64(pullLimit)})
		})
		if err != nil {
			return false, err
		}
		p := sqlite.Page{Kind: k.name, After: after, Upto: until, Seq: known.Seq}
		for i := range rows {
			rev := rows[i].whole("rev")
			k.add(&rows[i], &p.Batch)
			if rows[i].err != nil {
				return false, fmt.Errorf("change %d: %w", rev, rows[i].err)
			}
			if len(rows) == pullLimit {
				p.Upto = rev
			}
		}
		if stored, err := s.spool.Pulled(ctx, p); err != nil || !stored {
			return false, err
		}
		after = p.Upto
	}
	return true, nil
}

func addNode(r *row, b *validate.Batch) {
	b.Nodes = append(b.Nodes, tune.Node{ID: r.text("id"), Kind: tune.NodeKind(r.text("kind")), Summary: r.text("summary"), Source: r.text("source")})
}

func addEdge(r *row, b *validate.Batch) {
	b.Edges = append(b.Edges, tune.Edge{From: r.text("from"), Type: tune.EdgeType(r.text("type")), To: r.text("to"),
		Sign: int(r.whole("sign")), Weight: r.number("weight"), Seed: r.number("seed"), Evidence: r.number("evidence"),
		Learned: r.number("learned"), Documented: r.truth("documented"), Retired: r.truth("retired"),
		Why: r.text("why"), Source: r.text("source"), Updated: r.when("updated")})
}

func addEvent(r *row, b *validate.Batch) {
	e := validate.Event{From: r.text("from"), Type: tune.EdgeType(r.text("type")), To: r.text("to")}
	r.document("body", &e.Event)
	b.Events = append(b.Events, e)
}

func addAdvice(r *row, b *validate.Batch) {
	a := validate.Advice{At: time.Unix(0, r.whole("at")).UTC()}
	r.document("body", &a.Recommendation)
	b.Recommendations = append(b.Recommendations, a)
}

func document[T any](r *row) (v T) {
	r.document("body", &v)
	return v
}

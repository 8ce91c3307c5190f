package neo4j

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"semantos/internal/tune"
	"semantos/kb/sqlite"
	"semantos/kb/validate"
)

// How much of the queue goes into one transaction.
const (
	deliverRows  = 64
	deliverBytes = 4 << 20
)

// deliver empties the queue, oldest first.
func (s *Store) deliver(ctx context.Context, l *link) error {
	for {
		known, err := s.spool.Remote(ctx)
		if err != nil {
			return err
		}
		waiting, err := s.spool.Next(ctx, deliverRows, deliverBytes)
		if err != nil {
			return err
		}
		if len(waiting) == 0 {
			s.board.post(func(_ *State, seq *int64) { *seq = known.Seq })
			return nil
		}
		span, err := write(ctx, l, s.limits.deliver, func(t tx) (span, error) { return applyAll(t, known, waiting) })
		if errors.Is(err, errHole) {
			return errors.Join(err, s.spool.Requeue(ctx))
		}
		if err != nil {
			return err
		}
		last := waiting[len(waiting)-1].Seq
		if err := s.spool.Delivered(ctx, last, span.from, span.to); err != nil {
			return err
		}
		s.board.post(func(_ *State, seq *int64) { *seq = last })
	}
}

// span is the changes after from up to to.
type span struct{ from, to int64 }

// applyAll applies those writes that the database does not have yet and records the newest, all in one
// transaction. It holds the clock's lock from its first statement on, so that the numbers of changes
// become visible in their order.
func applyAll(t tx, known sqlite.Remote, waiting []sqlite.Queued) (span, error) {
	rows, err := t.run(claim, map[string]any{"writer": known.Writer})
	if err == nil && len(rows) == 0 {
		return span{}, errLost
	}
	m, err := meeting(one(rows, err))
	if err != nil {
		return span{}, err
	}
	if m.Database != known.Database {
		return span{}, errLost
	}
	out := span{m.Clock, m.Clock}
	seq := m.Seq
	for _, q := range waiting {
		if q.Seq <= m.Seq {
			continue // applied, and its acknowledgement was lost, or another process was faster
		}
		if err := apply(t, q.Batch, &out.to); err != nil {
			return span{}, fmt.Errorf("deliver write %d: %w", q.Seq, err)
		}
		seq = q.Seq
	}
	if seq == m.Seq {
		return out, nil
	}
	_, err = t.run(confirm, map[string]any{"writer": known.Writer, "n": out.to, "seq": seq})
	return out, err
}

// apply runs one batch, giving each thing the next number of the clock.
func apply(t tx, b validate.Batch, clock *int64) error {
	a := applier{t: t, clock: clock}
	put(&a, writeNodes, b.Nodes, nodeRow)
	put(&a, writeEdges, b.Edges, edgeRow)
	put(&a, writeEvents, b.Events, eventRow)
	put(&a, writeTraces, b.Traces, traceRow)
	put(&a, writeRollouts, b.Rollouts, rolloutRow)
	put(&a, writeAdvice, b.Recommendations, adviceRow)
	if a.err == nil && !b.AdviceBefore.IsZero() {
		_, a.err = t.run(forgetAdvice, map[string]any{"before": b.AdviceBefore.UnixNano()})
	}
	return a.err
}

type applier struct {
	t     tx
	clock *int64
	err   error
}

func put[T any](a *applier, q cypher, things []T, toRow func(T) (map[string]any, error)) {
	if a.err != nil || len(things) == 0 {
		return
	}
	rows := make([]any, len(things))
	for i, thing := range things {
		r, err := toRow(thing)
		if err != nil {
			a.err = err
			return
		}
		*a.clock++
		r["rev"] = *a.clock
		rows[i] = r
	}
	answer, err := one(a.t.run(q, map[string]any{"rows": rows}))
	if err != nil {
		a.err = err
		return
	}
	n := answer.whole("n")
	if a.err = answer.err; a.err == nil && n != int64(len(things)) {
		a.err = errHole
	}
}

func nodeRow(n tune.Node) (map[string]any, error) {
	return map[string]any{"id": n.ID, "kind": string(n.Kind), "summary": n.Summary, "source": n.Source}, nil
}

func edgeRow(e tune.Edge) (map[string]any, error) {
	updated := ""
	if !e.Updated.IsZero() {
		updated = e.Updated.Format(time.RFC3339Nano)
	}
	return map[string]any{"from": e.From, "type": string(e.Type), "to": e.To, "sign": int64(e.Sign), "weight": e.Weight,
		"seed": e.Seed, "evidence": e.Evidence, "learned": e.Learned, "documented": e.Documented, "retired": e.Retired,
		"why": e.Why, "source": e.Source, "updated": updated}, nil
}

func eventRow(e validate.Event) (map[string]any, error) {
	whole, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(e.Event)
	sum := sha256.Sum256(whole)
	return map[string]any{"key": hex.EncodeToString(sum[:]), "from": e.From, "type": string(e.Type), "to": e.To,
		"at": e.Event.At.UnixNano(), "body": string(body)}, err
}

func traceRow(tr tune.Trace) (map[string]any, error) {
	body, err := json.Marshal(tr)
	return map[string]any{"id": tr.ID, "at": tr.Time.UnixNano(), "verdict": string(tr.Verdict), "body": string(body)}, err
}

func rolloutRow(r tune.Rollout) (map[string]any, error) {
	body, err := json.Marshal(r)
	// The name of a symptom is indexed there, and an index holds about 8 kB.
	symptom := r.Recommendation.Provenance.Symptom
	return map[string]any{"id": r.ID, "recommendation": r.Recommendation.ID, "symptom": symptom[:min(len(symptom), validate.MaxID)],
		"state": string(r.State), "body": string(body)}, err
}

func adviceRow(a validate.Advice) (map[string]any, error) {
	body, err := json.Marshal(a.Recommendation)
	return map[string]any{"id": a.Recommendation.ID, "at": a.At.UnixNano(), "body": string(body)}, err
}

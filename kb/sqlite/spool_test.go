package sqlite

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"semantos/internal/tune"
	"semantos/kb/kbtest"
	"semantos/kb/validate"
)

func openSpool(t *testing.T, dir string) *Spool {
	t.Helper()
	s, err := OpenSpool(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func apply(t *testing.T, s *Spool, bs ...validate.Batch) {
	t.Helper()
	for _, b := range bs {
		if err := s.Apply(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
}

// queued gives the ids of the traces that wait, and the newest number.
func queued(t *testing.T, s *Spool) (ids string, last int64) {
	t.Helper()
	all, err := s.Next(t.Context(), 1e6, 1e9)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range all {
		for _, tr := range q.Batch.Traces {
			ids += strings.TrimLeft(tr.ID, "trace-0") + " "
		}
		last = q.Seq
	}
	return ids, last
}

func meet(t *testing.T, s *Spool, database string, seq int64, requeued bool) {
	t.Helper()
	known, err := s.Remote(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Meet(t.Context(), known, Meeting{Database: database, Seq: seq, Clock: 100})
	if err != nil || got != requeued {
		t.Fatalf("meeting %s at %d: requeued %v, %v", database, seq, got, err)
	}
}

func TestSpoolConformance(t *testing.T) {
	t.Parallel()
	kbtest.Run(t, func(t *testing.T) (kbtest.Store, func() kbtest.Store) {
		dir := t.TempDir()
		return openSpool(t, dir), func() kbtest.Store { return openSpool(t, dir) }
	})
}

func TestQueueKeepsOrderAndForgetsWhatWasDelivered(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openSpool(t, dir)
	apply(t, s, kbtest.Batch(1), kbtest.Batch(2), kbtest.Batch(3))
	all, err := s.Next(t.Context(), 2, 1e9)
	if err != nil || len(all) != 2 || all[0].Batch.Traces[0].ID != kbtest.Trace(1).ID {
		t.Fatalf("the oldest two: %v, %v", all, err)
	}
	if d := cmp.Diff(kbtest.Batch(1), all[0].Batch); d != "" {
		t.Error(d)
	}
	if one, _ := s.Next(t.Context(), 10, 1); len(one) != 1 {
		t.Errorf("%d writes within one byte: a large one must not block the queue", len(one))
	}
	if err := s.Delivered(t.Context(), all[0].Seq, 0, 1); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = openSpool(t, dir)
	ids, last := queued(t, s)
	if ids != "2 3 " {
		t.Errorf("waiting: %s", ids)
	}
	if err := s.Delivered(t.Context(), last, 0, 1); err != nil {
		t.Fatal(err)
	}
	apply(t, s, kbtest.Batch(4))
	if _, next := queued(t, s); next != last+1 {
		t.Errorf("number %d follows %d: numbers must never be given twice", next, last)
	}
	if r, err := s.Remote(t.Context()); err != nil || r.Seq != last || r.Writer == "" {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestMeetings(t *testing.T) {
	t.Parallel()
	s := openSpool(t, t.TempDir())
	apply(t, s, kbtest.Batch(1), kbtest.Batch(2), kbtest.Batch(3))
	meet(t, s, "one", 0, false)
	meet(t, s, "one", 2, false) // it had two, their acknowledgement was lost
	if ids, _ := queued(t, s); ids != "3 " {
		t.Errorf("after a lost acknowledgement: %s", ids)
	}
	meet(t, s, "two", 0, true)
	ids, last := queued(t, s)
	if ids != "1 2 3 " {
		t.Errorf("another database: %s", ids)
	}
	if err := s.Delivered(t.Context(), last, 0, 1); err != nil {
		t.Fatal(err)
	}
	meet(t, s, "two", last-1, true) // restored from a backup
	if ids, _ := queued(t, s); ids != "1 2 3 " {
		t.Errorf("a database that lost writes: %s", ids)
	}
	before, _ := s.Remote(t.Context())
	if err := s.Delivered(t.Context(), last, 0, 1); err != nil {
		t.Fatal(err)
	}
	if stored, err := s.Pulled(t.Context(), Page{Kind: "nodes", Upto: 101, Seq: last}); err != nil || stored {
		t.Errorf("while writes wait: %v, %v", stored, err)
	}
	_, last = queued(t, s)
	if err := s.Delivered(t.Context(), last, 0, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Pulled(t.Context(), Page{Kind: "nodes", Upto: 101, Seq: last}); err != nil {
		t.Fatal(err)
	}
	meet(t, s, "two", last, true)  // its clock of 100 is before what it had shown
	meet(t, s, "two", 1000, false) // this spool is the one restored from a backup
	if after, _ := s.Remote(t.Context()); after.Writer == before.Writer || after.Seq != 0 {
		t.Errorf("an old copy goes on as %+v", after)
	}
	if ids, _ := queued(t, s); ids != "1 2 3 " {
		t.Errorf("an old copy: %s", ids)
	}
}

func TestStoreBecomesSpool(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plain := open(t, dir)
	var want validate.Batch
	for i := range 3 {
		b := kbtest.Batch(i)
		if err := plain.Apply(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		want.Nodes, want.Events = append(want.Nodes, b.Nodes...), append(want.Events, b.Events...)
	}
	var many []tune.Node
	for i := range 2 * pieceSize {
		many = append(many, kbtest.Node(fmt.Sprintf("many%05d", i)))
	}
	if err := plain.UpsertNodes(t.Context(), many); err != nil {
		t.Fatal(err)
	}
	plain.Close()
	s := openSpool(t, dir)
	other := openSpool(t, t.TempDir())
	all, err := s.Next(t.Context(), 1e6, 1e9)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range all {
		if q.Batch.Len() > pieceSize {
			t.Errorf("a queued write of %d things", q.Batch.Len())
		}
		apply(t, other, q.Batch)
	}
	if d := cmp.Diff(content(t, s), content(t, other)); d != "" {
		t.Errorf("what was queued makes another store (-want +got):\n%s", d)
	}
	if n, _ := s.Waiting(t.Context()); n != len(all) || n < 8 {
		t.Errorf("%d wait", n)
	}
}

func content(t *testing.T, s *Spool) (b validate.Batch) {
	t.Helper()
	ctx := t.Context()
	var errs [6]error
	b.Nodes, errs[0] = s.Nodes(ctx)
	b.Edges, errs[1] = s.Edges(ctx)
	b.Traces, errs[2] = s.Traces(ctx, 0)
	b.Rollouts, errs[3] = s.Rollouts(ctx, 0)
	errs[4] = s.EachEdgeEvent(ctx, func(e validate.Event) error { b.Events = append(b.Events, e); return nil })
	errs[5] = s.EachRecommendation(ctx, func(a validate.Advice) error { b.Recommendations = append(b.Recommendations, a); return nil })
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPulled(t *testing.T) {
	t.Parallel()
	s := openSpool(t, t.TempDir())
	pull := func(b validate.Batch, kind string, after, upto int64) (bool, error) {
		r, err := s.Remote(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s.Pulled(t.Context(), Page{Kind: kind, After: after, Upto: upto, Seq: r.Seq, Batch: b})
	}
	apply(t, s, kbtest.Batch(1))
	theirs := validate.Batch{Nodes: []tune.Node{{ID: "a1", Kind: tune.NodeFact, Summary: "theirs"}}}
	if stored, err := pull(theirs, "nodes", 0, 7); stored || err != nil {
		t.Errorf("while own writes wait: %v, %v", stored, err)
	}
	_, last := queued(t, s)
	if err := s.Delivered(t.Context(), last, 0, 1); err != nil {
		t.Fatal(err)
	}
	version, _ := s.GraphVersion(t.Context())
	if stored, err := pull(theirs, "nodes", 0, 7); !stored || err != nil {
		t.Errorf("got %v, %v", stored, err)
	}
	if n, err := s.Node(t.Context(), "a1"); err != nil || n.Summary != "theirs" {
		t.Errorf("got %v, %v", n, err)
	}
	if now, _ := s.GraphVersion(t.Context()); now <= version {
		t.Error("what others changed must make a new version")
	}
	if r, _ := s.Remote(t.Context()); r.Cursors["nodes"] != 7 {
		t.Errorf("cursors %v", r.Cursors)
	}
	if n, _ := s.Waiting(t.Context()); n != 0 {
		t.Error("what was pulled is not to be sent back")
	}
	older := validate.Batch{Nodes: []tune.Node{{ID: "a1", Kind: tune.NodeFact, Summary: "older"}}}
	if stored, err := pull(older, "nodes", 0, 5); stored || err != nil {
		t.Errorf("a page that another process has passed: %v, %v", stored, err)
	}
	if stored, err := s.Pulled(t.Context(), Page{Kind: "nodes", After: 7, Upto: 9, Seq: last - 1, Batch: older}); stored || err != nil {
		t.Errorf("a page read before an own write was delivered: %v, %v", stored, err)
	}
	if n, _ := s.Node(t.Context(), "a1"); n.Summary != "theirs" {
		t.Errorf("an older page replaced a newer copy: %v", n)
	}
	apply(t, s, kbtest.Batch(2))
	_, last = queued(t, s)
	if err := s.Delivered(t.Context(), last, 7, 12); err != nil {
		t.Fatal(err)
	}
	if r, _ := s.Remote(t.Context()); r.Cursors["nodes"] != 12 {
		t.Errorf("own changes 8 to 12 after a copy up to 7: cursors %v", r.Cursors)
	}
	if err := s.Delivered(t.Context(), last, 13, 14); err != nil {
		t.Fatal(err)
	}
	if r, _ := s.Remote(t.Context()); r.Cursors["nodes"] != 12 {
		t.Errorf("change 13 of somebody else was skipped: cursors %v", r.Cursors)
	}
	for name, bad := range map[string]validate.Batch{
		"a bad weight": {Edges: []tune.Edge{kbtest.Edge("a1", tune.Affects, "b1", 7)}},
		"an open end":  {Edges: []tune.Edge{kbtest.Edge("a1", tune.Affects, "nowhere", 0.5)}},
	} {
		if _, err := pull(bad, "edges", 0, 8); !errors.Is(err, tune.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Two machines may each have added half of a circle while apart; the copy must not stop for that.
	if stored, err := pull(validate.Batch{Edges: []tune.Edge{kbtest.Edge("b1", tune.DependsOn, "a1", 1)}}, "edges", 0, 9); !stored || err != nil {
		t.Errorf("a circle: %v, %v", stored, err)
	}
}

func TestFullDiskQueuesNothingHalf(t *testing.T) {
	t.Parallel()
	s := openSpool(t, t.TempDir())
	s.db.SetMaxOpenConns(1) // the limit below holds for one connection
	if _, err := s.db.Exec("PRAGMA max_page_count = 60"); err != nil {
		t.Fatal(err)
	}
	var err error
	saved := 0
	for ; err == nil && saved < 1000; saved++ {
		err = s.Apply(t.Context(), kbtest.Batch(saved))
	}
	if !errors.Is(err, tune.ErrStorage) || !strings.Contains(tune.Hint(err), "full") {
		t.Fatalf("got %v after %d", err, saved)
	}
	if n := wholeWrites(t, s); n != saved-1 {
		t.Errorf("%d whole writes of %d", n, saved-1)
	}
}

// TestOlderSchemaIsMigrated opens a file as the first released schema left it.
func TestOlderSchemaIsMigrated(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fill(t, dir)
	s := open(t, dir)
	for _, q := range []string{"DROP TABLE edge_event", "DROP TABLE edge", "DROP TABLE node", "DROP TABLE trace", "DROP TABLE counter",
		"DROP TABLE outbox", "DROP TABLE remote", "DROP TABLE trial", "PRAGMA user_version = 1"} {
		if _, err := s.db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	now := openSpool(t, dir)
	apply(t, now, kbtest.Batch(100))
	if all, err := now.Rollouts(t.Context(), 0); err != nil || len(all) != 61 {
		t.Errorf("%d rollouts, %v", len(all), err)
	}
}

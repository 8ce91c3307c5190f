package knowledge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"semantos/internal/tune"
	"semantos/kb"
	"semantos/kb/embed"
	"semantos/kb/learn"
	"semantos/kb/recall"
	"semantos/kb/sqlite"
	"semantos/kb/vector"
)

var day = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// clock is set by the test.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func seed(t *testing.T) ([]tune.Node, []tune.Edge) {
	t.Helper()
	c, err := kb.Load(kb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	rules, err := kb.LoadRules(kb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return kb.Seed(c, rules)
}

func open(t *testing.T, dir string, c *clock) (*Knowledge, *sqlite.Store) {
	t.Helper()
	store, err := sqlite.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	e, err := embed.NewStatic()
	if err != nil {
		t.Fatal(err)
	}
	index := func(dim int) (recall.Vectors, error) { return vector.New(vector.Config{Dim: dim, Kind: "auto"}) }
	nodes, edges := seed(t)
	k, err := Open(t.Context(), Config{Store: store, Nodes: nodes, Edges: edges, Embedder: e, Index: index, Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	return k, store
}

func outcome(id string, at time.Time, state tune.State) tune.Trace {
	tr := tune.Trace{ID: id, Time: at, Actor: "uid 0", State: state, Verdict: tune.Pass, Symptoms: []string{"accept_queue_overflow"},
		Facts:   tune.Facts{Num: map[string]float64{"cpus": 2}, Text: map[string]string{}},
		Effect:  &tune.Effect{Metric: "p95_ms", Better: "lower", Ratio: 0.5, Low: 0.4, High: 0.6},
		Changes: []tune.Change{{Tunable: "net.core.somaxconn", Scope: tune.ScopeNetns, Current: "8", Proposed: "4096"}}}
	if state != tune.Committed {
		tr.Verdict, tr.Reason = tune.Fail, tune.ReasonWorse
	}
	return tr
}

func weight(t *testing.T, k *Knowledge, from, to string) float64 {
	t.Helper()
	g, err := k.Graph(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c, err := g.Path(from, to, tune.Relieves, tune.SynergizesWith, tune.ConflictsWith)
	if err != nil || len(c.Edges) != 1 {
		t.Fatalf("path %s to %s: %+v, %v", from, to, c, err)
	}
	return c.Strength
}

// TestLearnsOnceForgetsSlowly: outcomes move the edge they speak about, once each, survive a restart,
// and fade to the seed.
func TestLearnsOnceForgetsSlowly(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), &clock{at: day}
	k, store := open(t, dir, c)
	const symptom, tunable = "accept_queue_overflow", "socket/listen_backlog"
	before := weight(t, k, symptom, tunable)
	for i := range 20 {
		o := outcome(fmt.Sprint("r", i), day, tune.RolledBack)
		o.Changes[0].Tunable = tunable
		for twice := range 2 {
			learned, err := k.Learn(t.Context(), o)
			if err != nil || learned != (twice == 0) {
				t.Fatalf("outcome %d, time %d: learned %v, %v", i, twice+1, learned, err)
			}
		}
	}
	after := weight(t, k, symptom, tunable)
	if want := before * 8 / 28; math.Abs(after-want) > 1e-9 {
		t.Errorf("20 failures move the weight from %.3f to %.3f, want %.3f", before, after, want)
	}
	history, err := k.History(t.Context(), symptom, tune.Relieves, tunable)
	if err != nil || len(history) != 20 || history[19].Evidence != 20 || history[0].Trace != "r0" {
		t.Errorf("history %d lines, %v", len(history), err)
	}
	store.Close()
	c.at = day.AddDate(0, 0, 365)
	again, _ := open(t, dir, c)
	faded := weight(t, again, symptom, tunable)
	if faded <= after || math.Abs(faded-before) > 0.01 {
		t.Errorf("a year later the weight is %.4f; it was %.3f, the seed is %.3f", faded, after, before)
	}
}

// TestLearnFromTheFuture: an outcome dated ten years ahead moves its edge as of now.
func TestLearnFromTheFuture(t *testing.T) {
	t.Parallel()
	k, store := open(t, t.TempDir(), &clock{at: day})
	for i, at := range []time.Time{day, day.AddDate(10, 0, 0)} {
		if _, err := k.Learn(t.Context(), outcome(fmt.Sprint("r", i), at, tune.Committed)); err != nil {
			t.Fatal(err)
		}
	}
	edges, err := store.Edges(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(edges, func(e tune.Edge) bool { return e.From == "accept_queue_overflow" && e.To == "net.core.somaxconn" })
	if e := edges[i]; !e.Updated.Equal(day) || e.Evidence != 2 {
		t.Errorf("the edge is %+v", e)
	}
}

// TestStartChangesNothing: a second start writes nothing, and a changed seed keeps what was learned.
func TestStartChangesNothing(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), &clock{at: day}
	k, store := open(t, dir, c)
	if _, err := k.Learn(t.Context(), outcome("r", day, tune.Committed)); err != nil {
		t.Fatal(err)
	}
	version, err := store.GraphVersion(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), k.cfg); err != nil {
		t.Fatal(err)
	}
	if v, _ := store.GraphVersion(t.Context()); v != version {
		t.Errorf("a second start moved the graph's version from %d to %d", version, v)
	}
	cfg := k.cfg
	cfg.Edges = slices.Clone(cfg.Edges)
	i := slices.IndexFunc(cfg.Edges, func(e tune.Edge) bool { return e.From == "accept_queue_overflow" && e.To == "net.core.somaxconn" })
	cfg.Edges[i].Seed, cfg.Edges[i].Why = 0.5, "another reason"
	if _, err := Open(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	edges, err := store.Edges(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i = slices.IndexFunc(edges, func(e tune.Edge) bool { return e.From == "accept_queue_overflow" && e.To == "net.core.somaxconn" })
	if e := edges[i]; e.Seed != 0.5 || e.Evidence != 1 || e.Why != "another reason" {
		t.Errorf("after a new seed the edge is %+v", e)
	}
}

// away is a store that fails on demand.
type away struct {
	Store
	gone bool
}

func (a *away) GraphVersion(ctx context.Context) (int64, error) {
	if a.gone {
		return 0, tune.ErrStorage
	}
	return a.Store.GraphVersion(ctx)
}

func TestStoreGone(t *testing.T) {
	t.Parallel()
	k, store := open(t, t.TempDir(), &clock{at: day})
	a := &away{Store: store}
	k.cfg.Store = a
	a.gone = true
	if g, err := k.Graph(t.Context()); err != nil || g.Nodes() == 0 {
		t.Errorf("with the store gone: %v", err)
	}
	k.graph = nil
	if _, err := k.Graph(t.Context()); !errors.Is(err, tune.ErrStorage) {
		t.Errorf("with nothing known: %v", err)
	}
}

func TestRemember(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), &clock{at: day}
	k, _ := open(t, dir, c)
	for i, state := range []tune.State{tune.Committed, tune.RolledBack} {
		if _, err := k.Learn(t.Context(), outcome(fmt.Sprint("r", i), day, state)); err != nil {
			t.Fatal(err)
		}
	}
	again, _ := open(t, dir, c)
	if err := again.Remember(t.Context()); err != nil {
		t.Fatal(err)
	}
	q := recall.Query{Symptoms: []string{"accept_queue_overflow"}, Facts: tune.Facts{Num: map[string]float64{"cpus": 2}}}
	hits, err := again.Retrieve(t.Context(), q, 5)
	if err != nil || len(hits) != 2 || hits[0].Trace.Effect == nil {
		t.Errorf("after a restart %d hits, %v", len(hits), err)
	}
}

// sweep measures one pair whose joint effect is the factor away from the product of the single ones.
func sweep(a, b string, factor float64) learn.Sweep {
	s := learn.Sweep{Metric: "p95_ms", Better: "lower"}
	for i := range 8 {
		jitter := 1 + 0.01*float64(i%4)
		s.Runs = append(s.Runs, learn.Run{Value: 10 * jitter}, learn.Run{On: []string{a}, Value: 8 * jitter},
			learn.Run{On: []string{b}, Value: 9 * jitter}, learn.Run{On: []string{a, b}, Value: 7.2 * factor * jitter})
	}
	return s
}

func TestInduceKeepsAndRetires(t *testing.T) {
	t.Parallel()
	c := &clock{at: day}
	k, store := open(t, t.TempDir(), c)
	const a, b = "vm.page-cluster", "net.core.somaxconn"
	find := func(kind tune.EdgeType) (tune.Edge, bool) {
		edges, err := store.Edges(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(edges, func(e tune.Edge) bool {
			return e.Type == kind && cmp.Or(cmp.Compare(e.From, b), cmp.Compare(e.To, a)) == 0
		})
		if i < 0 {
			return tune.Edge{}, false
		}
		return edges[i], true
	}
	if _, err := k.Induce(t.Context(), sweep(a, b, 0.5), learn.Options{Resamples: 300}, "sweep one"); err != nil {
		t.Fatal(err)
	}
	together, ok := find(tune.SynergizesWith)
	if !ok || together.Evidence != 8 || together.Documented || together.Weight <= 0 || together.Weight >= 1 {
		t.Fatalf("the proven synergy is %+v, %v", together, ok)
	}
	if _, err := k.Induce(t.Context(), sweep(a, b, 0.5), learn.Options{Resamples: 300}, "sweep one"); err != nil {
		t.Fatal(err)
	}
	if e, _ := find(tune.SynergizesWith); e != together {
		t.Errorf("the same sweep, given again, made it %+v", e)
	}
	if _, err := k.Induce(t.Context(), sweep(a, b, 1), learn.Options{Resamples: 300}, "sweep two"); err != nil {
		t.Fatal(err)
	}
	if e, _ := find(tune.SynergizesWith); e.Retired || e != together {
		t.Errorf("a sweep without interaction changed it: %+v", e)
	}
	if _, err := k.Induce(t.Context(), sweep(a, b, 2), learn.Options{Resamples: 300}, "sweep three"); err != nil {
		t.Fatal(err)
	}
	if e, _ := find(tune.SynergizesWith); !e.Retired {
		t.Error("a sweep that proves a conflict does not retire the synergy")
	}
	if e, ok := find(tune.ConflictsWith); !ok || e.Sign != -1 {
		t.Errorf("the conflict is %+v, %v", e, ok)
	}
	if _, err := k.Induce(t.Context(), sweep("no.such", b, 2), learn.Options{Resamples: 300}, "x"); !errors.Is(err, tune.ErrUnknown) {
		t.Errorf("a sweep of an unknown tunable gives %v", err)
	}
}

package knowledge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"semantos/internal/tune"
	"semantos/kb/embed"
	"semantos/kb/graph"
	"semantos/kb/learn"
	"semantos/kb/recall"
	"semantos/kb/validate"
)

// Store is what knowledge is kept in (kb/sqlite, kb/neo4j).
type Store interface {
	Nodes(ctx context.Context) ([]tune.Node, error)
	Edges(ctx context.Context) ([]tune.Edge, error)
	GraphVersion(ctx context.Context) (int64, error)
	EdgeHistory(ctx context.Context, from string, typ tune.EdgeType, to string) ([]tune.EdgeEvent, error)
	Trace(ctx context.Context, id string) (tune.Trace, error)
	EachTrace(ctx context.Context, yield func(tune.Trace) error) error
	Apply(ctx context.Context, b validate.Batch) error
}

// Config of a Knowledge. Nodes and Edges are the seed. Without an Embedder nothing is recalled;
// Index makes its vector index.
type Config struct {
	Store    Store
	Nodes    []tune.Node
	Edges    []tune.Edge
	Embedder embed.Embedder
	Index    func(dim int) (recall.Vectors, error)
	Now      func() time.Time
}

// Knowledge is safe for concurrent use.
type Knowledge struct {
	cfg    Config
	memory *recall.Memory

	mu      sync.Mutex
	graph   *graph.Graph
	edges   []tune.Edge // as stored
	version int64
	day     int64 // the graph's weights are those of this day

	learning sync.Mutex // one outcome at a time: it reads, then writes
}

// Open brings the seed into the store and reads the graph. What the store has learned of a seeded edge
// stays; the seed's own weight, reason and source follow the catalogue.
func Open(ctx context.Context, cfg Config) (*Knowledge, error) {
	k := &Knowledge{cfg: cfg, version: -1}
	if err := k.plant(ctx); err != nil {
		return nil, fmt.Errorf("bring the seed into the store: %w", err)
	}
	if cfg.Embedder != nil {
		k.memory = recall.New(recall.Config{Embedder: cfg.Embedder, Index: cfg.Index, Load: cfg.Store.Trace, Near: k.near})
	}
	_, err := k.Graph(ctx)
	return k, err
}

type edgeKey struct {
	from string
	kind tune.EdgeType
	to   string
}

func keyOf(e tune.Edge) edgeKey { return edgeKey{e.From, e.Type, e.To} }

// Join gives what holds when a store's nodes and edges meet a seed: the seed describes its own nodes and
// says weight, reason and source of its own edges; what was learned of them, and everything else in the
// store, stays.
func Join(nodes []tune.Node, edges []tune.Edge, storedNodes []tune.Node, storedEdges []tune.Edge) ([]tune.Node, []tune.Edge) {
	known := make(map[string]bool, len(nodes))
	outNodes := slices.Clone(nodes)
	for _, n := range nodes {
		known[n.ID] = true
	}
	for _, n := range storedNodes {
		if !known[n.ID] {
			outNodes = append(outNodes, n)
		}
	}
	stored := make(map[edgeKey]tune.Edge, len(storedEdges))
	for _, e := range storedEdges {
		stored[keyOf(e)] = e
	}
	outEdges := make([]tune.Edge, 0, len(edges)+len(storedEdges))
	for _, e := range edges {
		if old, ok := stored[keyOf(e)]; ok {
			delete(stored, keyOf(e))
			e.Evidence, e.Learned, e.Updated, e.Retired = old.Evidence, old.Learned, old.Updated, old.Retired
			e.Weight = graph.WeightAt(e, e.Updated)
		}
		outEdges = append(outEdges, e)
	}
	for _, e := range storedEdges {
		if _, ok := stored[keyOf(e)]; ok {
			outEdges = append(outEdges, e)
		}
	}
	return outNodes, outEdges
}

// plant writes only what differs, so that a start changes nothing where nothing changed.
func (k *Knowledge) plant(ctx context.Context) error {
	storedNodes, err := k.cfg.Store.Nodes(ctx)
	if err != nil {
		return err
	}
	storedEdges, err := k.cfg.Store.Edges(ctx)
	if err != nil {
		return err
	}
	nodes, edges := Join(k.cfg.Nodes, k.cfg.Edges, storedNodes, storedEdges)
	var b validate.Batch
	haveNodes := make(map[tune.Node]bool, len(storedNodes))
	for _, n := range storedNodes {
		haveNodes[n] = true
	}
	for _, n := range nodes {
		if !haveNodes[n] {
			b.Nodes = append(b.Nodes, n)
		}
	}
	haveEdges := make(map[tune.Edge]bool, len(storedEdges))
	for _, e := range storedEdges {
		haveEdges[e] = true
	}
	for _, e := range edges {
		if !haveEdges[e] {
			b.Edges = append(b.Edges, e)
		}
	}
	if b.Empty() {
		return nil
	}
	return k.cfg.Store.Apply(ctx, b)
}

// Graph gives the graph as of today; it is read again when the store's version has changed. When the
// store cannot be read the last known graph is given, with no error.
func (k *Knowledge) Graph(ctx context.Context) (*graph.Graph, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.cfg.Now()
	day := now.Unix() / 86400
	version, err := k.cfg.Store.GraphVersion(ctx)
	if err == nil && version == k.version && day == k.day {
		return k.graph, nil
	}
	if err == nil {
		err = k.read(ctx, now)
	}
	if err != nil {
		if k.graph != nil {
			return k.graph, nil
		}
		return nil, fmt.Errorf("read graph: %w", err)
	}
	k.version, k.day = version, day
	return k.graph, nil
}

func (k *Knowledge) read(ctx context.Context, now time.Time) error {
	nodes, err := k.cfg.Store.Nodes(ctx)
	if err != nil {
		return err
	}
	edges, err := k.cfg.Store.Edges(ctx)
	if err != nil {
		return err
	}
	g, err := graph.New(nodes, edges, now)
	if err != nil {
		return err
	}
	k.graph, k.edges = g, edges
	return nil
}

// near gives the tunables within two edges of a symptom.
func (k *Knowledge) near(symptom string) map[string]float64 {
	k.mu.Lock()
	g := k.graph
	k.mu.Unlock()
	if g == nil {
		return nil
	}
	reached, err := g.Neighborhood(symptom, graph.Around{Depth: 2, Limit: 32})
	if err != nil {
		return nil // a symptom the graph does not know has nothing near
	}
	out := map[string]float64{}
	for _, r := range reached {
		if r.Node.Kind == tune.NodeTunable {
			out[r.Node.ID] = r.Strength
		}
	}
	return out
}

// Learn keeps an outcome and moves the edges it speaks about, all in one write; an outcome that is known
// already changes nothing and says so.
func (k *Knowledge) Learn(ctx context.Context, t tune.Trace) (learned bool, err error) {
	k.learning.Lock()
	defer k.learning.Unlock()
	_, err = k.cfg.Store.Trace(ctx, t.ID)
	switch {
	case err == nil:
		return false, nil
	case !errors.Is(err, tune.ErrUnknown):
		return false, fmt.Errorf("learn from %s: %w", t.ID, err)
	}
	if t.Text == "" {
		t.Text = recall.Text(t)
	}
	b := validate.Batch{Traces: []tune.Trace{t}}
	edges, err := k.cfg.Store.Edges(ctx)
	if err != nil {
		return false, fmt.Errorf("learn from %s: %w", t.ID, err)
	}
	stored := make(map[edgeKey]tune.Edge, len(edges))
	for _, e := range edges {
		stored[keyOf(e)] = e
	}
	// An outcome dated after now would stop what is known from fading until then.
	at := t.Time
	if now := k.cfg.Now(); at.After(now) {
		at = now
	}
	for _, o := range learn.Observe(t, edges) {
		e, event, err := learn.Apply(stored[edgeKey{o.From, o.Type, o.To}], o, t.ID, at)
		if err != nil {
			return false, fmt.Errorf("learn from %s: %w", t.ID, err)
		}
		b.Edges = append(b.Edges, e)
		b.Events = append(b.Events, validate.Event{From: o.From, Type: o.Type, To: o.To, Event: event})
	}
	if err := k.cfg.Store.Apply(ctx, b); err != nil {
		return false, fmt.Errorf("learn from %s: %w", t.ID, err)
	}
	if k.memory != nil {
		// The outcome is kept; an index that cannot take it is rebuilt at the next start.
		_ = k.memory.Add(ctx, t)
	}
	return true, nil
}

// Induce keeps the interactions a sweep proves as edges, and retires learned ones of the same pair that
// it contradicts. Documented edges stand.
func (k *Knowledge) Induce(ctx context.Context, s learn.Sweep, o learn.Options, source string) ([]learn.Finding, error) {
	k.learning.Lock()
	defer k.learning.Unlock()
	found, err := learn.Induce(s, o)
	if err != nil {
		return nil, err
	}
	edges, err := k.cfg.Store.Edges(ctx)
	if err != nil {
		return nil, fmt.Errorf("induce edges: %w", err)
	}
	now := k.cfg.Now()
	var b validate.Batch
	for _, f := range found {
		kept := f.Edge(source)
		if f.Kept && k.told(ctx, edges, kept) {
			continue // the same sweep, given again, proves nothing more
		}
		if f.Kept {
			e := merged(edges, kept, float64(f.Runs), now)
			b.Edges = append(b.Edges, e)
			b.Events = append(b.Events, validate.Event{From: e.From, Type: e.Type, To: e.To, Event: tune.EdgeEvent{
				At: now, Observed: kept.Seed, Count: float64(f.Runs), Weight: e.Weight, Evidence: e.Evidence, Why: kept.Why}})
		}
		for _, e := range contradicted(edges, f) {
			e.Retired, e.Updated = true, now
			b.Edges = append(b.Edges, e)
			b.Events = append(b.Events, validate.Event{From: e.From, Type: e.Type, To: e.To, Event: tune.EdgeEvent{
				At: now, Count: float64(f.Runs), Weight: e.Weight, Evidence: e.Evidence,
				Why: "retired: a sweep proved the opposite, " + kept.Why}})
		}
	}
	if b.Empty() {
		return found, nil
	}
	if err := k.cfg.Store.Apply(ctx, b); err != nil {
		return nil, fmt.Errorf("keep induced edges: %w", err)
	}
	return found, nil
}

// told looks in the history of an induced edge, of either direction, for the very same finding.
func (k *Knowledge) told(ctx context.Context, edges []tune.Edge, induced tune.Edge) bool {
	for _, e := range edges {
		if e.Type != induced.Type || !samePair(e, induced) {
			continue
		}
		history, err := k.cfg.Store.EdgeHistory(ctx, e.From, e.Type, e.To)
		if err == nil && slices.ContainsFunc(history, func(x tune.EdgeEvent) bool { return x.Why == induced.Why }) {
			return true
		}
	}
	return false
}

func samePair(a, b tune.Edge) bool {
	return a.From == b.From && a.To == b.To || a.From == b.To && a.To == b.From
}

// merged is the induced edge, or the known one of either direction moved by it.
func merged(edges []tune.Edge, induced tune.Edge, runs float64, now time.Time) tune.Edge {
	for _, e := range edges {
		if e.Type != induced.Type || !samePair(e, induced) {
			continue
		}
		e.Retired = false
		e, _, err := learn.Apply(e, learn.Observation{From: e.From, Type: e.Type, To: e.To, Value: induced.Seed, Count: runs}, "", now)
		if err == nil {
			return e
		}
	}
	induced.Evidence, induced.Updated = runs, now
	// A learned edge decays to nothing: no document stands behind it.
	induced.Learned, induced.Seed = induced.Seed, 0
	induced.Weight = graph.WeightAt(induced, now)
	return induced
}

// contradicted are the live, undocumented edges of the pair that say the opposite of a kept finding.
func contradicted(edges []tune.Edge, f learn.Finding) []tune.Edge {
	if !f.Kept {
		return nil
	}
	opposite := tune.ConflictsWith
	if f.Interaction < 0 {
		opposite = tune.SynergizesWith
	}
	var out []tune.Edge
	for _, e := range edges {
		pair := []string{e.From, e.To}
		if e.Type == opposite && !e.Documented && !e.Retired && slices.Contains(pair, f.A) && slices.Contains(pair, f.B) {
			out = append(out, e)
		}
	}
	return out
}

// History gives what an edge was learned from, oldest first.
func (k *Knowledge) History(ctx context.Context, from string, typ tune.EdgeType, to string) ([]tune.EdgeEvent, error) {
	return k.cfg.Store.EdgeHistory(ctx, from, typ, to)
}

// Remember reads every stored trace into the memory, one at a time: a hundred thousand at once would be
// most of the process. It may run beside everything else.
func (k *Knowledge) Remember(ctx context.Context) error {
	if k.memory == nil {
		return nil
	}
	var missed error
	err := k.cfg.Store.EachTrace(ctx, func(t tune.Trace) error {
		if err := k.memory.Add(ctx, t); missed == nil {
			missed = err // one of many alike
		}
		return ctx.Err()
	})
	k.memory.Sort() // the store gives the newest first
	if err != nil {
		return fmt.Errorf("read traces: %w", err)
	}
	return missed
}

// Retrieve gives the past outcomes that say most about a case; none when nothing is remembered.
func (k *Knowledge) Retrieve(ctx context.Context, q recall.Query, n int) ([]recall.Hit, error) {
	if k.memory == nil {
		return []recall.Hit{}, nil
	}
	if q.At.IsZero() {
		q.At = k.cfg.Now()
	}
	return k.memory.Retrieve(ctx, q, n)
}

package cli

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"sync"
	"time"

	"semantos/console"
	"semantos/internal/tune"
	"semantos/kb/graph"
	"semantos/kb/learn"
	"semantos/kb/recall"
	"semantos/kb/retrieve"
)

// knows is serve's side of the /kb routes.
type knows struct{ *server }

// finder keeps the search index of the newest graph. It is made when somebody searches: most serves are
// never asked, and it is some megabytes.
type finder struct {
	mu    sync.Mutex
	of    *graph.Graph
	index *retrieve.Index
}

func (f *finder) find(ctx context.Context, a *app, l *live) (*retrieve.Index, error) {
	g, err := l.know.Graph(ctx)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.index == nil || f.of != g {
		index, err := a.searchIndex(ctx, l.rooms, g)
		if err != nil {
			return nil, err
		}
		f.of, f.index = g, index
	}
	return f.index, nil
}

func (k knows) about(op string) (*live, error) {
	if l := k.ready(); l != nil {
		return l, nil
	}
	return nil, starting(op)
}

// Search answers from an index of the graph as it is now.
func (k knows) Search(ctx context.Context, req console.SearchRequest) ([]console.SearchHit, error) {
	l, err := k.about("search")
	if err != nil {
		return nil, err
	}
	by, err := readRanker(req.By)
	if err != nil {
		return nil, err
	}
	index, err := l.find.find(ctx, k.app, l)
	if err != nil {
		return nil, err
	}
	found, err := index.SearchBy(ctx, by, req.Text, cmp.Or(req.Limit, 10))
	if err != nil {
		return nil, err
	}
	hits := make([]console.SearchHit, len(found))
	for i, h := range found {
		hits[i] = console.SearchHit{Kind: h.Kind, Name: h.ID, Score: h.Score, Why: h.Why}
	}
	return hits, nil
}

// Neighborhood answers as kb neighborhood does.
func (k knows) Neighborhood(ctx context.Context, req console.NeighborhoodRequest) (console.Neighborhood, error) {
	l, err := k.about("look around")
	if err != nil {
		return console.Neighborhood{}, err
	}
	g, err := l.know.Graph(ctx)
	if err != nil {
		return console.Neighborhood{}, err
	}
	types, err := readEdgeTypes(req.Types)
	if err != nil {
		return console.Neighborhood{}, err
	}
	around := graph.Around{Depth: 1, Types: types, Limit: cmp.Or(req.Limit, 50)}
	if req.Depth != nil {
		around.Depth = *req.Depth
	}
	doc, err := l.rooms.around(g, req.Node, around)
	if err != nil {
		return console.Neighborhood{}, err
	}
	out := console.Neighborhood{Node: doc.Node, Edges: doc.Edges}
	for _, n := range doc.Reached {
		out.Reached = append(out.Reached, console.Reached{Node: n.Node, Depth: n.Depth, Strength: n.Strength, Edge: n.Edge})
	}
	return out, nil
}

// Path answers as kb path does.
func (k knows) Path(ctx context.Context, req console.PathRequest) (console.Path, error) {
	l, err := k.about("look for a chain")
	if err != nil {
		return console.Path{}, err
	}
	g, err := l.know.Graph(ctx)
	if err != nil {
		return console.Path{}, err
	}
	types, err := readEdgeTypes(req.Types)
	if err != nil {
		return console.Path{}, err
	}
	chain, err := l.rooms.chain(g, req.From, req.To, types)
	return console.Path{Edges: chain.Edges, Strength: chain.Strength}, err
}

// Decay reads the edges with evidence as of a later moment.
func (k knows) Decay(ctx context.Context, req console.DecayRequest) (console.Decay, error) {
	l, err := k.about("show decay")
	if err != nil {
		return console.Decay{}, err
	}
	now := k.app.now()
	at := now
	if req.At != nil {
		at = *req.At
	}
	if at.Before(now.Add(-time.Minute)) || at.Year() > 2200 {
		return console.Decay{}, &tune.Error{Op: "show decay", Subject: at.Format(time.RFC3339), Err: wrapf(tune.ErrOutOfRange, "out of range: it is past, or after 2200"),
			Hint: "semantos kb show FROM TYPE TO has what an edge was"}
	}
	edges, err := l.know.Learned(ctx)
	if err != nil {
		return console.Decay{}, err
	}
	doc := console.Decay{Now: now, At: at}
	for _, e := range edges {
		doc.Edges = append(doc.Edges, console.DecayedEdge{From: e.From, Type: e.Type, To: e.To, Seed: e.Seed, Documented: e.Documented,
			EvidenceNow: graph.EvidenceAt(e, now), WeightNow: graph.WeightAt(e, now),
			EvidenceAt: graph.EvidenceAt(e, at), WeightAt: graph.WeightAt(e, at)})
	}
	return doc, nil
}

// UpsertTunable adds a node of knowledge; the catalogue, which alone says what can be written, is not touched.
func (k knows) UpsertTunable(ctx context.Context, req console.TunableRequest) (tune.Node, error) {
	l, err := k.about("store node")
	if err != nil {
		return tune.Node{}, err
	}
	n := tune.Node{ID: l.rooms.nodeName(req.Name), Kind: tune.NodeTunable, Summary: req.Summary, Source: req.Source}
	return l.know.UpsertNode(ctx, n, req.Actor)
}

// UpsertEdge adds an edge on a person's word.
func (k knows) UpsertEdge(ctx context.Context, req console.EdgeRequest) (tune.Edge, error) {
	l, err := k.about("store edge")
	if err != nil {
		return tune.Edge{}, err
	}
	e := tune.Edge{From: l.rooms.nodeName(req.From), Type: tune.EdgeType(req.Type), To: l.rooms.nodeName(req.To),
		Sign: req.Sign, Weight: *req.Weight, Why: req.Why, Source: req.Source}
	if e.Sign == 0 {
		e.Sign = 1
		if e.Type == tune.ConflictsWith {
			e.Sign = -1
		}
	}
	return l.know.UpsertEdge(ctx, e, req.Actor)
}

// Induce keeps what a sweep proves.
func (k knows) Induce(ctx context.Context, req console.InduceRequest) ([]console.Finding, error) {
	l, err := k.about("induce edges")
	if err != nil {
		return nil, err
	}
	sweep := learn.Sweep{Metric: req.Metric, Better: req.Better}
	for _, run := range req.Runs {
		sweep.Runs = append(sweep.Runs, learn.Run{On: run.On, Value: run.Value})
	}
	if err := l.rooms.nameRuns(sweep); err != nil {
		return nil, err
	}
	found, err := l.know.Induce(ctx, sweep, learn.Options{}, cmp.Or(req.Source, "sweep of "+req.Metric)+", brought by "+req.Actor)
	if err != nil {
		return nil, err
	}
	out := make([]console.Finding, len(found))
	for i, f := range found {
		out[i] = console.Finding(f)
	}
	return out, nil
}

// UpsertTrace keeps an outcome from outside, once.
func (k knows) UpsertTrace(ctx context.Context, req console.TraceRequest) (console.TraceResult, error) {
	l, err := k.about("store trace")
	if err != nil {
		return console.TraceResult{}, err
	}
	g, err := l.know.Graph(ctx)
	if err != nil {
		return console.TraceResult{}, err
	}
	t, err := l.rooms.outsideTrace(g, req, k.app.now())
	if err != nil {
		return console.TraceResult{}, err
	}
	learned, err := l.know.Learn(ctx, t)
	return console.TraceResult{ID: t.ID, Learned: learned}, err
}

// outsideTrace checks what somebody sent and fills in what this host knows. The names in it must be known.
func (r *rooms) outsideTrace(g *graph.Graph, req console.TraceRequest, now time.Time) (tune.Trace, error) {
	t := tune.Trace{ID: req.ID, Time: req.Time, Actor: req.Actor, BootID: req.BootID, Facts: r.facts, Workload: req.Workload,
		Symptoms: req.Symptoms, Before: req.Before, After: req.After, Effect: req.Effect, Verdict: cmp.Or(req.Verdict, tune.Inconclusive),
		State: req.State, Reason: req.Reason, U: req.U}
	if err := checkOutcome(t, now); err != nil {
		return t, err
	}
	for _, name := range req.Symptoms {
		if n, ok := g.Node(name); !ok || n.Kind != tune.NodeSymptom {
			return t, &tune.Error{Op: "store trace", Subject: fmt.Sprintf("%q", name), Err: wrapf(tune.ErrUnknown, "no symptom is called so"),
				Hint: "docs/rules.md lists the symptoms"}
		}
	}
	for _, c := range req.Changes {
		change := tune.Change{Tunable: r.nodeName(c.Tunable), Target: c.Target, Current: tune.Value(c.Current), Proposed: tune.Value(c.Proposed)}
		if known, _, err := r.cat.Lookup(c.Tunable); err == nil {
			change.Scope, change.TakesEffect = known.Scope, known.TakesEffect
		} else if n, ok := g.Node(c.Tunable); !ok || n.Kind != tune.NodeTunable {
			return t, err
		}
		t.Changes = append(t.Changes, change)
	}
	if t.ID == "" {
		content, err := json.Marshal(req) // without a time it is the same whenever it is sent
		if err != nil {
			return t, fmt.Errorf("name the outcome: %w", err)
		}
		sum := sha256.Sum256(content)
		t.ID = "outside-" + hex.EncodeToString(sum[:8])
	}
	if req.Facts != nil {
		t.Facts = *req.Facts
	}
	if t.Time.IsZero() {
		t.Time = now
	}
	t.Text = recall.Text(t)
	return t, nil
}

// checkOutcome refuses words and numbers that no outcome can have.
func checkOutcome(t tune.Trace, now time.Time) error {
	bad := func(err error, what any, hint string) error {
		return &tune.Error{Op: "store trace", Subject: fmt.Sprintf("%q", fmt.Sprint(what)), Err: err, Hint: hint}
	}
	switch t.State {
	case tune.Committed, tune.RolledBack, tune.Vetoed:
	default:
		return bad(wrapf(tune.ErrUsage, "no outcome has this state"), t.State, "give committed, rolled_back or vetoed")
	}
	switch t.Verdict {
	case tune.Pass, tune.Fail, tune.Inconclusive:
	default:
		return bad(wrapf(tune.ErrUsage, "no such verdict"), t.Verdict, "give pass, fail or inconclusive")
	}
	if t.Time.After(now.Add(time.Minute)) {
		return bad(wrapf(tune.ErrOutOfRange, "it has not happened yet"), t.Time.Format(time.RFC3339), "give the time the outcome was known")
	}
	e := t.Effect
	if e == nil {
		return nil
	}
	if e.Metric == "" || e.Better != "lower" && e.Better != "higher" {
		return bad(wrapf(tune.ErrUsage, "the effect names no metric, or not what is better of it"), e.Metric, "give metric, and better as lower or higher")
	}
	if !(0 < e.Low && e.Low <= e.Ratio && e.Ratio <= e.High) || math.IsInf(e.High, 0) {
		return bad(wrapf(tune.ErrOutOfRange, "the ratio %v is not within its interval %v to %v above 0", e.Ratio, e.Low, e.High), e.Metric,
			"ratio is treated over untreated, low and high its interval")
	}
	return nil
}

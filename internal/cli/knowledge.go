package cli

import (
	"context"
	"math"
	"time"

	"semantos/internal/tune"
	"semantos/kb"
	"semantos/kb/embed"
	"semantos/kb/graph"
	"semantos/kb/knowledge"
	"semantos/kb/recall"
	"semantos/kb/vector"
	"semantos/telemetry"
)

// seed is the graph as catalogue and rules tell it, with every signal telemetry delivers as a node, so
// that a name a person read elsewhere is known.
func (r *rooms) seed() ([]tune.Node, []tune.Edge) {
	nodes, edges := kb.Seed(r.cat, r.rules)
	known := make(map[string]bool, len(nodes))
	for _, n := range nodes {
		known[n.ID] = true
	}
	for _, s := range telemetry.Signals() {
		if !known[s.Name] {
			known[s.Name] = true
			nodes = append(nodes, tune.Node{ID: s.Name, Kind: tune.NodeSignal, Summary: s.Help, Source: s.Source})
		}
	}
	return nodes, edges
}

// openKnowledge joins the seed with what the store has learned. With recall it also remembers past
// outcomes, which costs an embedding each; reading them runs beside everything else.
func (a *app) openKnowledge(ctx context.Context, r *rooms, store knowledge.Store, remember bool) (*knowledge.Knowledge, error) {
	cfg := knowledge.Config{Store: store, Now: a.now}
	cfg.Nodes, cfg.Edges = r.seed()
	if remember {
		e, err := a.embedder()
		if err != nil {
			return nil, err
		}
		cfg.Embedder = e
		cfg.Index = func(dim int) (recall.Vectors, error) { return vector.New(vector.Config{Dim: dim, Kind: "auto"}) }
	}
	k, err := knowledge.Open(ctx, cfg)
	if err != nil || !remember {
		return k, err
	}
	// Outcomes that cannot be remembered are missing from retrieval, not from the store.
	go func() { _ = k.Remember(ctx) }()
	return k, nil
}

// embedder is the table in the binary, or the service that is configured.
func (a *app) embedder() (embed.Embedder, error) {
	switch {
	case a.cfg.OllamaEmbedModel != "":
		return embed.NewOllama(embed.Config{URL: a.cfg.OllamaHost, Model: a.cfg.OllamaEmbedModel})
	case a.cfg.OpenAIEmbedModel != "":
		return embed.NewOpenAI(embed.Config{URL: a.cfg.OpenAIBaseURL, Model: a.cfg.OpenAIEmbedModel, Key: a.cfg.OpenAIKey})
	}
	return embed.NewStatic()
}

// openGraph reads the graph as of now for a command that only looks.
func (a *app) openGraph(ctx context.Context) (*rooms, *graph.Graph, error) {
	r, err := a.openRooms()
	if err != nil {
		return nil, nil, err
	}
	s, err := a.openHistory(ctx)
	if err != nil {
		return nil, nil, err
	}
	g, err := a.joinedGraph(ctx, r, s)
	return r, g, err
}

// joinedGraph is the seed, joined with what a store has learned when there is one. It writes nothing.
func (a *app) joinedGraph(ctx context.Context, r *rooms, s store) (*graph.Graph, error) {
	nodes, edges := r.seed()
	if s != nil {
		storedNodes, err := s.Nodes(ctx)
		if err != nil {
			return nil, err
		}
		storedEdges, err := s.Edges(ctx)
		if err != nil {
			return nil, err
		}
		nodes, edges = knowledge.Join(nodes, edges, storedNodes, storedEdges)
	}
	return graph.New(nodes, edges, a.now())
}

// scene is what a glance at the host gave: its signals, and the kind of work the busiest process does.
type scene struct {
	signals  map[string]float64
	workload string
}

// traceOf makes the trace of a finished rollout.
func traceOf(r tune.Rollout, f tune.Facts, before, after scene) tune.Trace {
	t := tune.Trace{ID: r.ID, Time: r.Ended, Actor: r.Actor, BootID: r.BootID, Facts: f, Workload: before.workload, Symptoms: []string{},
		Before: before.signals, After: after.signals, Changes: r.Recommendation.Changes, Effect: r.Effect, State: r.State,
		Reason: r.Reason, U: r.Recommendation.Uncertainty}
	if t.Time.IsZero() {
		t.Time = r.Started
	}
	if s := r.Recommendation.Provenance.Symptom; s != "" {
		t.Symptoms = append(t.Symptoms, s)
	}
	t.Verdict = tune.Inconclusive
	if n := len(r.Stages); n > 0 {
		t.Verdict = r.Stages[n-1].Verdict
	}
	t.Text = recall.Text(t)
	return t
}

// glanceTime is how long the host is looked at before and after a trial.
const glanceTime = time.Second

// glance looks at the host for a moment; nothing when it cannot.
func glance(ctx context.Context, sampler windows) scene {
	sampler.Reset()
	if sampler.Tick(ctx) != nil {
		return scene{}
	}
	select {
	case <-ctx.Done():
		return scene{}
	case <-time.After(glanceTime):
	}
	if sampler.Tick(ctx) != nil {
		return scene{}
	}
	snap := sampler.Snapshot()
	out := scene{signals: map[string]float64{}}
	for name, v := range snap.Signals {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			out.signals[name] = v
		}
	}
	if len(snap.Workloads) > 0 {
		out.workload = snap.Workloads[0].Kind
	}
	return out
}

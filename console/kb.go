package console

import (
	"context"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"semantos/internal/tune"
)

// Knowing answers from the knowledge base.
type Knowing interface {
	Search(ctx context.Context, req SearchRequest) ([]SearchHit, error)
	Neighborhood(ctx context.Context, req NeighborhoodRequest) (Neighborhood, error)
	Path(ctx context.Context, req PathRequest) (Path, error)
	Decay(ctx context.Context, req DecayRequest) (Decay, error)
}

// Teaching adds to the knowledge base. Nothing of a refused request is stored.
type Teaching interface {
	UpsertTunable(ctx context.Context, req TunableRequest) (tune.Node, error)
	UpsertEdge(ctx context.Context, req EdgeRequest) (tune.Edge, error)
	Induce(ctx context.Context, req InduceRequest) ([]Finding, error)
	UpsertTrace(ctx context.Context, req TraceRequest) (TraceResult, error)
}

// SearchRequest asks in plain words. By is keyword, vector, graph or fused (""); Limit 0 takes 10.
type SearchRequest struct {
	Text  string `json:"text"`
	By    string `json:"by,omitempty"`
	Limit int    `json:"limit,omitempty"`
}

// SearchHit is one found tunable or symptom. Scores compare within one answer only.
type SearchHit struct {
	Kind  string  `json:"kind"`
	Name  string  `json:"name"`
	Score float64 `json:"score"`
	Why   string  `json:"why"`
}

// SearchResult is what kb search prints.
type SearchResult struct {
	Hits []SearchHit `json:"hits"`
}

// NeighborhoodRequest asks what lies near a node. Depth 0 takes 1, Limit 0 takes 50; no Types takes all.
type NeighborhoodRequest struct {
	Node  string   `json:"node"`
	Depth *int     `json:"depth,omitempty"`
	Types []string `json:"types,omitempty"`
	Limit int      `json:"limit,omitempty"`
}

// Neighborhood is what lies near a node, strongest first. Edges are those that end at the node.
type Neighborhood struct {
	Node    tune.Node   `json:"node"`
	Edges   []tune.Edge `json:"edges"`
	Reached []Reached   `json:"reached"`
}

// Reached is one node of a neighbourhood: how far, how strong the best chain to it is, and its last edge.
type Reached struct {
	Node     tune.Node `json:"node"`
	Depth    int       `json:"depth"`
	Strength float64   `json:"strength"`
	Edge     tune.Edge `json:"edge"`
}

// PathRequest asks for the strongest chain between two nodes.
type PathRequest struct {
	From  string   `json:"from"`
	To    string   `json:"to"`
	Types []string `json:"types,omitempty"`
}

// Path is a chain of edges and the product of their weights; strength 0 when nothing joins the two.
type Path struct {
	Edges    []tune.Edge `json:"edges"`
	Strength float64     `json:"strength"`
}

// DecayRequest asks how learned edges will read at a moment; without one, now.
type DecayRequest struct {
	At *time.Time `json:"at,omitempty"`
}

// Decay is how each edge with evidence reads now and at a moment.
type Decay struct {
	Now   time.Time     `json:"now"`
	At    time.Time     `json:"at"`
	Edges []DecayedEdge `json:"edges"`
}

// DecayedEdge is one edge with its weight and what is left of its evidence.
type DecayedEdge struct {
	From        string        `json:"from"`
	Type        tune.EdgeType `json:"type"`
	To          string        `json:"to"`
	Seed        float64       `json:"seed"`
	Documented  bool          `json:"documented"`
	EvidenceNow float64       `json:"evidence_now"`
	WeightNow   float64       `json:"weight_now"`
	EvidenceAt  float64       `json:"evidence_at"`
	WeightAt    float64       `json:"weight_at"`
}

// TunableRequest adds or describes a tunable as a node of knowledge. It makes nothing writable.
type TunableRequest struct {
	Name    string `json:"name"`
	Summary string `json:"summary,omitempty"`
	Source  string `json:"source,omitempty"`
	Actor   string `json:"-"` // from the peer's credentials, as in all of these
}

// EdgeRequest adds an edge, or gives one another seed. Sign 0 takes that of the type: -1 for
// conflicts_with, else 1.
type EdgeRequest struct {
	From   string   `json:"from"`
	Type   string   `json:"type"`
	To     string   `json:"to"`
	Sign   int      `json:"sign,omitempty"`
	Weight *float64 `json:"weight"`
	Why    string   `json:"why,omitempty"`
	Source string   `json:"source"`
	Actor  string   `json:"-"`
}

// InduceRequest is a pairwise co-tuning sweep; each run names what stood at its tried value.
type InduceRequest struct {
	Metric string     `json:"metric"`
	Better string     `json:"better"`
	Runs   []SweepRun `json:"runs"`
	Source string     `json:"source,omitempty"`
	Actor  string     `json:"-"`
}

// SweepRun is one measurement of a sweep.
type SweepRun struct {
	On    []string `json:"on"`
	Value float64  `json:"value"`
}

// Findings is what kb induce prints.
type Findings struct {
	Findings []Finding `json:"findings"`
}

// Finding is the interaction of one pair on the log scale, and whether it was kept as an edge.
type Finding struct {
	A           string  `json:"a"`
	B           string  `json:"b"`
	Interaction float64 `json:"interaction"`
	Low         float64 `json:"low"`
	High        float64 `json:"high"`
	Runs        int     `json:"runs"`
	Kept        bool    `json:"kept"`
}

// TraceRequest is an outcome from outside. Without an id it gets a hash of its content, so that sending
// it twice counts once; without a time, now; without facts, this host's; without a verdict, inconclusive.
type TraceRequest struct {
	ID       string             `json:"id,omitempty"`
	Time     time.Time          `json:"time,omitzero"`
	BootID   string             `json:"boot_id,omitempty"`
	Facts    *tune.Facts        `json:"facts,omitempty"`
	Workload string             `json:"workload,omitempty"`
	Symptoms []string           `json:"symptoms"`
	Before   map[string]float64 `json:"before,omitempty"`
	After    map[string]float64 `json:"after,omitempty"`
	Changes  []TraceChange      `json:"changes"`
	Effect   *tune.Effect       `json:"effect,omitempty"`
	Verdict  tune.Verdict       `json:"verdict,omitempty"`
	State    tune.State         `json:"state"`
	Reason   string             `json:"reason,omitempty"`
	U        float64            `json:"uncertainty,omitempty"`
	Actor    string             `json:"-"`
}

// TraceChange is one change of an outcome.
type TraceChange struct {
	Tunable  string `json:"tunable"`
	Target   string `json:"target,omitempty"`
	Current  string `json:"current,omitempty"`
	Proposed string `json:"proposed"`
}

// TraceResult names the outcome; Learned is false when it was known already.
type TraceResult struct {
	ID      string `json:"id"`
	Learned bool   `json:"learned"`
}

func (c *Console) search(ctx echo.Context) error {
	var req SearchRequest
	if err := c.read(ctx, &req); err != nil {
		return err
	}
	if req.Limit < 0 || req.Limit > 1000 {
		return refuse(http.StatusBadRequest, "give a number from 1 to 1000", "limit %d", req.Limit)
	}
	hits, err := c.cfg.Knowing.Search(ctx.Request().Context(), req)
	if err != nil {
		return err
	}
	return answer(ctx, SearchResult{Hits: list(hits)})
}

func (c *Console) neighborhood(ctx echo.Context) error {
	var req NeighborhoodRequest
	if err := c.read(ctx, &req); err != nil {
		return err
	}
	if req.Limit < 0 || req.Limit > 10000 {
		return refuse(http.StatusBadRequest, "give a number from 1 to 10000", "limit %d", req.Limit)
	}
	n, err := c.cfg.Knowing.Neighborhood(ctx.Request().Context(), req)
	if err != nil {
		return err
	}
	n.Edges, n.Reached = list(n.Edges), list(n.Reached)
	return answer(ctx, n)
}

func (c *Console) path(ctx echo.Context) error {
	var req PathRequest
	if err := c.read(ctx, &req); err != nil {
		return err
	}
	p, err := c.cfg.Knowing.Path(ctx.Request().Context(), req)
	if err != nil {
		return err
	}
	p.Edges = list(p.Edges)
	return answer(ctx, p)
}

func (c *Console) decay(ctx echo.Context) error {
	var req DecayRequest
	if err := c.read(ctx, &req); err != nil {
		return err
	}
	d, err := c.cfg.Knowing.Decay(ctx.Request().Context(), req)
	if err != nil {
		return err
	}
	d.Edges = list(d.Edges)
	return answer(ctx, d)
}

func (c *Console) upsertTunable(ctx echo.Context) error {
	var req TunableRequest
	if err := c.read(ctx, &req); err != nil {
		return err
	}
	req.Actor = actor(ctx)
	n, err := c.cfg.Teaching.UpsertTunable(ctx.Request().Context(), req)
	if err != nil {
		return err
	}
	return answer(ctx, n)
}

func (c *Console) upsertEdge(ctx echo.Context) error {
	var req EdgeRequest
	if err := c.read(ctx, &req); err != nil {
		return err
	}
	if req.Weight == nil {
		return refuse(http.StatusBadRequest, "give a weight from 0 to 1", "the edge has no weight")
	}
	req.Actor = actor(ctx)
	e, err := c.cfg.Teaching.UpsertEdge(ctx.Request().Context(), req)
	if err != nil {
		return err
	}
	return answer(ctx, e)
}

func (c *Console) induce(ctx echo.Context) error {
	var req InduceRequest
	if err := c.read(ctx, &req); err != nil {
		return err
	}
	req.Actor = actor(ctx)
	found, err := c.cfg.Teaching.Induce(ctx.Request().Context(), req)
	if err != nil {
		return err
	}
	return answer(ctx, Findings{Findings: list(found)})
}

// upsertTrace serves /kb/upsert_trace and /log_outcome.
func (c *Console) upsertTrace(ctx echo.Context) error {
	var req TraceRequest
	if err := c.read(ctx, &req); err != nil {
		return err
	}
	if len(req.Changes) == 0 || req.Symptoms == nil || req.State == "" {
		return refuse(http.StatusBadRequest, "give changes, symptoms (which may be empty) and state", "an outcome needs changes, symptoms and state")
	}
	req.Actor = actor(ctx)
	res, err := c.cfg.Teaching.UpsertTrace(ctx.Request().Context(), req)
	if err != nil {
		return err
	}
	return answer(ctx, res)
}

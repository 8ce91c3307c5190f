package graph

import (
	"cmp"
	"fmt"
	"slices"

	"semantos/internal/tune"
)

// MaxDepth is how far a neighbourhood may reach: beyond it nearly everything is near.
const MaxDepth = 6

// Around says what a neighbourhood takes in.
type Around struct {
	Depth int             // edges away, 1 to MaxDepth
	Types []tune.EdgeType // empty: all
	Limit int             // strongest kept; 0 keeps all
}

// Reached is one node of a neighbourhood.
type Reached struct {
	Node     tune.Node `json:"node"`
	Depth    int       `json:"depth"`    // edges of the strongest chain
	Strength float64   `json:"strength"` // product of that chain's weights
	Edge     tune.Edge `json:"edge"`     // its last edge
}

// Neighborhood gives what lies within Depth edges of a node, in either direction, strongest first and
// by id where equal. The strength of a node is the largest product of weights over chains of at most
// Depth edges; what has no strength is not reached.
func (g *Graph) Neighborhood(id string, a Around) ([]Reached, error) {
	start, err := g.find(id)
	if err != nil {
		return nil, err
	}
	if a.Depth < 1 || a.Depth > MaxDepth {
		return nil, &tune.Error{Op: "look around", Subject: id, Err: fmt.Errorf("depth %d: %w", a.Depth, tune.ErrOutOfRange),
			Hint: fmt.Sprintf("give a depth from 1 to %d", MaxDepth)}
	}
	w, _ := g.scratch.Get().(*scratch)
	if w == nil {
		w = newScratch(len(g.nodes))
	}
	defer g.scratch.Put(w)
	w.spread(g, start, a.Depth, g.mask(a.Types))
	defer w.forget()
	best := w.strongest(a.Limit)
	out := make([]Reached, len(best))
	for i, x := range best {
		out[i] = Reached{Node: g.nodes[x.at], Depth: int(w.depth[x.at]), Strength: x.strength, Edge: g.edges[w.last[x.at]]}
	}
	return out, nil
}

// scratch is the memory of one traversal, kept between them: clearing what was touched is cheaper than
// asking for arrays as large as the graph.
type scratch struct {
	best      []float64 // strength of the strongest chain so far
	now, next []float64 // strength reached in the layer, 0 where it was not improved
	last      []int32
	depth     []int8

	seen, frontier, after []int32
	ranked                []ranked
}

// ranked is a node reached, with its strength beside it: sorting must not look it up elsewhere.
type ranked struct {
	strength float64
	at       int32
}

func (r ranked) compare(o ranked) int {
	return cmp.Or(cmp.Compare(o.strength, r.strength), cmp.Compare(r.at, o.at))
}

func newScratch(n int) *scratch {
	return &scratch{best: make([]float64, n), now: make([]float64, n), next: make([]float64, n),
		last: make([]int32, n), depth: make([]int8, n)}
}

func (w *scratch) forget() {
	for _, i := range w.seen {
		w.best[i], w.depth[i] = 0, 0
	}
}

// spread finds the best strengths by number of edges, layer by layer: a chain of few strong edges must
// not be hidden by a stronger one that has used up the depth. The nodes reached are w.seen.
func (w *scratch) spread(g *Graph, start int32, depth int, allowed mask) {
	w.now[start] = 1
	w.seen = w.seen[:0]
	frontier, after := append(w.frontier[:0], start), w.after[:0]
	for d := 1; d <= depth && len(frontier) > 0; d++ {
		for _, at := range frontier {
			strength := w.now[at]
			w.now[at] = 0
			for _, x := range g.of(at) {
				s := strength * x.weight
				if s <= w.best[x.to] || x.to == start || !g.follows(allowed, x.edge) {
					continue
				}
				if w.depth[x.to] == 0 {
					w.seen = append(w.seen, x.to)
				}
				if w.next[x.to] == 0 {
					after = append(after, x.to)
				}
				w.best[x.to], w.last[x.to], w.depth[x.to], w.next[x.to] = s, x.edge, int8(d), s
			}
		}
		w.now, w.next = w.next, w.now
		frontier, after = after, frontier[:0]
	}
	for _, at := range frontier {
		w.now[at] = 0
	}
	w.frontier, w.after = frontier, after
}

// strongest gives what was reached, strongest first, at most limit (0: all). With a limit the rest is
// never sorted: what beats the weakest kept is gathered, and cut back when it has doubled.
func (w *scratch) strongest(limit int) []ranked {
	out := w.ranked[:0]
	floor := -1.0
	for _, at := range w.seen {
		if w.best[at] < floor {
			continue
		}
		out = append(out, ranked{w.best[at], at})
		if limit > 0 && len(out) >= 2*limit {
			slices.SortFunc(out, ranked.compare)
			out = out[:limit]
			floor = out[limit-1].strength
		}
	}
	slices.SortFunc(out, ranked.compare)
	w.ranked = out
	if limit > 0 && len(out) > limit {
		out = out[:limit]
	}
	return out
}

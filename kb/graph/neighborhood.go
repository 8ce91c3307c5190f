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
	seen := w.spread(g, start, a.Depth, newMask(a.Types))
	defer w.forget(seen)
	best, depth, last := w.best, w.depth, w.last
	slices.SortFunc(seen, func(x, y int32) int { return cmp.Or(cmp.Compare(best[y], best[x]), cmp.Compare(x, y)) })
	if a.Limit > 0 && len(seen) > a.Limit {
		seen = seen[:a.Limit]
	}
	out := make([]Reached, len(seen))
	for i, at := range seen {
		out[i] = Reached{Node: g.nodes[at], Depth: int(depth[at]), Strength: best[at], Edge: g.edges[last[at]]}
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
}

func newScratch(n int) *scratch {
	return &scratch{best: make([]float64, n), now: make([]float64, n), next: make([]float64, n),
		last: make([]int32, n), depth: make([]int8, n)}
}

func (w *scratch) forget(seen []int32) {
	for _, i := range seen {
		w.best[i], w.depth[i] = 0, 0
	}
}

// spread finds the best strengths by number of edges, layer by layer: a chain of few strong edges must
// not be hidden by a stronger one that has used up the depth. It gives the nodes reached.
func (w *scratch) spread(g *Graph, start int32, depth int, allowed mask) (seen []int32) {
	w.now[start] = 1
	frontier, after := []int32{start}, []int32(nil)
	for d := 1; d <= depth && len(frontier) > 0; d++ {
		for _, at := range frontier {
			strength := w.now[at]
			w.now[at] = 0
			for _, x := range g.of(at) {
				s := strength * x.weight
				if x.to == start || s <= w.best[x.to] || allowed != nil && !allowed[g.edges[x.edge].Type] {
					continue
				}
				if w.depth[x.to] == 0 {
					seen = append(seen, x.to)
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
	return seen
}

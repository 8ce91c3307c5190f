package vector

import (
	"context"
	"fmt"
	"math/rand"

	"github.com/coder/hnsw"

	"semantos/internal/tune"
)

// coderGraph answers from coder/hnsw v0.6.1, used with care: filled once and never changed (its
// Delete and its second Add of a key panic), keys are slots, many more nodes are fetched than asked
// for (its recall is low and its answers unsorted) and the caller ranks them by true distance.
type coderGraph struct {
	view  view
	n     int
	graph *hnsw.Graph[uint32]
}

func newCoder() *coderGraph { return &coderGraph{} }

func (c *coderGraph) size() int { return c.n }

func (c *coderGraph) each(slot uint32, f func(slot uint32)) { f(slot) }

// extended builds a new graph: adding to one that readers walk is a fatal race on its maps.
func (c *coderGraph) extended(ctx context.Context, v view, cost float64) (w walker, p plan, err error) {
	defer func() {
		if r := recover(); r != nil {
			w, p, err = nil, plan{}, fmt.Errorf("build graph of coder/hnsw: %v: %w", r, tune.ErrCorrupt)
		}
	}()
	g := hnsw.NewGraph[uint32]()
	g.Rng = rand.New(rand.NewSource(1))
	g.EfSearch = 200
	g.Distance = func(a, b hnsw.Vector) float32 { return 1 - v.kern.dot(a, b) }
	next := &coderGraph{view: v, n: v.n, graph: g}
	held, rest := holdOut(0, v.n)
	add := func(slots []uint32) error {
		for _, slot := range slots {
			if err := ctx.Err(); err != nil {
				return err
			}
			g.Add(hnsw.MakeNode(slot, hnsw.Vector(v.float(slot))))
		}
		return nil
	}
	if err := add(rest); err != nil {
		return nil, plan{}, err
	}
	// Its candidate list drops arbitrary nodes when it is full, and with them parts of the graph.
	g.EfSearch = max(g.EfSearch, v.n)
	var widths []int
	for part := 64; part >= 1; part /= 2 {
		widths = append(widths, max(planK, v.n/part))
	}
	if p, err = calibrate(ctx, &v, next, held, widths, cost); err != nil {
		return nil, plan{}, err
	}
	return next, p, add(held)
}

// walk fetches width nodes and scores them from their codes.
func (c *coderGraph) walk(s *scratch, width int) (scored int, err error) {
	defer func() {
		if r := recover(); r != nil {
			scored, err = 0, fmt.Errorf("search graph of coder/hnsw: %v: %w", r, tune.ErrCorrupt)
		}
	}()
	s.pool, s.near = s.pool[:0], s.near[:0]
	for _, node := range c.graph.Search(s.unit, width) {
		s.near = append(s.near, node.Key)
	}
	count := len(s.near)
	if count == 0 {
		return 0, nil
	}
	for len(s.near)%rowGroup != 0 {
		s.near = append(s.near, s.near[count-1])
	}
	s.sums = sized(s.sums, len(s.near))
	c.view.kern.gather(s.query, c.view.codes, c.view.width, s.near, s.sums)
	for i, slot := range s.near[:count] {
		s.pool = append(s.pool, cand{float32(s.sums[i]) * c.view.scale[slot], slot})
	}
	return count, nil
}

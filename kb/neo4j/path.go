package neo4j

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"semantos/internal/tune"
)

// Reached is one node of a neighbourhood: Depth edges away along its strongest chain, Strength the
// product of that chain's weights as they are stored, without decay.
type Reached struct {
	ID       string
	Depth    int
	Strength float64
}

// Chain is a path: its nodes from one end to the other, and the product of its weights.
type Chain struct {
	Nodes    []string
	Strength float64
}

// Neighborhood asks Neo4j what lies within depth edges of a node, in either direction, over edges of the
// given types (all when none) that are not retired; strongest first, then by id. It is kb/graph's
// question asked there, for comparison; the control loop does not use it.
func (s *Store) Neighborhood(ctx context.Context, id string, depth int, types []tune.EdgeType) ([]Reached, error) {
	w, err := s.walk(ctx, []string{id}, types, layers(depth))
	if err != nil {
		return nil, err
	}
	out := make([]Reached, 0, len(w.best))
	for at, b := range w.best {
		if at != id {
			out = append(out, Reached{ID: at, Depth: b.depth, Strength: b.strength})
		}
	}
	slices.SortFunc(out, func(a, b Reached) int {
		return cmp.Or(cmp.Compare(b.Strength, a.Strength), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

// StrongestPath asks Neo4j for the chain between two nodes whose product of weights is largest, in either
// direction, retired edges left out. No nodes and strength 0: nothing joins them.
func (s *Store) StrongestPath(ctx context.Context, from, to string) (Chain, error) {
	w, err := s.walk(ctx, []string{from, to}, nil, strongestFirst(to))
	if err != nil {
		return Chain{}, err
	}
	end, ok := w.best[to]
	if !ok {
		return Chain{}, nil
	}
	chain := Chain{Strength: end.strength}
	for at := to; at != from; at = w.best[at].before {
		if chain.Nodes = append(chain.Nodes, at); len(chain.Nodes) > len(w.best) {
			return Chain{}, fmt.Errorf("%w: weights above 1 on the way from %q to %q", tune.ErrCorrupt, from, to)
		}
	}
	chain.Nodes = append(chain.Nodes, from)
	slices.Reverse(chain.Nodes)
	return chain, nil
}

type best struct {
	strength float64
	before   string
	depth    int
}

// walked is what a walk knows: the strongest chain to each node reached.
type walked struct {
	best map[string]best
	from string
}

// walk runs steps from a node in one transaction.
func (s *Store) walk(ctx context.Context, ids []string, types []tune.EdgeType, steps func(w walked, expand func(ids []string, depth int) ([]string, error)) error) (walked, error) {
	l := s.connected()
	if l == nil {
		state, _, _ := s.board.look()
		return walked{}, &tune.Error{Op: "ask neo4j", Subject: s.addr, Err: fmt.Errorf("%w: %s", tune.ErrNoData, state.Status), Hint: state.Reason}
	}
	for _, id := range ids {
		if _, err := s.spool.Node(ctx, id); err != nil {
			return walked{}, err
		}
	}
	names := make([]any, len(types))
	for i, t := range types {
		names[i] = string(t)
	}
	return read(ctx, l, s.limits.deliver, func(t tx) (walked, error) {
		w := walked{from: ids[0], best: map[string]best{ids[0]: {strength: 1}}}
		return w, steps(w, func(ids []string, depth int) ([]string, error) {
			frontier := make([]any, len(ids))
			for i, id := range ids {
				frontier[i] = map[string]any{"id": id, "weight": w.best[id].strength}
			}
			rows, err := t.run(expand, map[string]any{"frontier": frontier, "types": names})
			if err != nil {
				return nil, err
			}
			return w.take(rows, depth)
		})
	})
}

// take keeps what got stronger and gives its ids.
func (w walked) take(rows []row, depth int) ([]string, error) {
	var stronger []string
	for i := range rows {
		r := &rows[i]
		id, strength, before := r.text("id"), r.number("weight"), r.text("before")
		if r.err != nil {
			return nil, fmt.Errorf("walk from %q: %w", w.from, r.err)
		}
		if strength > 1 {
			return nil, fmt.Errorf("%w: weights above 1 on the way from %q to %q", tune.ErrCorrupt, w.from, id)
		}
		if strength > w.best[id].strength {
			w.best[id] = best{strength, before, depth}
			stronger = append(stronger, id)
		}
	}
	return stronger, nil
}

// layers goes from layer to layer until depth: a chain of few strong edges must not be hidden by a
// stronger one that has used up the depth. Within a layer all strengths are of the layer before.
func layers(depth int) func(walked, func([]string, int) ([]string, error)) error {
	return func(w walked, expand func([]string, int) ([]string, error)) error {
		frontier := []string{w.from}
		for d := 1; len(frontier) > 0 && d <= depth; d++ {
			var err error
			if frontier, err = expand(frontier, d); err != nil {
				return err
			}
		}
		return nil
	}
}

// atOnce is how many of the strongest nodes a search expands with one statement.
const atOnce = 256

// strongestFirst goes on from the strongest nodes, as Dijkstra does, until nothing stronger than the way
// to the goal is left: a product of weights never grows with its length.
func strongestFirst(to string) func(walked, func([]string, int) ([]string, error)) error {
	return func(w walked, expand func([]string, int) ([]string, error)) error {
		open := map[string]bool{w.from: true}
		for {
			var next []string
			for id := range open {
				if id != to && w.best[id].strength > w.best[to].strength {
					next = append(next, id)
				}
			}
			if len(next) == 0 {
				return nil
			}
			slices.SortFunc(next, func(a, b string) int {
				return cmp.Or(cmp.Compare(w.best[b].strength, w.best[a].strength), cmp.Compare(a, b))
			})
			next = next[:min(len(next), atOnce)]
			for _, id := range next {
				delete(open, id)
			}
			stronger, err := expand(next, 0)
			if err != nil {
				return err
			}
			for _, id := range stronger {
				open[id] = true
			}
		}
	}
}

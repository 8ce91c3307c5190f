package neo4j

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"semantos/internal/tune"
	"semantos/kb/validate"
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
	w, err := s.walk(ctx, id, "", depth, types)
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
	w, err := s.walk(ctx, from, to, 0, nil)
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

type walked struct {
	best map[string]best
	from string
	to   string // "" for none: nothing weaker than the way to it is followed
}

// walk steps outwards from a node until depth (0: any) or until nothing gets stronger.
func (s *Store) walk(ctx context.Context, from, to string, depth int, types []tune.EdgeType) (walked, error) {
	l := s.connected()
	if l == nil {
		state, _, _ := s.board.look()
		return walked{}, &tune.Error{Op: "ask neo4j", Subject: s.addr, Err: fmt.Errorf("%w: %s", tune.ErrNoData, state.Status), Hint: state.Reason}
	}
	for _, id := range []string{from, to} {
		if id == "" {
			continue
		}
		if _, err := s.spool.Node(ctx, id); err != nil {
			return walked{}, err
		}
	}
	if from == "" {
		return walked{}, validate.UnknownNode(from)
	}
	names := make([]any, len(types))
	for i, t := range types {
		names[i] = string(t)
	}
	return read(ctx, l, s.limits.deliver, func(t tx) (walked, error) {
		w := walked{from: from, to: to, best: map[string]best{from: {strength: 1}}}
		frontier := []any{map[string]any{"id": from, "weight": 1.0}}
		for d := 1; len(frontier) > 0 && (depth <= 0 || d <= depth); d++ {
			rows, err := t.run(expand, map[string]any{"frontier": frontier, "types": names})
			if err != nil {
				return w, err
			}
			if frontier, err = w.step(rows, d); err != nil {
				return w, err
			}
		}
		return w, nil
	})
}

// step takes what got stronger and gives where to go on from.
func (w walked) step(rows []row, depth int) ([]any, error) {
	var frontier []any
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
			frontier = append(frontier, map[string]any{"id": id, "weight": strength})
		}
	}
	if w.to != "" {
		reached := w.best[w.to].strength
		frontier = slices.DeleteFunc(frontier, func(f any) bool {
			m, ok := f.(map[string]any)
			strength, _ := m["weight"].(float64)
			return ok && strength <= reached
		})
	}
	return frontier, nil
}

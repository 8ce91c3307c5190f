package graph

import (
	"container/heap"
	"slices"

	"semantos/internal/tune"
)

// Chain is a path: its edges from one end to the other, each as it is stored, and the product of their
// weights.
type Chain struct {
	Edges    []tune.Edge `json:"edges"`
	Strength float64     `json:"strength"`
}

// Path gives the chain between two nodes whose product of weights is largest, over edges of the given
// types (all when none) in either direction; no edges and strength 0 when nothing joins them. From a
// node to itself it is no edges and strength 1. It searches from both ends (Pohl's bidirectional
// search), since a product of weights never grows with its length.
func (g *Graph) Path(from, to string, types ...tune.EdgeType) (Chain, error) {
	a, err := g.find(from)
	if err != nil {
		return Chain{}, err
	}
	b, err := g.find(to)
	if err != nil {
		return Chain{}, err
	}
	if a == b {
		return Chain{Edges: []tune.Edge{}, Strength: 1}, nil
	}
	s := &search{g: g, allowed: newMask(types), meet: -1}
	s.sides[0], s.sides[1] = newSide(a), newSide(b)
	s.run()
	return s.chain(), nil
}

type search struct {
	g       *Graph
	allowed mask
	sides   [2]*side
	best    float64
	meet    int32
}

// side is one end's view: the strongest known chain to each node it has reached.
type side struct {
	reached map[int32]*label
	open    queue
}

type label struct {
	node     int32
	strength float64
	edge     int32 // by which it was reached
	prev     *label
	done     bool
	place    int
}

func newSide(at int32) *side {
	l := &label{node: at, strength: 1, edge: -1}
	s := &side{reached: map[int32]*label{at: l}}
	heap.Push(&s.open, l)
	return s
}

// run expands the stronger front until no chain through both can beat the best that was found.
func (s *search) run() {
	for len(s.sides[0].open) > 0 && len(s.sides[1].open) > 0 {
		x, y := s.sides[0].open[0].strength, s.sides[1].open[0].strength
		if x*y <= s.best {
			return
		}
		// The smaller front grows: a hub's thousand arcs are not opened before they must be.
		if len(s.sides[0].open) <= len(s.sides[1].open) {
			s.expand(s.sides[0], s.sides[1])
		} else {
			s.expand(s.sides[1], s.sides[0])
		}
	}
}

func (s *search) expand(near, far *side) {
	l := heap.Pop(&near.open).(*label)
	l.done = true
	for _, x := range s.g.of(l.node) {
		strength := l.strength * x.weight
		if strength <= s.best || !s.allowed.allows(s.g.edges[x.edge].Type) {
			continue // no chain through it can win: the rest of it is at most 1
		}
		n := near.reached[x.to]
		switch {
		case n == nil:
			n = &label{node: x.to, strength: strength, edge: x.edge, prev: l}
			near.reached[x.to] = n
			heap.Push(&near.open, n)
		case n.done || strength <= n.strength:
			continue
		default:
			n.strength, n.edge, n.prev = strength, x.edge, l
			heap.Fix(&near.open, n.place)
		}
		if other := far.reached[x.to]; other != nil && n.strength*other.strength > s.best {
			s.best, s.meet = n.strength*other.strength, x.to
		}
	}
}

func (s *search) chain() Chain {
	if s.meet < 0 {
		return Chain{Edges: []tune.Edge{}}
	}
	var out []tune.Edge
	for l := s.sides[0].reached[s.meet]; l.prev != nil; l = l.prev {
		out = append(out, s.g.edges[l.edge])
	}
	slices.Reverse(out)
	for l := s.sides[1].reached[s.meet]; l.prev != nil; l = l.prev {
		out = append(out, s.g.edges[l.edge])
	}
	return Chain{Edges: out, Strength: s.best}
}

// queue is a heap, strongest first.
type queue []*label

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].strength > q[j].strength || q[i].strength == q[j].strength && q[i].node < q[j].node
}
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}
func (q *queue) Push(x any) {
	l := x.(*label)
	l.place = len(*q)
	*q = append(*q, l)
}
func (q *queue) Pop() any {
	old := *q
	l := old[len(old)-1]
	*q = old[:len(old)-1]
	return l
}

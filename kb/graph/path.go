package graph

import (
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
	s, _ := g.ends.Get().(*search)
	if s == nil {
		s = &search{g: g, sides: [2]*side{newSide(len(g.nodes)), newSide(len(g.nodes))}}
	}
	defer g.ends.Put(s)
	s.allowed, s.best, s.meet = g.mask(types), 0, -1
	s.sides[0].begin(a)
	s.sides[1].begin(b)
	s.run()
	return s.chain(), nil
}

// search is the memory of one question, kept between them like scratch.
type search struct {
	g       *Graph
	allowed mask
	sides   [2]*side
	best    float64
	meet    int32
}

// side is one end's view: by node, the strongest known chain to it.
type side struct {
	labels  []label
	touched []int32
	open    queue
}

// label is how a node was reached; strength 0 is not at all.
type label struct {
	strength   float64
	edge, prev int32 // by which, and from where; -1 at the end itself
	done       bool
}

func newSide(n int) *side { return &side{labels: make([]label, n)} }

func (s *side) begin(at int32) {
	for _, i := range s.touched {
		s.labels[i] = label{}
	}
	s.touched, s.open = s.touched[:0], s.open[:0]
	s.reach(at, label{strength: 1, edge: -1, prev: -1})
	s.open.push(ranked{1, at})
}

func (s *side) reach(at int32, l label) {
	if s.labels[at].strength == 0 {
		s.touched = append(s.touched, at)
	}
	s.labels[at] = l
}

// top drops what was reached better since it was queued, and gives the strongest left; 0 when none is.
func (s *side) top() float64 {
	for len(s.open) > 0 {
		x := s.open[0]
		if l := s.labels[x.at]; !l.done && l.strength == x.strength {
			return x.strength
		}
		s.open.pop()
	}
	return 0
}

// run expands the smaller front until no chain through both can beat the best that was found: a hub's
// thousand arcs are not opened before they must be.
func (s *search) run() {
	for {
		x, y := s.sides[0].top(), s.sides[1].top()
		if x*y <= s.best {
			return
		}
		if len(s.sides[0].open) <= len(s.sides[1].open) {
			s.expand(s.sides[0], s.sides[1], y)
		} else {
			s.expand(s.sides[1], s.sides[0], x)
		}
	}
}

// expand settles the strongest open node of a side. What the far side has not settled is at most beyond
// away from its end; what it has settled needs no further search, since the rest of its chain is known.
func (s *search) expand(near, far *side, beyond float64) {
	at := near.open.pop().at
	near.labels[at].done = true
	from := near.labels[at].strength
	for _, x := range s.g.of(at) {
		strength := from * x.weight
		if strength <= s.best || strength <= near.labels[x.to].strength || near.labels[x.to].done || !s.g.follows(s.allowed, x.edge) {
			continue
		}
		other := far.labels[x.to]
		through := strength * other.strength
		ahead := !other.done && strength*beyond > s.best
		if through <= s.best && !ahead {
			continue
		}
		near.reach(x.to, label{strength: strength, edge: x.edge, prev: at})
		if ahead {
			near.open.push(ranked{strength, x.to})
		}
		if through > s.best {
			s.best, s.meet = through, x.to
		}
	}
}

func (s *search) chain() Chain {
	if s.meet < 0 {
		return Chain{Edges: []tune.Edge{}}
	}
	var out []tune.Edge
	for k, side := range s.sides {
		for l := side.labels[s.meet]; l.prev >= 0; l = side.labels[l.prev] {
			out = append(out, s.g.edges[l.edge])
		}
		if k == 0 {
			slices.Reverse(out)
		}
	}
	return Chain{Edges: out, Strength: s.best}
}

// queue is a binary heap, strongest first and by node where equal. It is not container/heap: that
// allocates for each element, which is most of the time of a search.
type queue []ranked

func (q *queue) push(x ranked) {
	h := append(*q, x)
	*q = h
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if h[up].compare(h[i]) <= 0 {
			return
		}
		h[up], h[i] = h[i], h[up]
		i = up
	}
}

func (q *queue) pop() ranked {
	h := *q
	first, last := h[0], len(h)-1
	h[0] = h[last]
	h = h[:last]
	*q = h
	for i := 0; ; {
		down := 2*i + 1
		if down >= last {
			return first
		}
		if down+1 < last && h[down+1].compare(h[down]) < 0 {
			down++
		}
		if h[i].compare(h[down]) <= 0 {
			return first
		}
		h[i], h[down] = h[down], h[i]
		i = down
	}
}

package retrieve

import (
	"math"
	"slices"

	"semantos/internal/tune"
)

// Weighted is one neighbour in the graph of knowledge. Says is how the neighbour stands to the node
// asked for ("relieves", "is relieved by", "depends on"); Weight in [0,1].
type Weighted struct {
	ID     string
	Weight float64
	Says   string
}

// Neighbours gives the function [New] wants from typed edges, followed both ways: relieves from symptom
// to tunable, affects from tunable to signal, and the three between tunables. Other types and retired
// edges are left out.
func Neighbours(edges []tune.Edge) func(id string) []Weighted {
	near := map[string][]Weighted{}
	put := func(at, to string, weight float64, says string) {
		near[at] = append(near[at], Weighted{to, weight, says})
	}
	for _, e := range edges {
		there, back := relation(e.Type)
		if there == "" || e.Retired {
			continue
		}
		put(e.From, e.To, e.Weight, there)
		put(e.To, e.From, e.Weight, back)
	}
	return func(id string) []Weighted { return near[id] }
}

// relation says how the end of an edge stands to its beginning, and the beginning to the end.
func relation(t tune.EdgeType) (there, back string) {
	switch t {
	case tune.Relieves:
		return "relieves", "is relieved by"
	case tune.Affects:
		return "is moved by", "moves"
	case tune.DependsOn:
		return "is needed by", "needs"
	case tune.ConflictsWith:
		return "conflicts with", "conflicts with"
	case tune.SynergizesWith:
		return "works with", "works with"
	}
	return "", ""
}

type link struct {
	to     int
	weight float64
	says   string
}

// graph is the neighbourhood of the documents, nodes numbered: documents first, then what lies between
// them (signals, hints).
type graph struct {
	decay float64
	docs  int
	names []string
	links [][]link
}

func newGraph(decay float64, docs []Doc, neighbours func(string) []Weighted) *graph {
	g := &graph{decay: decay, docs: len(docs)}
	number := map[string]int{}
	for i, d := range docs {
		number[d.ID] = i
		g.names = append(g.names, d.ID)
	}
	for at := 0; at < len(g.names); at++ {
		var links []link
		for _, n := range neighbours(g.names[at]) {
			to, ok := number[n.ID]
			if !ok && at < g.docs {
				to = len(g.names)
				number[n.ID] = to
				g.names = append(g.names, n.ID)
				ok = true
			}
			if ok {
				links = append(links, link{to, n.Weight, n.Says})
			}
		}
		g.links = append(g.links, links)
	}
	return g
}

// reached is what the spread brought to a document, and over which document's edge most of it came.
type reached struct {
	score, most float64
	from        int // -1: not reached
	says        string
}

// spread starts at seeds and gives what edges bring: a seed's own mass is not counted, the other rankings
// have it. It follows two edges, the second only through what is no document. A node shares its mass by
// the root of its degree, so that a hub does not flood all.
func (g *graph) spread(seeds []ranked) []reached {
	out := make([]reached, g.docs)
	for i := range out {
		out[i].from = -1
	}
	give := func(from, to int, mass float64, says string) {
		out[to].score += mass
		if mass > out[to].most {
			out[to].most, out[to].from, out[to].says = mass, from, says
		}
	}
	for _, s := range seeds {
		share := s.score * g.decay / math.Sqrt(float64(max(1, len(g.links[s.doc]))))
		for _, l := range g.links[s.doc] {
			if l.to < g.docs {
				give(s.doc, l.to, share*l.weight, l.says)
				continue
			}
			onward := share * l.weight * g.decay / math.Sqrt(float64(max(1, len(g.links[l.to]))))
			for _, m := range g.links[l.to] {
				if m.to != s.doc && m.to < g.docs {
					give(s.doc, m.to, onward*m.weight, "moves the same signal as")
				}
			}
		}
	}
	return out
}

// ranked is a document with its score, best first in a list.
type ranked struct {
	doc   int
	score float64
}

// best gives the n documents of the highest scores above floor; equal scores stand in the order of the
// documents' ids.
func best(scores []float64, floor float64, n int, ids []string) []ranked {
	var out []ranked
	for i, s := range scores {
		if s > floor {
			out = append(out, ranked{i, s})
		}
	}
	slices.SortFunc(out, func(a, b ranked) int {
		switch {
		case a.score > b.score:
			return -1
		case a.score < b.score:
			return 1
		case ids[a.doc] < ids[b.doc]:
			return -1
		default:
			return 1
		}
	})
	return out[:min(n, len(out))]
}

package graph

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"semantos/internal/tune"
)

// Graph is the knowledge graph as it read at one moment. It never changes, so that any number may ask
// it at once.
type Graph struct {
	nodes []tune.Node
	index map[string]int32
	edges []tune.Edge // live ones, weights as of the moment, sorted by From, Type, To
	first []int32     // arcs of node i are arcs[first[i]:first[i+1]]
	arcs  []arc

	scratch sync.Pool // of *scratch
}

// arc is one end's view of an edge.
type arc struct {
	to     int32
	edge   int32
	weight float64
}

// New builds the graph as it reads at a moment; a zero time takes the weights as they stand. Retired
// edges are left out. An edge whose end is no node, or a node given twice, is tune.ErrCorrupt.
func New(nodes []tune.Node, edges []tune.Edge, at time.Time) (*Graph, error) {
	g := &Graph{nodes: slices.Clone(nodes), index: make(map[string]int32, len(nodes))}
	slices.SortFunc(g.nodes, func(a, b tune.Node) int { return cmp.Compare(a.ID, b.ID) })
	for i, n := range g.nodes {
		if _, twice := g.index[n.ID]; twice {
			return nil, fmt.Errorf("build graph: node %q given twice: %w", n.ID, tune.ErrCorrupt)
		}
		g.index[n.ID] = int32(i)
	}
	for _, e := range edges {
		if e.Retired {
			continue
		}
		for _, end := range []string{e.From, e.To} {
			if _, ok := g.index[end]; !ok {
				return nil, fmt.Errorf("build graph: edge %s %s %s: no node %q: %w", e.From, e.Type, e.To, end, tune.ErrCorrupt)
			}
		}
		if !at.IsZero() {
			e = At(e, at)
		}
		g.edges = append(g.edges, e)
	}
	slices.SortFunc(g.edges, compareEdges)
	g.link()
	return g, nil
}

func compareEdges(a, b tune.Edge) int {
	return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.Type, b.Type), cmp.Compare(a.To, b.To))
}

// link lays out the arcs of all nodes in one array, in both directions.
func (g *Graph) link() {
	g.first = make([]int32, len(g.nodes)+1)
	for _, e := range g.edges {
		g.first[g.index[e.From]+1]++
		g.first[g.index[e.To]+1]++
	}
	for i := 1; i < len(g.first); i++ {
		g.first[i] += g.first[i-1]
	}
	next := slices.Clone(g.first)
	g.arcs = make([]arc, 2*len(g.edges))
	for i, e := range g.edges {
		from, to := g.index[e.From], g.index[e.To]
		g.arcs[next[from]] = arc{to, int32(i), e.Weight}
		next[from]++
		g.arcs[next[to]] = arc{from, int32(i), e.Weight}
		next[to]++
	}
}

func (g *Graph) of(i int32) []arc { return g.arcs[g.first[i]:g.first[i+1]] }

// find gives a node's place, or tune.ErrUnknown.
func (g *Graph) find(id string) (int32, error) {
	i, ok := g.index[id]
	if !ok {
		return 0, &tune.Error{Op: "look up node", Subject: id, Err: tune.ErrUnknown,
			Hint: "semantos kb search finds names by words"}
	}
	return i, nil
}

// Node gives one node.
func (g *Graph) Node(id string) (tune.Node, bool) {
	i, ok := g.index[id]
	if !ok {
		return tune.Node{}, false
	}
	return g.nodes[i], true
}

// Edge gives one live edge.
func (g *Graph) Edge(from string, typ tune.EdgeType, to string) (tune.Edge, bool) {
	i, ok := slices.BinarySearchFunc(g.edges, tune.Edge{From: from, Type: typ, To: to}, compareEdges)
	if !ok {
		return tune.Edge{}, false
	}
	return g.edges[i], true
}

// AllNodes walks the nodes by ID.
func (g *Graph) AllNodes() iter.Seq[tune.Node] { return slices.Values(g.nodes) }

// AllEdges walks the live edges by From, Type and To.
func (g *Graph) AllEdges() iter.Seq[tune.Edge] { return slices.Values(g.edges) }

// Nodes is how many nodes there are.
func (g *Graph) Nodes() int { return len(g.nodes) }

// Edges are how many live edges there are.
func (g *Graph) Edges() int { return len(g.edges) }

// mask allows edge types; none given allows all.
type mask map[tune.EdgeType]bool

func newMask(types []tune.EdgeType) mask {
	if len(types) == 0 {
		return nil
	}
	m := mask{}
	for _, t := range types {
		m[t] = true
	}
	return m
}

func (m mask) allows(t tune.EdgeType) bool { return m == nil || m[t] }

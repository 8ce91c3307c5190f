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
	kinds []uint8     // by edge: its bit in a mask
	bits  map[tune.EdgeType]uint8
	first []int32 // arcs of node i are arcs[first[i]:first[i+1]]
	arcs  []arc

	retired map[edgeKey]bool

	scratch sync.Pool // of *scratch
	ends    sync.Pool // of *search
}

// edgeKey names an edge.
type edgeKey struct {
	from string
	kind tune.EdgeType
	to   string
}

// arc is one end's view of an edge.
type arc struct {
	to     int32
	edge   int32
	weight float64
}

// New builds the graph as it reads at a moment; a zero time takes the weights as they stand. Retired
// edges are left out, unless a document is behind them: those stand whatever outcomes said. An edge whose
// end is no node, a weight outside [0,1], or a node given twice, is tune.ErrCorrupt.
func New(nodes []tune.Node, edges []tune.Edge, at time.Time) (*Graph, error) {
	g := &Graph{nodes: slices.Clone(nodes), index: make(map[string]int32, len(nodes)), bits: map[tune.EdgeType]uint8{},
		retired: map[edgeKey]bool{}, edges: make([]tune.Edge, 0, len(edges))}
	slices.SortFunc(g.nodes, func(a, b tune.Node) int { return cmp.Compare(a.ID, b.ID) })
	for i, n := range g.nodes {
		if _, twice := g.index[n.ID]; twice {
			return nil, fmt.Errorf("build graph: node %q given twice: %w", n.ID, tune.ErrCorrupt)
		}
		g.index[n.ID] = int32(i)
	}
	for _, e := range edges {
		if Resting(e, at) {
			g.retired[edgeKey{e.From, e.Type, e.To}] = true
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
		if !(e.Weight >= 0 && e.Weight <= 1) {
			return nil, fmt.Errorf("build graph: edge %s %s %s: weight %v: %w", e.From, e.Type, e.To, e.Weight, tune.ErrCorrupt)
		}
		if _, known := g.bits[e.Type]; !known {
			g.bits[e.Type] = uint8(len(g.bits))
		}
		g.edges = append(g.edges, e)
	}
	if len(g.bits) > maxKinds {
		return nil, fmt.Errorf("build graph: %d types of edges, more than %d: %w", len(g.bits), maxKinds, tune.ErrCorrupt)
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
	g.kinds = make([]uint8, len(g.edges))
	g.arcs = make([]arc, 2*len(g.edges))
	for i, e := range g.edges {
		g.kinds[i] = g.bits[e.Type]
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

// Retired tells whether evidence has retired an edge: it was known, and is followed no more.
func (g *Graph) Retired(from string, typ tune.EdgeType, to string) bool {
	return g.retired[edgeKey{from, typ, to}]
}

// mask is the set of edge types that are followed, one bit each.
type mask uint64

// maxKinds is how many types a mask holds.
const maxKinds = 64

// mask gives the bits of types; none given is all. A type no edge has sets no bit.
func (g *Graph) mask(types []tune.EdgeType) mask {
	if len(types) == 0 {
		return ^mask(0)
	}
	var m mask
	for _, t := range types {
		if bit, ok := g.bits[t]; ok {
			m |= 1 << bit
		}
	}
	return m
}

func (g *Graph) follows(m mask, edge int32) bool { return m>>g.kinds[edge]&1 == 1 }

package vector

import (
	"cmp"
	"math"
	"slices"
)

// The graph is a hierarchical navigable small world after Malkov and Yashunin (arXiv:1603.09320):
// each node links to near nodes in a few directions; upper levels hold ever fewer nodes and lead a
// walk to the right region. Walks read int8 codes only; callers re-rank exactly.
const (
	linksUp   = 16 // links of a node on the upper levels (M)
	linksBase = 32 // and on the base level
	buildBeam = 200
	maxLevel  = 12
	none      = math.MaxUint32

	// A walk comes down the upper levels with this many nodes at once and enters the base level
	// from the best of them. One node, as in the paper, ends in the wrong cluster too often: on
	// clustered rows recall stayed below 0.99 however wide the base beam was.
	upperBeam = 48
	seeds     = 16

	// A candidate is dropped for a kept link only when it is nearer to it by this factor (the
	// alpha of DiskANN): more links lead out of a cluster.
	spread = 1.15
)

// graph is built by one goroutine in slot order. Once it is published nobody writes to it: growing
// it clones the links first.
type graph struct {
	view  view
	n     int      // slots [0,n) are in the graph
	base  []uint32 // linksBase a slot, none after the last
	upper [][]uint32
	entry uint32
	top   int

	twin  []uint32 // next slot with the same codes, none at the end: a chain from its first slot
	first map[uint64]uint32
}

func newGraph() *graph { return &graph{entry: none, first: map[uint64]uint32{}} }

// clone copies what inserting changes. The map of first slots moves on: only a builder reads it.
func (g *graph) clone(v view, room int) *graph {
	c := *g
	c.view = v
	c.base = append(make([]uint32, 0, room*linksBase), g.base...)
	c.twin = append(make([]uint32, 0, room), g.twin...)
	c.upper = make([][]uint32, len(g.upper), room)
	for i, u := range g.upper {
		c.upper[i] = slices.Clone(u)
	}
	return &c
}

// level draws the level of a slot: the same for the same slot, whenever it is built.
func level(slot uint32) int {
	x := uint64(slot) + 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	x ^= x >> 31
	u := (float64(x>>11) + 1) / (1 << 53)
	return min(maxLevel, int(-math.Log(u)/math.Log(linksUp)))
}

func (g *graph) links(slot uint32, lvl int) []uint32 {
	if lvl == 0 {
		return g.base[slot*linksBase : (slot+1)*linksBase]
	}
	at := (lvl - 1) * linksUp
	return g.upper[slot][at : at+linksUp]
}

// reserve makes room for slot with no links; a slot not inserted yet is reached by nobody.
func (g *graph) reserve(slot uint32, levels int) {
	for uint32(len(g.twin)) <= slot {
		for range linksBase {
			g.base = append(g.base, none)
		}
		g.twin = append(g.twin, none)
		g.upper = append(g.upper, nil)
	}
	if levels > 0 {
		u := make([]uint32, levels*linksUp)
		for i := range u {
			u[i] = none
		}
		g.upper[slot] = u
	}
}

// builder holds the scratch memory of inserting.
type builder struct {
	walk  scratch
	wide  []int16
	chose []uint32
	kept  []uint32
	cands []cand
}

// insert links one slot. Rows with the same codes are one node: a walk cannot tell them apart, and
// hundreds of them would fill each other's links.
func (b *builder) insert(g *graph, slot uint32) {
	v := &g.view
	key := codeHash(v.code(slot))
	if head, ok := g.first[key]; ok && slices.Equal(v.code(head), v.code(slot)) {
		g.reserve(slot, 0)
		g.twin[slot], g.twin[head] = g.twin[head], slot
		return
	} else if !ok {
		g.first[key] = slot
	}
	lvl := level(slot)
	g.reserve(slot, lvl)
	if g.entry == none {
		g.entry, g.top = slot, lvl
		return
	}
	s := &b.walk
	s.query = sized(s.query, v.width)
	s.qscale, _ = encodeQuery(s.query, v.float(slot))
	g.descend(s, lvl)
	for l := min(lvl, g.top); l >= 0; l-- {
		g.beam(s, l, buildBeam)
		s.reseed()
		b.chose = g.choose(b.chose[:0], s.pool, s.qscale, linksUp)
		copy(g.links(slot, l), b.chose)
		for _, near := range b.chose {
			b.backlink(g, near, slot, l)
		}
	}
	if lvl > g.top {
		g.entry, g.top = slot, lvl
	}
}

// choose keeps of sorted candidates those that are not much nearer to a kept one than to the new
// node, so that links lead in different directions. A score times unit is a similarity.
func (g *graph) choose(out []uint32, sorted []cand, unit float32, limit int) []uint32 {
	v := &g.view
	for _, c := range sorted {
		if len(out) == limit {
			break
		}
		row, apart := v.code(c.slot()), true
		near := (1 - (1-c.score*unit)/spread) / v.scale[c.slot()]
		for _, kept := range out {
			if float32(v.kern.pair(row, v.code(kept)))*v.scale[kept] > near {
				apart = false
				break
			}
		}
		if apart {
			out = append(out, c.slot())
		}
	}
	return out
}

// backlink adds a link from near to slot; a full list is chosen anew.
func (b *builder) backlink(g *graph, near, slot uint32, lvl int) {
	list := g.links(near, lvl)
	if i := slices.Index(list, none); i >= 0 {
		list[i] = slot
		return
	}
	v := &g.view
	b.wide = sized(b.wide, v.width)
	for i, c := range v.code(near) {
		b.wide[i] = int16(c)
	}
	s := &b.walk
	s.near = append(append(s.near[:0], list...), slot)
	count := len(s.near)
	g.score(s, b.wide)
	b.cands = b.cands[:0]
	for i, id := range s.near[:count] {
		b.cands = append(b.cands, cand{float32(s.sums[i]) * v.scale[id], id})
	}
	slices.SortFunc(b.cands, func(x, y cand) int {
		return cmp.Or(cmp.Compare(y.score, x.score), cmp.Compare(x.at, y.at))
	})
	b.kept = g.choose(b.kept[:0], b.cands, v.scale[near], len(list))
	for n := copy(list, b.kept); n < len(list); n++ {
		list[n] = none
	}
}

// codeHash is FNV-1a over a row's codes.
func codeHash(row []int8) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range row {
		h = (h ^ uint64(uint8(c))) * 1099511628211
	}
	return h
}

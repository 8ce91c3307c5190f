package vector

import (
	"context"
	"sort"
)

// score fills s.sums with the sums of q and the rows of s.near, which is padded to whole groups.
func (g *graph) score(s *scratch, q []int16) {
	for len(s.near)%rowGroup != 0 {
		s.near = append(s.near, s.near[len(s.near)-1])
	}
	s.sums = sized(s.sums, max(len(s.near), linksBase+rowGroup))
	g.view.kern.gather(q, g.view.codes, g.view.width, s.near, s.sums)
}

func (g *graph) scoreOne(s *scratch, slot uint32) float32 {
	s.near = append(s.near[:0], slot)
	g.score(s, s.query)
	return float32(s.sums[0]) * g.view.scale[slot]
}

// descend comes from the entry down to the level above lvl, leaves the nodes to go on from in
// s.seeds, and gives the number of rows it scored.
func (g *graph) descend(s *scratch, lvl int) int {
	s.seeds = append(s.seeds[:0], cand{g.scoreOne(s, g.entry), g.entry})
	scored := 1
	for l := g.top; l > lvl; l-- {
		scored += g.beam(s, l, upperBeam)
		s.reseed()
	}
	return scored
}

// reseed makes the best of what a beam found the start of the next.
func (s *scratch) reseed() {
	s.seeds = append(s.seeds[:0], s.pool[:min(seeds, len(s.pool))]...)
	for i := range s.seeds {
		s.seeds[i].at = s.seeds[i].slot()
	}
}

// beam walks one level from s.seeds and leaves the width nearest nodes it met in s.pool, nearest
// first. It gives the number of rows it scored.
func (g *graph) beam(s *scratch, lvl, width int) int {
	s.visit(len(g.twin))
	visited, epoch, scale := s.visited, s.epoch, g.view.scale
	if cap(s.pool) < width+1 {
		s.pool = make([]cand, 0, width+1)
	}
	pool := append(s.pool[:0], s.seeds[:min(width, len(s.seeds))]...)
	for _, c := range pool {
		visited[c.at] = epoch
	}
	scored := 0
	for next := 0; next < len(pool); {
		if pool[next].at&expanded != 0 {
			next++
			continue
		}
		pool[next].at |= expanded
		near := s.near[:0]
		for _, id := range g.links(pool[next].slot(), lvl) {
			if id == none {
				break
			}
			if visited[id] != epoch {
				visited[id] = epoch
				near = append(near, id)
			}
		}
		s.near = near
		if len(near) == 0 {
			continue
		}
		count := len(near)
		scored += count
		g.score(s, s.query)
		for i, id := range s.near[:count] {
			score := float32(s.sums[i]) * scale[id]
			if len(pool) == width && score <= pool[width-1].score {
				continue
			}
			at := sort.Search(len(pool), func(j int) bool { return pool[j].score < score })
			if len(pool) < width {
				pool = append(pool, cand{})
			}
			copy(pool[at+1:], pool[at:])
			pool[at] = cand{score, id}
			next = min(next, at)
		}
	}
	s.pool = pool
	return scored
}

// walk leaves the width nearest nodes to s.query in s.pool and gives the number of rows it scored.
func (g *graph) walk(s *scratch, width int) (int, error) {
	s.pool = s.pool[:0]
	if g.entry == none {
		return 0, nil
	}
	scored := g.descend(s, 0)
	return scored + g.beam(s, 0, width), nil
}

// each calls f for every slot that has the codes of this one: equal rows are one node.
func (g *graph) each(slot uint32, f func(slot uint32)) {
	for ; slot != none; slot = g.twin[slot] {
		f(slot)
	}
}

func (g *graph) size() int { return g.n }

// extended is the graph with slots [g.n, v.n) added. A share of them, spread evenly, is held out
// first: they are the questions on which the plan is measured, and join afterwards.
func (g *graph) extended(ctx context.Context, v view, cost float64) (walker, plan, error) {
	c, b := g.clone(v, v.n), &builder{}
	held, rest := holdOut(g.n, v.n)
	insert := func(slots []uint32) error {
		for _, slot := range slots {
			if err := ctx.Err(); err != nil {
				return err
			}
			b.insert(c, slot)
		}
		return nil
	}
	if err := insert(rest); err != nil {
		return nil, plan{}, err
	}
	c.n = v.n
	p, err := calibrate(ctx, &v, c, held, beamWidths(), cost)
	if err != nil {
		return nil, plan{}, err
	}
	return c, p, insert(held)
}

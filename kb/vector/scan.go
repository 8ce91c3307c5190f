package vector

import "math"

// scanBlock is how many rows are scored before the scores are looked at: they stay in the first
// level of cache.
const scanBlock = 512

// scratch is what one search needs; searches take it from a pool.
type scratch struct {
	unit    []float32
	query   []int16
	qscale  float32
	out     []float32
	pick    picker
	pool    []cand   // what a walk found
	seeds   []cand   // where its next level starts
	near    []uint32 // neighbours to score
	sums    []int32
	visited []uint8
	epoch   uint8
}

// prepare takes a query's unit vector in s.unit and encodes it.
func (s *scratch) prepare(width, k int) {
	s.query = sized(s.query, width)
	scale, slack := encodeQuery(s.query, s.unit)
	s.qscale = scale
	s.pick.reset(k, slack)
}

func sized[T any](b []T, n int) []T {
	if cap(b) < n {
		return make([]T, n)
	}
	return b[:n]
}

// scan offers every row in [from, to) that wanted accepts (nil: all). from is a multiple of
// rowGroup. The caller keeps writers away, or has to a multiple of rowGroup.
func (v *view) scan(s *scratch, from, to int, wanted func(slot uint32) bool) {
	s.out = sized(s.out, scanBlock)
	for at := from; at < to; at += scanBlock {
		count := min(scanBlock, to-at)
		padded := (count + rowGroup - 1) / rowGroup * rowGroup
		end := at + padded
		v.kern.scan(s.query, v.codes[at*v.width:end*v.width], v.width, padded, s.qscale,
			v.scale[at:end], v.slack[at:end], s.out)
		floor := s.pick.floor
		for i, upper := range s.out[:count] {
			if upper < floor {
				continue
			}
			slot := uint32(at + i)
			if wanted == nil || wanted(slot) {
				s.pick.offer(upper, v.slack[slot], slot)
				floor = s.pick.floor
			}
		}
	}
}

// visit starts a new round of marks over n slots.
func (s *scratch) visit(n int) {
	if len(s.visited) < n {
		s.visited, s.epoch = make([]uint8, n+n/8), 0
	}
	if s.epoch == math.MaxUint8 {
		clear(s.visited)
		s.epoch = 0
	}
	s.epoch++
}

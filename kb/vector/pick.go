package vector

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// cand is a slot a walk met, with its score from codes (larger is nearer). The top bit of at marks
// it as expanded during the walk.
type cand struct {
	score float32
	at    uint32
}

const expanded = 1 << 31

func (c cand) slot() uint32 { return c.at &^ expanded }

// picker keeps every row whose similarity can still be among the k best, judged by the bounds of
// what int8 codes lose. So what it keeps holds the exact answer among the rows it was offered.
type picker struct {
	k      int
	qslack float32 // what the query's own codes lose
	floor  float32 // rows below this upper bound cannot be in the answer
	lows   []float32
	picks  []cand // score is the upper bound
	hits   []hit
}

func (p *picker) reset(k int, qslack float32) {
	p.k, p.qslack, p.floor = k, qslack, float32(math.Inf(-1))
	p.lows, p.picks = p.lows[:0], p.picks[:0]
}

// offer takes a row whose upper bound is at least floor; slack is the row's own.
func (p *picker) offer(upper, slack float32, slot uint32) {
	p.picks = append(p.picks, cand{upper, slot})
	low := upper - 2*slack
	switch {
	case len(p.lows) < p.k:
		p.lows = append(p.lows, low)
		siftUp(p.lows)
	case low > p.lows[0]:
		p.lows[0] = low
		siftDown(p.lows)
	default:
		return
	}
	if len(p.lows) == p.k {
		p.floor = p.lows[0] - 2*p.qslack
	}
}

// hit is a picked slot with its true distance.
type hit struct {
	slot     uint32
	distance float32
}

// nearest computes the true distances of what was picked and gives the k nearest, ties by ID.
func (p *picker) nearest(v *view, unit []float32) []hit {
	p.hits = p.hits[:0]
	for _, c := range p.picks {
		if c.score >= p.floor {
			d := 1 - v.kern.dot(unit, v.float(c.at))
			p.hits = append(p.hits, hit{c.at, max(0, min(2, d))})
		}
	}
	slices.SortFunc(p.hits, func(a, b hit) int {
		if c := cmp.Compare(a.distance, b.distance); c != 0 {
			return c
		}
		return strings.Compare(v.ids[a.slot], v.ids[b.slot])
	})
	return p.hits[:min(p.k, len(p.hits))]
}

// siftUp and siftDown keep the smallest value of a heap at index 0.
func siftUp(h []float32) {
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if h[parent] <= h[i] {
			return
		}
		h[parent], h[i] = h[i], h[parent]
		i = parent
	}
}

func siftDown(h []float32) {
	for i := 0; ; {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if child+1 < len(h) && h[child+1] < h[child] {
			child++
		}
		if h[i] <= h[child] {
			return
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}

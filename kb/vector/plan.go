package vector

import "context"

// walker finds candidates without scoring every row. It covers slots [0, size) and is never written
// to once it is published.
type walker interface {
	size() int
	// walk leaves about width near slots in s.pool (scores from codes, any order) for the query
	// prepared in s. It gives the number of rows it scored.
	walk(s *scratch, width int) (int, error)
	// each calls f for every slot a pool entry stands for.
	each(slot uint32, f func(slot uint32))
	// extended gives a new walker over all of v, with the plan measured on it.
	extended(ctx context.Context, v view, cost float64) (walker, plan, error)
}

// plan is what calibration found: how wide a walk has to be on this data.
type plan struct {
	width  int     // beam that reaches wantRecall for planK; 0: none did
	scored float64 // rows a walk of that width scores, for each unit of width
}

const (
	planK      = 10
	wantRecall = 0.995 // on the sample; the promise is 0.99
	minWidth   = 96
	maxHeld    = 256
	walkCost   = 12 // a walk's row comes from far memory, a scan's from the next line (measured)
)

// widthFor is how wide a walk must be for k answers when one row in 1/share is wanted, or 0 when a
// scan of n rows is cheaper; cost is that of a walk's row, in rows of a scan.
func (p plan) widthFor(k int, share, cost float64, n int) int {
	if p.width == 0 || share <= 0 {
		return 0
	}
	width := float64(p.width) * max(1, float64(k)/planK) / share
	if width*p.scored*cost > float64(n) || width > float64(n) {
		return 0
	}
	return int(width)
}

func beamWidths() []int {
	return []int{16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024}
}

// holdOut splits the slots [from, to): an even sample of them, and the rest, both in order.
func holdOut(from, to int) (held, rest []uint32) {
	count := min(maxHeld, (to-from)/8)
	for slot := from; slot < to; slot++ {
		// The next held-out slot is the one at which the running share of held ones falls behind.
		if len(held)*(to-from) < (slot-from+1)*count && len(held) < count {
			held = append(held, uint32(slot))
		} else {
			rest = append(rest, uint32(slot))
		}
	}
	return held, rest
}

// calibrate asks for the rows in held, which the walker does not have yet, with a scan and with ever
// wider walks. The first width that finds wantRecall of what the scan found is the plan; there is
// none when a scan would be cheaper before that.
func calibrate(ctx context.Context, v *view, w walker, held []uint32, widths []int, cost float64) (plan, error) {
	out := make([]bool, v.n)
	for _, slot := range held {
		out[slot] = true
	}
	s := &scratch{}
	truth := make([]map[uint32]bool, len(held))
	total := 0
	for i, slot := range held {
		if err := ctx.Err(); err != nil {
			return plan{}, err
		}
		s.unit = v.float(slot)
		s.prepare(v.width, planK)
		v.scan(s, 0, v.n, func(slot uint32) bool { return !out[slot] })
		truth[i] = map[uint32]bool{}
		for _, h := range s.pick.nearest(v, s.unit) {
			truth[i][h.slot] = true
			total++
		}
	}
	for _, width := range widths {
		found, scored := 0, 0
		for i, slot := range held {
			if err := ctx.Err(); err != nil {
				return plan{}, err
			}
			s.unit = v.float(slot)
			s.prepare(v.width, planK)
			n, err := w.walk(s, width)
			if err != nil {
				return plan{}, err
			}
			scored += n
			s.offerPool(v, w, nil)
			for _, h := range s.pick.nearest(v, s.unit) {
				if truth[i][h.slot] {
					found++
				}
			}
		}
		if total > 0 && float64(found) >= wantRecall*float64(total) {
			// Half as wide again: the sample is small, and people's questions are less like the
			// rows than the rows are like each other.
			return plan{max(minWidth, width*3/2), float64(scored) / float64(len(held)*width)}, nil
		}
		if float64(scored)*cost > float64(v.n)*float64(len(held)) {
			break
		}
	}
	return plan{}, nil
}

// offerPool offers what a walk found and gives how many of it were wanted.
func (s *scratch) offerPool(v *view, w walker, wanted func(slot uint32) bool) int {
	count, base := 0, float32(0)
	offer := func(slot uint32) { // made once: a closure for each candidate is an allocation each
		if wanted != nil && !wanted(slot) {
			return
		}
		count++
		if upper := base + v.slack[slot]; upper >= s.pick.floor {
			s.pick.offer(upper, v.slack[slot], slot)
		}
	}
	for _, c := range s.pool {
		base = c.score * s.qscale
		w.each(c.slot(), offer)
	}
	return count
}

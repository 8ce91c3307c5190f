package rollout

import "semantos/safety/effect"

// levels are what each of several like targets read while untreated, before the slot at hand: they differ
// for good, and only what they do at the same moment is compared.
type levels map[int]level

type level struct {
	sum          float64 // of the logarithms of untreated readings
	count        int
	slots, heard int // untreated slots so far, and those with data
}

// speaks reports that a target mostly gave data until now while it was untreated. An idle one would make
// every slot incomplete; what it did before the slot does not depend on the slot's draw. One that falls
// silent when treated is not idle: its gaps count against the change.
func (l levels) speaks(unit int) bool {
	own := l[unit]
	return unit == 0 || own.slots == 0 || 3*own.heard >= 2*own.slots
}

func (l levels) heard(r reading, data bool) {
	if r.treated {
		return
	}
	own := l[r.unit]
	own.slots++
	if data {
		own.heard++
	}
	l[r.unit] = own
}

// above takes a unit's own level out of a reading. One that has none yet stands as it is.
func (l levels) above(r reading, x float64) float64 {
	if r.unit == 0 {
		return x
	}
	own := l[r.unit]
	out := x
	if own.count > 0 {
		out = x - own.sum/float64(own.count)
	}
	if !r.treated {
		own.sum += x
		own.count++
		l[r.unit] = own
	}
	return out
}

// addUnit adds a target's reading to the block of its slot, which is as large as there are targets that
// speak.
func addUnit(blocks []effect.Block, r reading, x float64, sameBlock bool) []effect.Block {
	if !sameBlock {
		blocks = append(blocks, effect.Block{})
	}
	b := &blocks[len(blocks)-1]
	b.Treated, b.X = append(b.Treated, r.treated), append(b.X, x)
	return blocks
}

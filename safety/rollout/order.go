package rollout

// slot is one turn of the exposure.
type slot struct {
	treated  bool
	baseline bool // untreated, before the first treated one
	block    block
	units    []int // treated, where like targets are exposed in part
	again    bool  // its units were not drawn, or are known by now
}

// block says within which group of slots the exposure was drawn.
type block struct {
	id     int // 0: it was not drawn
	size   int
	forced int  // leading slots whose exposure was not drawn
	last   bool // the slot ends it
}

const (
	// leastConfirm is how many slots the whole exposure gets beside untreated ones, however short the
	// stage time: fewer could prove nothing, whatever they say.
	leastConfirm = 40
	// leastPartial is how many slots a suspicion gets to prove or lose itself in a partial stage: three
	// against three are worse by chance, or by a meter slower than the stage, too often.
	leastPartial = 12
	// openingBlock is the first block of the whole exposure beside untreated slots: one of eight says as much
	// as six pairs where the effect is plain, and the pairs after it say more where it is not.
	openingBlock = 8
	// blocksAStage keeps the ids of the blocks of two stages apart.
	blocksAStage = 1 << 16
)

// confirmSize is the size of a block of [Plan].Confirm.
func confirmSize(i int) int {
	if i == 0 {
		return openingBlock
	}
	return 2
}

// upcoming is the next slot of the stage's order. A stage passes and ends at the end of a block only: a
// block cut short because of what was seen in it would no longer be a fair draw.
func (s Trial) upcoming() slot {
	slots, sizes, forced := s.plan().Slots, s.plan().Blocks, 1
	first := 1 + len(s.Stages)*2*blocksAStage
	if s.confirm {
		slots, sizes, forced, first = s.Plan.Confirm, nil, 0, first+blocksAStage
	}
	out := slot{treated: slots[s.at%len(slots)]}
	if s.at >= len(slots) {
		return out // from the start again: what was drawn is known by now, so it proves nothing
	}
	end := 0
	for i := 0; s.confirm && end < len(slots) || i < len(sizes); i++ {
		size := confirmSize(i)
		if !s.confirm {
			size = sizes[i]
		}
		if end += size; s.at < end {
			out.block = block{id: first + i, size: size, last: s.at == end-1}
			if i == 0 {
				out.block.forced = forced
			}
			return out
		}
	}
	return out
}

// between reports that the slot just done stands in the middle of a block.
func (s Trial) between() bool { return s.current.block.id != 0 && !s.current.block.last }

// hadItsChance reports that the stage got the fewest slots it is judged by, however slow the meter is.
func (s Trial) hadItsChance() bool {
	if s.whole() {
		return s.confirm && s.at >= leastConfirm
	}
	return len(s.plan().Blocks) == 0 || s.at >= max(leastPartial, s.plan().Blocks[0])
}

// turn chooses the slot to come.
func (s *Trial) turn() {
	switch {
	case len(s.Stages) == 1 && s.next < s.Plan.Baseline:
		s.current = slot{baseline: true}
	case s.whole() && !s.confirm && s.suspicious():
		s.current = slot{} // an untreated slot shows whether the load or the change did that
	case len(s.Plan.Units) > 0:
		s.current = s.drawn()
		s.at++
	default:
		s.current = s.upcoming()
		s.at++
	}
	s.next++
}

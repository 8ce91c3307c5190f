package ablate

import (
	"slices"

	"semantos/internal/tune"
	"semantos/safety/rollout"
)

// whole is the slot in which nothing is left out.
const whole = -1

// wholes of a block are compared with the one slot of each change: with two of them a block says more
// of each change than it costs in time.
const wholes = 2

// Pass is one series of blocks. In each, every change still in question is left out once and the bundle
// stands whole twice, in an order drawn anew. Nothing in it reads a clock or the machine.
type Pass struct {
	open   []int // changes in question
	order  []int // of the block under way
	at     int
	block  int
	slots  []slot
	judged map[int]rollout.Marginal
	said   map[int]tune.Finding // decided before the statistics were asked: it broke a limit
}

// slot is one that was measured, or failed to be.
type slot struct {
	block   int
	without int
	sample  *tune.MeterSample
}

// NewPass begins with the changes in question, by their place in the bundle.
func NewPass(open []int) *Pass {
	return &Pass{open: slices.Clone(open), judged: map[int]rollout.Marginal{}, said: map[int]tune.Finding{}}
}

// Next is the change to leave out now, or -1 for the whole bundle. shuffle draws an order of n.
func (p *Pass) Next(shuffle func(n int, swap func(i, j int))) int {
	for {
		if p.at == len(p.order) {
			p.block++
			p.order, p.at = append(slices.Repeat([]int{whole}, wholes), p.open...), 0
			shuffle(len(p.order), func(i, j int) { p.order[i], p.order[j] = p.order[j], p.order[i] })
		}
		if w := p.order[p.at]; w == whole || slices.Contains(p.open, w) {
			return w
		}
		// Its answer came in the middle of the block: nobody pays for it twice.
		p.slots = append(p.slots, slot{block: p.block, without: p.order[p.at]})
		p.at++
	}
}

// Take records the slot that Next gave; a nil sample is missing data.
func (p *Pass) Take(sample *tune.MeterSample) {
	p.slots = append(p.slots, slot{block: p.block, without: p.order[p.at], sample: sample})
	p.at++
}

// atEnd reports that a block has just ended: the evidence counts there.
func (p *Pass) atEnd() bool { return p.at == len(p.order) }

// Judge looks at the slots of every change in question and settles what can be. It may be asked after
// every slot: plain harm is settled at once, everything else at the end of a block.
func (p *Pass) Judge(policy rollout.Policy) {
	for _, i := range slices.Clone(p.open) {
		m := policy.Marginal(p.slotsOf(i))
		p.judged[i] = m
		switch {
		case m.Alarm:
			p.settle(i, tune.Earns, "plainly worse without it")
		case m.Limit != "" && m.Plain:
			p.settle(i, tune.Earns, "without it a limit breaks: "+m.Limit)
		case m.Limit != "": // near the limit chance breaks it too: no proof, and no reason to go on
			p.settle(i, tune.Undecided, "left out no more, a limit broke without it: "+m.Limit)
		case !p.atEnd():
		case m.Worse:
			p.settle(i, tune.Earns, "worse without it")
		case m.Better:
			p.settle(i, tune.Harms, "better without it")
		case m.NotWorse && !m.Leaning: // what looks better without it gets the time to show it
			p.settle(i, tune.Nothing, "not worse without it")
		}
	}
}

// Close settles what is left when the time is over.
func (p *Pass) Close() {
	for _, i := range slices.Clone(p.open) {
		if p.judged[i].NotWorse {
			p.settle(i, tune.Nothing, "not worse without it")
		}
	}
}

func (p *Pass) settle(i int, v tune.Worth, why string) {
	p.said[i] = tune.Finding{Worth: v, Why: why}
	p.open = slices.DeleteFunc(p.open, func(o int) bool { return o == i })
}

// Done reports that every change has its answer.
func (p *Pass) Done() bool { return len(p.open) == 0 }

// Finding is what the pass says of a change.
func (p *Pass) Finding(i int) tune.Finding {
	f, ok := p.said[i]
	if !ok {
		f = tune.Finding{Worth: tune.Undecided, Why: "not enough slots to tell"}
	}
	f.Effect = p.judged[i].Effect
	return f
}

// slotsOf are the slots in which a change was left out and those beside them in which nothing was, block
// by block.
func (p *Pass) slotsOf(i int) []rollout.Drawn {
	var out []rollout.Drawn
	for _, s := range p.slots {
		if s.without == i || s.without == whole {
			out = append(out, rollout.Drawn{Block: s.block, Size: 1 + wholes, Treated: s.without == i, Sample: s.sample})
		}
	}
	return out
}

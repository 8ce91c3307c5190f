package rollout

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"semantos/internal/tune"
)

// Tunables finds catalogue entries by the name of an instance.
type Tunables interface {
	Lookup(name string) (t *tune.Tunable, target string, err error)
}

// The ways to expose a part over time; [modeTargets] is over targets. Mode of a [tune.Stage].
const (
	modeSwitchback = "switchback"
	modeDose       = "dose"
)

// PlanRequest is what a plan is made from.
type PlanRequest struct {
	Changes   []tune.Change
	Steps     []float64 // shares in percent, rising
	StageTime time.Duration
	// Fresh: each sample of the meter makes its own sockets and opens its own files, so that it sees a
	// value that holds for new ones at once, and drops it at once.
	Fresh bool
	// Apart reports that the meter measures like targets each by itself.
	Apart bool
}

// Plan is the timetable of a rollout: made once, with all its randomness, so that Step needs none.
type Plan struct {
	Stages    []PlanStage
	StageTime time.Duration
	Settle    time.Duration // let pass after each change of exposure
	Sample    time.Duration // one meter sample
	Baseline  int           // untreated slots before the first treated one
	Units     []tune.Unit   // the like targets that are exposed in part; none: the bundle is one thing
	// ConfirmDraws is the whole exposure of units beside untreated ones: half of them in each slot.
	ConfirmDraws [][]int
	Confirm      []bool // the whole exposure beside untreated slots: treated or not
	// Caveat is said where nothing was found: what the measured program had open before the write
	// keeps the old value, so that no effect may only mean that it opened nothing since.
	Caveat string
}

// PlanStage is one stage: its slots come in this order, from the start again when more are needed.
type PlanStage struct {
	Share   float64 // asked, percent
	Mode    string
	Dose    float64 // how far the values go while treated, (0..1]
	Changes []tune.Change
	Slots   []bool  // treated
	Draws   [][]int // over units: which of them are treated, for each of Slots
	Blocks  []int   // sizes of the groups within which Slots were drawn; none: nothing was drawn
	Note    string  // why it differs from what was asked
}

// Slot is the length of one slot.
func (p Plan) Slot() time.Duration { return p.Settle + p.Sample }

// slots is how many fit into a stage.
func (p Plan) slots() int { return int(math.Ceil(float64(p.StageTime)/float64(p.Slot()) - 0.01)) }

// Total is how long the rollout takes if each stage is judged at its earliest.
func (p Plan) Total() time.Duration { return time.Duration(len(p.Stages)) * p.StageTime }

const (
	mostBaseline = 1500 * time.Millisecond // an untreated slot first, and the first treated one still begins within two seconds
	leastSettle  = 200 * time.Millisecond  // queues of the last slot drain
	leastSample  = time.Second             // signals are read every second
	slotsAStage  = 40                      // longer stages get longer slots, not more of them
	repeats      = 5                       // a stage lasts five times its length at most
)

// NewPlan lays out stages and slots. rng places the treated slots.
func NewPlan(req PlanRequest, tunables Tunables, rng *rand.Rand) (Plan, error) {
	if len(req.Changes) == 0 {
		return Plan{}, fmt.Errorf("plan rollout: no changes: %w", tune.ErrUsage)
	}
	if req.StageTime <= 0 {
		return Plan{}, fmt.Errorf("plan rollout: stage time %s: %w", req.StageTime, tune.ErrUsage)
	}
	entries := make([]*tune.Tunable, len(req.Changes))
	for i, c := range req.Changes {
		t, _, err := tunables.Lookup(c.Tunable)
		if err != nil {
			return Plan{}, fmt.Errorf("plan rollout: %w", err)
		}
		entries[i] = t
	}
	p := Plan{StageTime: req.StageTime, Sample: max(leastSample, req.StageTime/slotsAStage)}
	var note string
	p.Settle, note = settleTime(entries, req.StageTime)
	p.Confirm = confirmation(repeats*p.slots()+leastConfirm, rng)
	units := tune.Units(req.Changes)
	switch {
	case len(units) < fewestUnits:
	case !req.Apart:
		note = join(note, fmt.Sprintf("the meter cannot tell %d like targets apart, so all of them take turns together", len(units)))
	case outlives(req.Changes) && !req.Fresh:
		note = join(note, fmt.Sprintf("%d like targets change together: none of them can be drawn anew for each slot", len(units)))
	default:
		p.targets(req, units, rng)
		p.Stages[0].Note = join(p.Stages[0].Note, note)
		return p, nil
	}
	if outlives(req.Changes) && !req.Fresh {
		p.Caveat = caveat(req.Changes)
		if canDose(entries, req.Changes) {
			p.dose(req, entries, rng)
			p.Stages[0].Note = join(p.Stages[0].Note, note)
			return p, nil
		}
		note = join(note, kept(req.Changes)+", which blurs the comparison with untreated slots")
	}
	p.switchback(req, rng)
	p.Stages[0].Note = join(p.Stages[0].Note, note)
	return p, nil
}

// settleTime is the longest of the bundle, but no more than a fifth of a stage: two slots a side must fit.
func settleTime(entries []*tune.Tunable, stage time.Duration) (time.Duration, string) {
	settle := leastSettle
	slowest := ""
	for _, t := range entries {
		if t.Settle() > settle {
			settle, slowest = t.Settle(), t.Name
		}
	}
	if most := max(leastSettle, stage/5); settle > most {
		return most, fmt.Sprintf("%s settles in %s, a slot waits %s: give a longer stage time to see all of it",
			slowest, settle, most.Round(100*time.Millisecond))
	}
	return settle, ""
}

func outlives(changes []tune.Change) bool {
	for _, c := range changes {
		if c.TakesEffect.Outlives() {
			return true
		}
	}
	return false
}

func caveat(changes []tune.Change) string {
	for _, c := range changes {
		switch c.TakesEffect {
		case tune.NewMappings:
			return c.Tunable + " is felt by files opened and memory mapped after the write, not by what a program holds already"
		case tune.NewSockets:
			return c.Tunable + " is felt by sockets made after the write, not by those open already"
		}
	}
	return ""
}

// kept says what outlives a slot, and a restore.
func kept(changes []tune.Change) string {
	sockets, files := false, false
	for _, c := range changes {
		sockets = sockets || c.TakesEffect == tune.NewSockets
		files = files || c.TakesEffect == tune.NewMappings
	}
	what := "files opened and memory mapped"
	switch {
	case sockets && files:
		what = "sockets made, " + what
	case sockets:
		what = "sockets made"
	}
	return what + " while it is tried keep the value until they are closed"
}

func canDose(entries []*tune.Tunable, changes []tune.Change) bool {
	for i, t := range entries {
		if !dosable(t, changes[i]) {
			return false
		}
	}
	return true
}

// switchback exposes the whole change in a share of the slots.
func (p *Plan) switchback(req PlanRequest, rng *rand.Rand) {
	slot := p.Slot()
	skipped := ""
	for _, share := range partial(req.Steps) {
		if time.Duration(share/100*float64(p.StageTime)) < slot {
			skipped = fmt.Sprintf("%.0f %% of %s is shorter than a slot of %s; began at the first share that fits",
				share, p.StageTime, slot)
			continue
		}
		p.Stages = append(p.Stages, p.switchbackStage(share, req.Changes, rng))
	}
	if len(p.Stages) == 0 {
		p.Stages = append(p.Stages, p.switchbackStage(50, req.Changes, rng))
		skipped = join(skipped, "half of the slots stay untreated first, or there was nothing to compare with")
	}
	p.Stages[0].Note = skipped
	p.Stages = append(p.Stages, PlanStage{Share: 100, Mode: modeSwitchback, Dose: 1,
		Changes: req.Changes, Slots: []bool{true}})
}

func (p *Plan) switchbackStage(share float64, changes []tune.Change, rng *rand.Rand) PlanStage {
	n := max(2, p.slots())
	treated := min(n-1, max(1, int(share/100*float64(n)+0.001)))
	st := PlanStage{Share: share, Mode: modeSwitchback, Dose: 1, Changes: changes}
	st.Slots, st.Blocks = blocks(n, treated, rng)
	return st
}

// dose exposes everything all the time, first a small part of the way, and returns to the old values in
// one slot of three so that each stage has its own untreated slots.
func (p *Plan) dose(req PlanRequest, entries []*tune.Tunable, rng *rand.Rand) {
	if p.Slot() <= mostBaseline {
		p.Baseline = 1 // the first treated slot still begins within two seconds
	}
	n := max(3, p.slots())
	steps := partial(req.Steps)
	if len(steps) == 0 {
		steps = []float64{50}
	}
	for _, share := range append(steps, 100) {
		st := PlanStage{Share: share, Mode: modeDose, Dose: share / 100, Slots: []bool{true}}
		for i, c := range req.Changes {
			st.Changes = append(st.Changes, dose(entries[i], c, st.Dose))
		}
		if share < 100 {
			st.Slots, st.Blocks = blocks(n, n-max(1, n/3), rng)
		}
		p.Stages = append(p.Stages, st)
	}
	p.Stages[0].Note = kept(req.Changes) + ", so it moves a part of the way in each stage"
}

// partial gives the shares below the whole, rising. The whole comes last in every plan.
func partial(steps []float64) []float64 {
	var out []float64
	for _, s := range steps {
		if s > 0 && s < 100 {
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// blocks spreads k treated slots over n, [repeats] times: the rarer kind stands once in each block, at a
// place drawn for it, and the very first slot is treated. sizes are those of the blocks.
func blocks(n, k int, rng *rand.Rand) (slots []bool, sizes []int) {
	rare, rareTreated := k, true
	if k > n-k {
		rare, rareTreated = n-k, false
	}
	for range repeats {
		for b := range rare {
			size := n*(b+1)/rare - n*b/rare
			at := rng.IntN(size)
			if len(slots) == 0 {
				at = 0
				if !rareTreated && size > 1 {
					at = 1 + rng.IntN(size-1)
				}
			}
			for i := range size {
				slots = append(slots, (i == at) == rareTreated)
			}
			sizes = append(sizes, size)
		}
	}
	return slots, sizes
}

// confirmation draws at least n slots, half of them treated: a block of eight, then pairs. Of all blocks
// pairs say most amid noise, and no more than two treated slots follow one another.
func confirmation(n int, rng *rand.Rand) []bool {
	var slots []bool
	for i := 0; len(slots) < n; i++ {
		size := confirmSize(i)
		block := make([]bool, size)
		for _, at := range rng.Perm(size)[:size/2] {
			block[at] = true
		}
		slots = append(slots, block...)
	}
	return slots
}

func join(a, b string) string {
	switch {
	case a == "":
		return b
	case b == "":
		return a
	}
	return a + "; " + b
}

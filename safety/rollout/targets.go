package rollout

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"semantos/internal/tune"
)

// modeTargets exposes a share of like targets at a time, drawn anew for each slot.
const modeTargets = "targets"

// targets lays out stages in which some units have the whole change and the others stand beside them. How
// many have it in a slot is such that the share of unit-time is what the stage says; which, is drawn.
func (p *Plan) targets(req PlanRequest, units []tune.Unit, rng *rand.Rand) {
	p.Units = units
	if p.Slot() <= mostBaseline {
		p.Baseline = 1 // each unit's own level is known before the first comparison
	}
	steps := partial(req.Steps)
	if len(steps) == 0 {
		steps = []float64{50}
	}
	n := len(units)
	for _, share := range steps {
		st := PlanStage{Share: share, Mode: modeTargets, Dose: 1, Changes: req.Changes}
		st.Draws = draws(share/100*float64(n), n, repeats*p.slots(), rng)
		st.Slots = anyOf(st.Draws)
		st.Note = shareOf(share, n)
		p.Stages = append(p.Stages, st)
	}
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	p.Stages = append(p.Stages, PlanStage{Share: 100, Mode: modeTargets, Dose: 1, Changes: req.Changes,
		Slots: []bool{true}, Draws: [][]int{all}})
	p.ConfirmDraws = draws(float64(n)/2, n, repeats*p.slots()+leastConfirm, rng)
	p.Stages[0].Note = join(fmt.Sprintf("%d like targets, measured each by itself: compared with one another in the same slot", n), p.Stages[0].Note)
}

// shareOf says what a share of units and time comes to.
func shareOf(share float64, n int) string {
	each := share / 100 * float64(n)
	switch low := math.Floor(each + 1e-9); {
	case each < 1:
		return fmt.Sprintf("%.4g %%: 1 of %d targets in %.3g %% of the slots", share, n, 100*each)
	case each-low < 1e-6:
		return fmt.Sprintf("%.4g %%: %.0f of %d targets at a time", share, low, n)
	default:
		return fmt.Sprintf("%.4g %%: %.0f or %.0f of %d targets at a time", share, low, low+1, n)
	}
}

// draws gives, for each of slots, which of n units are treated: each on average, the first slot at least
// one of them.
func draws(each float64, n, slots int, rng *rand.Rand) [][]int {
	out := make([][]int, slots)
	for t := range out {
		count := int(math.Ceil(float64(t+1)*each-1e-9)) - int(math.Ceil(float64(t)*each-1e-9))
		out[t] = rng.Perm(n)[:min(count, n)]
		slices.Sort(out[t])
	}
	return out
}

func anyOf(draws [][]int) []bool {
	out := make([]bool, len(draws))
	for i, d := range draws {
		out[i] = len(d) > 0
	}
	return out
}

// drawn is the next slot of a plan over units. A slot's units were drawn by themselves, so that each slot is
// a block; from the start again, what was drawn is known and proves nothing.
func (s Trial) drawn() slot {
	list := s.plan().Draws
	if s.confirm {
		list = s.Plan.ConfirmDraws
	}
	d := slices.DeleteFunc(slices.Clone(list[s.at%len(list)]), func(u int) bool { return slices.Contains(s.lost, u) })
	out := slot{treated: len(d) > 0, units: d, again: s.at >= len(list)}
	if s.whole() && !s.confirm {
		out.again = true // all of them: nothing was drawn
	}
	return out
}

// overUnits brings the units to where the slot under way wants them: those that leave are put back first.
func (s Trial) overUnits() (Trial, []Effect) {
	var out []Effect
	leave := slices.DeleteFunc(slices.Clone(s.standing), func(u int) bool { return slices.Contains(s.current.units, u) })
	enter := slices.DeleteFunc(slices.Clone(s.current.units), func(u int) bool { return slices.Contains(s.standing, u) })
	if len(leave) > 0 {
		out = append(out, Effect{Do: DoRevert, Targets: s.targetsOf(leave)})
	}
	if len(enter) > 0 {
		out = append(out, Effect{Do: DoExpose, Changes: s.changesOf(enter)})
	}
	settle := s.Plan.Settle
	if len(out) == 0 {
		settle = 0
	}
	s.standing = slices.Clone(s.current.units)
	s.exposed, s.dosed = len(s.standing) > 0, 1
	return s, append(out, Effect{Do: DoMeasure, Settle: settle, Sample: s.Plan.Sample})
}

func (s Trial) changesOf(units []int) []tune.Change {
	var out []tune.Change
	for _, u := range units {
		for _, i := range s.Plan.Units[u].Changes {
			out = append(out, s.plan().Changes[i])
		}
	}
	return out
}

func (s Trial) targetsOf(units []int) []string {
	var out []string
	for _, c := range s.changesOf(units) {
		if !slices.Contains(out, c.Target) {
			out = append(out, c.Target)
		}
	}
	return out
}

// left gives the units that are still there and not in some.
func (s Trial) left(some []int) []int {
	var out []int
	for u := range s.Plan.Units {
		if !slices.Contains(s.lost, u) && !slices.Contains(some, u) {
			out = append(out, u)
		}
	}
	return out
}

// takeUnits records one slot of every unit. Untreated units stand between treated ones, so that no two
// treated readings look like one run.
func (s *Trial) takeUnits(o Observation) {
	st := s.stage()
	blk := block{id: 1 + len(s.Stages)*2*blocksAStage + s.at, size: len(s.Plan.Units) - len(s.lost)}
	if s.confirm {
		blk.id += blocksAStage
	}
	if s.current.again || s.current.baseline {
		blk = block{}
	}
	any, anyTreated := false, false
	for _, u := range s.inTurn() {
		treated := slices.Contains(s.current.units, u)
		var sample *tune.MeterSample
		if u < len(o.Units) {
			sample = o.Units[u]
		}
		switch {
		case s.Policy.Measured && sample == nil:
		case treated:
			any, anyTreated = true, true
			st.Treated++
		default:
			any = true
			st.Compared++
		}
		if s.Policy.Measured {
			s.readings = append(s.readings, reading{stage: len(s.Stages) - 1, treated: treated, unit: u + 1, block: blk, sample: sample})
		}
	}
	s.readings = remember(s.readings, keepPlainUnits*len(s.Plan.Units))
	s.misses++
	if any {
		s.misses = 0
	}
	switch {
	case anyTreated:
		s.blind = 0
	case s.current.treated:
		s.blind++
	}
	st.Exposed = 100 * float64(st.Treated) / float64(max(1, st.Treated+st.Compared))
}

// inTurn is the order in which a slot's units are written down: treated ones spread among the others.
func (s Trial) inTurn() []int {
	treated := slices.DeleteFunc(slices.Clone(s.current.units), func(u int) bool { return slices.Contains(s.lost, u) })
	others := s.left(treated)
	out := make([]int, 0, len(treated)+len(others))
	for i, u := range treated {
		from, to := len(others)*i/(len(treated)+1), len(others)*(i+1)/(len(treated)+1)
		out = append(append(out, others[from:to]...), u)
	}
	return append(out, others[len(others)*len(treated)/(len(treated)+1):]...)
}

// loseUnits drops units whose target has vanished, from both sides.
func (s Trial) loseUnits(gone []string, why string) Trial {
	for u, unit := range s.Plan.Units {
		if slices.Contains(gone, unit.Target) && !slices.Contains(s.lost, u) {
			s.lost = append(slices.Clone(s.lost), u)
		}
	}
	isLost := func(u int) bool { return slices.Contains(s.lost, u) }
	s.standing = slices.DeleteFunc(slices.Clone(s.standing), isLost)
	s.current.units = slices.DeleteFunc(slices.Clone(s.current.units), isLost)
	s.Stages = slices.Clone(s.Stages)
	s.stage().Reason = join(s.stage().Reason, why)
	return s
}

// leftOut names the units whose target has vanished, in what is said of the stage at its end.
func (s Trial) leftOut() string {
	var names []string
	for _, u := range s.lost {
		names = append(names, s.Plan.Units[u].Target)
	}
	if len(names) == 0 {
		return ""
	}
	return "left out, vanished: " + strings.Join(names, ", ")
}

// fewestUnits are needed to compare at all.
const fewestUnits = 2

// keepPlainUnits is how many slots outside any draw are remembered of each unit.
const keepPlainUnits = 20

// checkUnits refuses a saved plan over units that names what is not there.
func (s Trial) checkUnits() error {
	n := len(s.Plan.Units)
	known := func(list []int) bool {
		return !slices.ContainsFunc(list, func(u int) bool { return u < 0 || u >= n })
	}
	ok := known(s.standing) && known(s.lost) && known(s.current.units)
	lists := slices.Clone(s.Plan.ConfirmDraws)
	for _, st := range s.Plan.Stages {
		ok = ok && (n == 0 || len(st.Draws) > 0)
		lists = append(lists, st.Draws...)
		for _, u := range s.Plan.Units {
			ok = ok && !slices.ContainsFunc(u.Changes, func(i int) bool { return i < 0 || i >= len(st.Changes) })
		}
	}
	for _, l := range lists {
		ok = ok && known(l)
	}
	for _, r := range s.readings {
		ok = ok && r.unit >= 0 && r.unit <= n
	}
	if !ok || n > 0 && len(s.Plan.ConfirmDraws) == 0 {
		return errors.New("its targets do not fit its plan")
	}
	return nil
}

package rollout

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"semantos/internal/tune"
)

// namespaces is a bundle of n like targets.
func namespaces(n int, effect tune.TakesEffect) []tune.Change {
	var out []tune.Change
	for i := range n {
		out = append(out, tune.Change{Tunable: "net.x", Scope: tune.ScopeNetns, Target: fmt.Sprintf("netns:%d", i+1),
			Current: "1", Proposed: "2", TakesEffect: effect})
	}
	return out
}

func unitPlan(t testing.TB, n int, stage time.Duration, seed uint64) Plan {
	t.Helper()
	p, err := NewPlan(PlanRequest{Changes: namespaces(n, tune.Immediately), Steps: []float64{5, 25, 50, 100}, StageTime: stage,
		Fresh: true, Apart: true}, book1(&tune.Tunable{Name: "net.x", Kind: tune.KindInteger}), rand.New(rand.NewPCG(seed, 1)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// world is what a rollout over units acts on: each unit has a level of its own.
type world struct {
	rng      *rand.Rand
	level    []float64
	on       map[string]bool
	factor   float64 // what treatment does to p95
	gone     map[int]bool
	silenced map[int]bool                              // give no data while treated
	change   func(u int, on bool, s *tune.MeterSample) // what is else of a unit; may be nil
	exposure [][]float64                               // seconds treated, by stage and unit
	seconds  []float64                                 // by stage
}

func (w *world) samples() []*tune.MeterSample {
	out := make([]*tune.MeterSample, len(w.level))
	for u := range out {
		if w.gone[u] || w.silenced[u] && w.on[fmt.Sprintf("netns:%d", u+1)] {
			continue
		}
		p95 := w.level[u] * math.Exp(0.1*w.rng.NormFloat64())
		if w.on[fmt.Sprintf("netns:%d", u+1)] {
			p95 *= w.factor
		}
		out[u] = &tune.MeterSample{P95MS: p95, MedianMS: p95 / 2, Throughput: 100}
		if w.change != nil {
			w.change(u, w.on[fmt.Sprintf("netns:%d", u+1)], out[u])
		}
	}
	return out
}

// play runs a trial over units to its end, and integrates what each unit really had.
func (w *world) play(t testing.TB, trial Trial) Trial {
	t.Helper()
	now := time.Unix(1000, 0)
	var effects []Effect
	o := Observation{Kind: KindBegin}
	for steps := 0; !trial.Over(); steps++ {
		if steps > 3000 {
			t.Fatal("no end")
		}
		trial, effects = Step(trial, o, now)
		o = Observation{Kind: KindDone}
		for _, e := range effects {
			switch e.Do {
			case DoExpose:
				for _, c := range e.Changes {
					w.on[c.Target] = true
				}
			case DoRevert:
				for _, target := range e.Targets {
					delete(w.on, target)
				}
				if len(e.Targets) == 0 {
					clear(w.on)
				}
			case DoRollback:
				clear(w.on)
			case DoMeasure:
				d := e.Settle + e.Sample
				now = now.Add(d)
				w.integrate(len(trial.Stages)-1, d)
				o = Observation{Kind: KindSlot, Units: w.samples()}
			}
		}
	}
	return trial
}

func (w *world) integrate(stage int, d time.Duration) {
	for len(w.exposure) <= stage {
		w.exposure, w.seconds = append(w.exposure, make([]float64, len(w.level))), append(w.seconds, 0)
	}
	w.seconds[stage] += d.Seconds()
	for u := range w.level {
		if w.on[fmt.Sprintf("netns:%d", u+1)] {
			w.exposure[stage][u] += d.Seconds()
		}
	}
}

func newWorld(n int, factor float64, seed uint64) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 9)), on: map[string]bool{}, factor: factor, gone: map[int]bool{}}
	for range n {
		w.level = append(w.level, 5*math.Exp(w.rng.NormFloat64())) // far apart
	}
	return w
}

func unitPolicy() Policy { return Policy{Measured: true, Margin: 0.1} }

// A share is what it says: the unit-time treated in a stage, integrated, is its share within one slot of one
// unit, whatever the number of targets.
func TestShareOfUnitsIsWhatItSays(t *testing.T) {
	t.Parallel()
	for _, n := range []int{2, 3, 4, 7, 10, 20, 33, 64} {
		p := unitPlan(t, n, 30*time.Second, uint64(n))
		for _, st := range p.Stages[:3] {
			if st.Mode != modeTargets {
				t.Fatalf("%d targets: mode %s", n, st.Mode)
			}
			slots := p.slots()
			treated := 0
			for _, d := range st.Draws[:slots] {
				treated += len(d)
			}
			if got, want := float64(treated), st.Share/100*float64(n*slots); math.Abs(got-want) > 1 {
				t.Errorf("%d targets at %.0f %%: %v unit-slots of %d, want %v", n, st.Share, got, n*slots, want)
			}
			if len(st.Draws[0]) == 0 {
				t.Errorf("%d targets at %.0f %%: the first slot is untreated", n, st.Share)
			}
		}
	}
}

// The same, integrated over what a whole rollout really exposed, clock and all.
func TestRealExposureOfUnits(t *testing.T) {
	t.Parallel()
	for _, n := range []int{4, 20} {
		w := newWorld(n, 1, uint64(n))
		p := unitPlan(t, n, 60*time.Second, 5)
		policy := unitPolicy()
		policy.Set = true
		trial := w.play(t, NewTrial(p, policy))
		for i, share := range []float64{5, 25, 50} {
			sum := 0.0
			for _, s := range w.exposure[i] {
				sum += s
			}
			slot := p.Slot().Seconds()
			baseline := 0.0
			if i == 0 {
				baseline = slot * float64(n) // before the first treated slot
			}
			all := w.seconds[i]*float64(n) - baseline
			if want := share / 100 * all; math.Abs(sum-want) > 2*slot {
				t.Errorf("%d targets, stage %.0f %%: %.1f unit-seconds treated of %.1f, want %.1f (%s)", n, share, sum, all, want, trial.Detail)
			}
		}
	}
}

// Which units are treated is drawn evenly.
func TestDrawIsEven(t *testing.T) {
	t.Parallel()
	count := make([]int, 10)
	for _, d := range draws(2.5, 10, 4000, rand.New(rand.NewPCG(1, 2))) {
		if !slices.IsSorted(d) || len(d) < 2 || len(d) > 3 {
			t.Fatalf("draw %v", d)
		}
		for _, u := range d {
			count[u]++
		}
	}
	for u, c := range count {
		if c < 850 || c > 1150 { // 1000 expected, five standard deviations
			t.Errorf("unit %d was drawn %d times of 1000", u, c)
		}
	}
}

// Far apart levels do not hide an effect, and cause none.
func TestUnitsAreJudged(t *testing.T) {
	t.Parallel()
	kept, worse, undone := 0, 0, 0
	const runs = 40
	for seed := range uint64(runs) {
		if trial := newWorld(8, 0.7, seed).play(t, NewTrial(unitPlan(t, 8, 10*time.Second, seed), unitPolicy())); trial.State == tune.Committed {
			kept++
			if e := trial.Effect; e == nil || e.High >= 1 || e.Metric != metricP95 {
				t.Errorf("kept with effect %+v", e)
			}
		}
		if trial := newWorld(8, 1, seed).play(t, NewTrial(unitPlan(t, 8, 10*time.Second, seed), unitPolicy())); trial.State == tune.Committed || trial.Reason == tune.ReasonWorse {
			worse++
		}
		w := newWorld(8, 3, seed)
		trial := w.play(t, NewTrial(unitPlan(t, 8, 10*time.Second, seed), unitPolicy()))
		if trial.Reason == tune.ReasonWorse && len(trial.Stages) == 1 && len(w.on) == 0 {
			undone++
		}
	}
	if kept < runs*9/10 || worse > runs/10 || undone < runs*9/10 {
		t.Errorf("of %d: %d better ones kept, %d equal ones judged, %d threefold worse undone in the first stage", runs, kept, worse, undone)
	}
}

// A target that vanishes is left out and named, and the others go on; with too few left it ends.
func TestUnitVanishes(t *testing.T) {
	t.Parallel()
	trial := NewTrial(unitPlan(t, 4, 10*time.Second, 3), unitPolicy())
	now := time.Unix(1000, 0)
	trial, _ = Step(trial, Observation{Kind: KindBegin}, now)
	trial, effects := Step(trial, Observation{Kind: KindGone, Gone: []string{"netns:2"}, Why: "netns:2 vanished"}, now)
	if len(effects) == 0 || effects[len(effects)-1].Do != DoMeasure || !strings.Contains(trial.Stages[0].Reason, "netns:2") {
		t.Fatalf("effects %+v, reason %q", effects, trial.Stages[0].Reason)
	}
	w := newWorld(4, 0.6, 1)
	w.gone[1] = true
	back := reload(t, trial, now)
	for range 30 {
		back, effects = Step(back, Observation{Kind: KindSlot, Units: w.samples()}, now)
		for _, e := range effects {
			for _, c := range e.Changes {
				if c.Target == "netns:2" {
					t.Fatal("a vanished target is written")
				}
			}
		}
	}
	back, effects = Step(back, Observation{Kind: KindGone, Gone: []string{"netns:1", "netns:3"}, Why: "two more vanished"}, now)
	if len(effects) != 1 || effects[0].Do != DoRollback || back.Reason != tune.ReasonInconclusive {
		t.Errorf("one target left: %+v, %s", effects, back.Reason)
	}
	for _, st := range back.Stages {
		if !strings.Contains(st.Reason, "netns:2") {
			t.Errorf("the report of a stage does not name what vanished: %q", st.Reason)
		}
	}
}

// The planner says why it takes turns instead.
func TestUnitsNeedAMeterThatTellsThemApart(t *testing.T) {
	t.Parallel()
	req := PlanRequest{Changes: namespaces(5, tune.Immediately), Steps: []float64{5, 50, 100}, StageTime: 30 * time.Second, Fresh: true}
	book := book1(&tune.Tunable{Name: "net.x", Kind: tune.KindInteger})
	p, err := NewPlan(req, book, rand.New(rand.NewPCG(1, 1)))
	if err != nil || p.Stages[0].Mode != modeSwitchback || !strings.Contains(p.Stages[0].Note, "apart") {
		t.Errorf("plan %+v, %v", p.Stages[0], err)
	}
	req.Changes, req.Apart, req.Fresh = namespaces(5, tune.NewSockets), true, false
	p, err = NewPlan(req, book, rand.New(rand.NewPCG(1, 1)))
	if err != nil || p.Stages[0].Mode == modeTargets {
		t.Errorf("what outlives a slot takes turns: %+v, %v", p.Stages[0], err)
	}
}

// A target that answers nobody says nothing, and keeps nothing from being judged.
func TestIdleUnitIsNotInTheWay(t *testing.T) {
	t.Parallel()
	kept := 0
	for seed := range uint64(10) {
		w := newWorld(8, 0.6, seed)
		w.gone[2], w.gone[5] = true, true
		trial := w.play(t, NewTrial(unitPlan(t, 8, 10*time.Second, seed), unitPolicy()))
		if trial.State == tune.Committed {
			kept++
		}
	}
	if kept < 8 {
		t.Errorf("kept %d of 10", kept)
	}
}

// What outlives a slot is not drawn anew among targets, and the plan says what is done instead and why.
func TestPlanOverTargetsSaysWhatOutlives(t *testing.T) {
	t.Parallel()
	book := book1(&tune.Tunable{Name: "net.x", Kind: tune.KindInteger})
	word := namespaces(5, tune.NewSockets)
	for i := range word {
		word[i].Current, word[i].Proposed = "reno", "cubic"
	}
	for _, c := range []struct {
		changes []tune.Change
		book    Tunables
		fresh   bool
		mode    string
		says    []string
	}{
		{namespaces(5, tune.NewSockets), book, true, modeTargets, []string{"5 like targets, measured each by itself"}},
		{namespaces(5, tune.NewSockets), book, false, modeDose, []string{"sockets made while it is tried keep the value",
			"moves a part of the way", "5 like targets change together", "not by those open already"}},
		{namespaces(5, tune.NewMappings), book, false, modeDose, []string{"files opened and memory mapped while it is tried keep the value"}},
		{word, book1(&tune.Tunable{Name: "net.x", Kind: tune.KindEnum}), false, modeSwitchback, []string{"blurs the comparison", "5 like targets change together"}},
	} {
		p, err := NewPlan(PlanRequest{Changes: c.changes, Steps: []float64{25, 100}, StageTime: 10 * time.Second, Fresh: c.fresh, Apart: true},
			c.book, rand.New(rand.NewPCG(1, 1)))
		if err != nil {
			t.Fatal(err)
		}
		first := p.Outline()[0]
		for _, words := range c.says {
			if first.Mode != c.mode || !strings.Contains(first.Why, words) {
				t.Errorf("%s instead of %s, and %q does not say %q", first.Mode, c.mode, first.Why, words)
			}
		}
	}
}

package simulate

import (
	"fmt"
	"math/rand/v2"
	"time"

	"semantos/internal/tune"
	"semantos/safety/rollout"
)

// Setting is how the rollouts are run.
type Setting struct {
	Stage  time.Duration
	Steps  []float64
	Margin float64
	Set    bool // the operator's own change
}

// Defaults are those of the command line.
func Defaults() Setting {
	return Setting{Stage: 15 * time.Second, Steps: []float64{5, 25, 50, 100}, Margin: 0.10}
}

// Outcome is how one rollout ended.
type Outcome struct {
	State   tune.State
	Reason  string
	Effect  *tune.Effect
	Treated int // slots
	Slots   int
	Took    time.Duration
}

// Kept reports that the change stays.
func (o Outcome) Kept() bool { return o.State == tune.Committed }

// Worse reports that the change was judged worse.
func (o Outcome) Worse() bool { return o.Reason == tune.ReasonWorse }

const name = "vm.swappiness"

type book struct{}

func (book) Lookup(string) (*tune.Tunable, string, error) {
	return &tune.Tunable{Name: name, Kind: tune.KindInteger}, "", nil
}

// Play runs one rollout; equal seeds give equal outcomes.
func Play(set Setting, load Load, seed uint64) (Outcome, error) {
	rng := rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))
	plan, err := rollout.NewPlan(rollout.PlanRequest{Steps: set.Steps, StageTime: set.Stage, Fresh: true,
		Changes: []tune.Change{{Tunable: name, Scope: tune.ScopeHost, Target: "host", Current: "60", Proposed: "10",
			TakesEffect: tune.Immediately}}}, book{}, rng)
	if err != nil {
		return Outcome{}, fmt.Errorf("simulate rollout: %w", err)
	}
	p := play{trial: rollout.NewTrial(plan, rollout.Policy{Measured: true, Margin: set.Margin, Set: set.Set}),
		load: newReader(load, rng), start: time.Unix(1000, 0)}
	p.now = p.start
	p.see(rollout.Observation{Kind: rollout.KindBegin})
	for !p.trial.Over() {
		p.see(rollout.Observation{Kind: rollout.KindSlot, Sample: p.sample})
	}
	p.out.State, p.out.Reason, p.out.Effect = p.trial.State, p.trial.Reason, p.trial.Effect
	p.out.Took = p.now.Sub(p.start)
	return p.out, nil
}

type play struct {
	trial      rollout.Trial
	load       *reader
	start, now time.Time
	sample     *tune.MeterSample
	out        Outcome
}

// see does what the runner would.
func (p *play) see(o rollout.Observation) {
	var effects []rollout.Effect
	p.trial, effects = rollout.Step(p.trial, o, p.now)
	for _, e := range effects {
		switch e.Do {
		case rollout.DoMeasure:
			p.sample = p.load.slot(p.trial.Treated(), p.now.Sub(p.start))
			p.now = p.now.Add(e.Settle + e.Sample)
			p.out.Slots++
			if p.trial.Treated() {
				p.out.Treated++
			}
		case rollout.DoCommit, rollout.DoRollback:
			p.see(rollout.Observation{Kind: rollout.KindDone})
		}
	}
}

// Share plays many rollouts, seeds 0 to runs-1, and gives the share of those for which is holds.
func Share(set Setting, load Load, runs int, is func(Outcome) bool) (float64, error) {
	n := 0
	for seed := range runs {
		o, err := Play(set, load, uint64(seed))
		if err != nil {
			return 0, err
		}
		if is(o) {
			n++
		}
	}
	return float64(n) / float64(runs), nil
}

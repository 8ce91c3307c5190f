package rollout

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"semantos/internal/tune"
)

// story plays a rollout tick by tick: it answers each DoMeasure with what the test says and keeps what
// stands on the machine.
type story struct {
	t       *testing.T
	trial   Trial
	now     time.Time
	exposed bool
	dose    string // proposed value of the first change while exposed
	did     []Do
	slots   []bool
	takes   time.Duration // by each sample, where longer than asked
}

func someone() []tune.Change {
	return []tune.Change{{Tunable: "vm.swappiness", Scope: tune.ScopeHost, Target: "host",
		Current: "60", Proposed: "10", TakesEffect: tune.Immediately}}
}

func testPlan(t *testing.T, stage time.Duration, steps ...float64) Plan {
	t.Helper()
	if steps == nil {
		steps = []float64{5, 25, 50, 100}
	}
	p, err := NewPlan(PlanRequest{Changes: someone(), Steps: steps, StageTime: stage, Fresh: true},
		book1(&tune.Tunable{Name: "vm.swappiness", Kind: tune.KindInteger}), rand.New(rand.NewPCG(1, 2)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func policy() Policy {
	return Policy{Measured: true, Margin: 0.10}
}

func newStory(t *testing.T, plan Plan, p Policy) *story {
	s := &story{t: t, trial: NewTrial(plan, p), now: time.Unix(1000, 0)}
	s.see(Observation{Kind: KindBegin})
	return s
}

func (s *story) see(o Observation) {
	s.t.Helper()
	var effects []Effect
	s.trial, effects = Step(s.trial, o, s.now)
	for _, e := range effects {
		s.did = append(s.did, e.Do)
		switch e.Do {
		case DoExpose:
			s.exposed, s.dose = true, string(e.Changes[0].Proposed)
		case DoRevert:
			s.exposed = false
		case DoMeasure:
			s.slots = append(s.slots, s.exposed)
			s.now = s.now.Add(e.Settle + max(e.Sample, s.takes))
			if s.trial.Treated() != s.exposed {
				s.t.Fatalf("the state says treated %v, the machine %v", s.trial.Treated(), s.exposed)
			}
		case DoRollback:
			s.exposed = false
			s.see(Observation{Kind: KindDone})
		case DoCommit:
			if !s.exposed {
				s.t.Fatal("committed what does not stand")
			}
			s.see(Observation{Kind: KindDone})
		}
	}
}

// slot answers the slot under way with a sample.
func (s *story) slot(v tune.MeterSample) {
	s.t.Helper()
	s.see(Observation{Kind: KindSlot, Sample: &v})
}

// play answers until the rollout is over, with one sample for untreated slots and one for treated.
func (s *story) play(untreated, treated tune.MeterSample) *story {
	s.t.Helper()
	return s.playWith(func(on bool) *tune.MeterSample {
		if on {
			return &treated
		}
		return &untreated
	})
}

func (s *story) playWith(f func(treated bool) *tune.MeterSample) *story {
	s.t.Helper()
	for n := 0; !s.trial.Over(); n++ {
		if n > 5000 {
			s.t.Fatal("does not end")
		}
		s.see(Observation{Kind: KindSlot, Sample: f(s.exposed), Why: "silent"})
	}
	return s
}

func (s *story) want(state tune.State, reason string) {
	s.t.Helper()
	if s.trial.State != state || s.trial.Reason != reason {
		s.t.Fatalf("ended %s, %s (%s), want %s, %s; stages %+v", s.trial.State, s.trial.Reason, s.trial.Detail, state, reason, s.trial.Stages)
	}
	if s.exposed != (state == tune.Committed) {
		s.t.Fatalf("state %s, yet exposed is %v", state, s.exposed)
	}
}

func sample(p95, throughput, errors float64) tune.MeterSample {
	return tune.MeterSample{MedianMS: p95 / 2, P95MS: p95, Throughput: throughput, ErrorRate: errors}
}

func TestRolloutEnds(t *testing.T) {
	t.Parallel()
	good := sample(10, 100, 0)
	set := func(p Policy) Policy { p.Set = true; return p }
	limits := func(p Policy) Policy { p.Limits = Limits{MaxP95MS: 35, MaxErrorRate: 0.05}; p.Margin = 10; return p }
	unmeasured := func(p Policy) Policy { p.Measured = false; p.Set = true; return p }
	yes := func(p Policy) Policy { p.Yes = true; return p }
	for _, tc := range []struct {
		name           string
		policy         Policy
		before, during tune.MeterSample
		state          tune.State
		reason         string
		metric         string
	}{
		{"equal is put back", policy(), good, good, tune.RolledBack, tune.ReasonNoEffect, metricP95},
		{"equal by operator is kept", set(policy()), good, good, tune.Committed, tune.ReasonNotWorse, metricP95},
		{"latency better", policy(), good, sample(7, 100, 0), tune.Committed, tune.ReasonBetter, metricP95},
		{"throughput better", policy(), good, sample(10, 130, 0), tune.Committed, tune.ReasonBetter, metricThroughput},
		{"fewer errors", policy(), sample(10, 100, 0.3), good, tune.Committed, tune.ReasonBetter, metricErrors},
		{"latency worse", policy(), good, sample(20, 100, 0), tune.RolledBack, tune.ReasonWorse, metricP95},
		{"finer latency but clients lost", policy(), good, sample(5, 100, 0.2), tune.RolledBack, tune.ReasonWorse, metricErrors},
		{"finer latency but half the throughput", policy(), good, sample(5, 50, 0), tune.RolledBack, tune.ReasonWorse, metricThroughput},
		{"nothing gets through", policy(), good, sample(0, 0, 1), tune.RolledBack, tune.ReasonWorse, metricThroughput},
		{"limit broken by treatment alone", limits(policy()), sample(30, 100, 0), sample(40, 100, 0), tune.RolledBack, tune.ReasonLimit, ""},
		{"limit broken before and not worse", limits(policy()), sample(50, 100, 0), sample(40, 100, 0), tune.Committed, tune.ReasonBetter, metricP95},
		{"clients saved at the price of the p95 of the few", policy(), sample(2, 70, 0.3), sample(3, 100, 0), tune.Committed, tune.ReasonBetter, metricErrors},
		{"nor is the p95 of the few a limit kept", limits(policy()), sample(30, 70, 0.3), sample(40, 100, 0), tune.Committed, tune.ReasonBetter, ""},
		{"error limit", limits(policy()), good, sample(10, 100, 0.06), tune.RolledBack, tune.ReasonLimit, ""},
		{"unmeasured", unmeasured(policy()), good, good, tune.RolledBack, tune.ReasonUnmeasured, ""},
		{"unmeasured with yes", yes(unmeasured(policy())), good, good, tune.Committed, tune.ReasonUnmeasured, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newStory(t, testPlan(t, 12*time.Second), tc.policy)
			if !tc.policy.Measured {
				s.playWith(func(bool) *tune.MeterSample { return nil })
			} else {
				s.play(tc.before, tc.during)
			}
			s.want(tc.state, tc.reason)
			if !tc.policy.Measured && s.trial.Effect != nil {
				t.Errorf("unmeasured, yet effect %+v", s.trial.Effect)
			}
			if tc.metric != "" && (s.trial.Effect == nil || s.trial.Effect.Metric != tc.metric) {
				t.Errorf("effect %+v, want metric %s", s.trial.Effect, tc.metric)
			}
		})
	}
}

func TestRolloutStoryboard(t *testing.T) {
	t.Parallel()
	s := newStory(t, testPlan(t, 15*time.Second), policy())
	if !s.exposed || s.slots[0] != true {
		t.Fatal("the first slot is not treated")
	}
	start := s.now
	s.play(sample(10, 100, 0), sample(7, 100, 0))
	s.want(tune.Committed, tune.ReasonBetter)
	if took := s.now.Sub(start); took > 55*time.Second {
		t.Errorf("three stages of 15 s took %s", took)
	}
	checkStoryboard(t, s.trial, 15)
	if last := s.trial.Stages[2].Exposed; last != 100 {
		t.Errorf("exposed at last %v", last)
	}
	if !strings.Contains(s.trial.Stages[0].Reason, "5 % of 15s is shorter than a slot") {
		t.Errorf("the first stage does not say why it is not 5 %%: %q", s.trial.Stages[0].Reason)
	}
	if s.trial.Effect.High >= 1 || s.trial.Effect.Ratio < 0.69 || s.trial.Effect.Ratio > 0.71 {
		t.Errorf("effect %+v", s.trial.Effect)
	}
}

func checkStoryboard(t *testing.T, trial Trial, atLeast float64) {
	t.Helper()
	var shares []float64
	last := 0.0
	for _, st := range trial.Stages {
		shares = append(shares, st.Share)
		if st.Verdict != tune.Pass || st.Treated == 0 || st.Exposed <= last || st.Seconds < atLeast || st.Reason == "" || st.Effect == nil {
			t.Errorf("stage %+v", st)
		}
		last = st.Exposed
	}
	if len(shares) != 3 || shares[0] != 25 {
		t.Errorf("shares %v", shares)
	}
}

// Short stages prove nothing by themselves: ten drawn slots are the least that do, so the whole exposure goes
// on beside untreated slots. A large effect is still kept in well under a minute.
func TestShortStagesProveALargeEffect(t *testing.T) {
	t.Parallel()
	s := newStory(t, testPlan(t, 5*time.Second), policy())
	start := s.now
	s.play(sample(10, 100, 0), sample(2, 100, 0))
	s.want(tune.Committed, tune.ReasonBetter)
	if took := s.now.Sub(start); took > 30*time.Second {
		t.Errorf("three stages of 5 s took %s", took)
	}
	checkStoryboard(t, s.trial, 5)
	if last := s.trial.Stages[2].Exposed; last <= 50 {
		t.Errorf("exposed at last %v", last)
	}
}

func TestTwiceAsBadIsUndoneInTwoTreatedSlots(t *testing.T) {
	t.Parallel()
	for _, stage := range []time.Duration{5 * time.Second, 12 * time.Second, time.Minute} {
		s := newStory(t, testPlan(t, stage), policy())
		s.play(sample(10, 100, 0), sample(20, 100, 0))
		s.want(tune.RolledBack, tune.ReasonWorse)
		if n := count(s.slots, true); n > 2 {
			t.Errorf("stage time %s: %d treated slots before it was undone", stage, n)
		}
		if len(s.trial.Stages) > 1 && stage > 5*time.Second {
			t.Errorf("stage time %s: reached stage %d", stage, len(s.trial.Stages))
		}
	}
}

// Doses follow one another without a return between them.
func TestDoseRisesStageByStage(t *testing.T) {
	t.Parallel()
	changes := someone()
	changes[0].TakesEffect, changes[0].Current, changes[0].Proposed = tune.NewSockets, "16", "65536"
	plan, err := NewPlan(PlanRequest{Changes: changes, Steps: []float64{5, 25, 50, 100}, StageTime: 6 * time.Second},
		book1(&tune.Tunable{Name: "vm.swappiness", Kind: tune.KindInteger}), rand.New(rand.NewPCG(5, 6)))
	if err != nil {
		t.Fatal(err)
	}
	s := newStory(t, plan, policy())
	if s.slots[0] || plan.Slot() > 2*time.Second {
		t.Fatal("no baseline, or the first treated slot begins too late")
	}
	var doses []string
	s.playWith(func(on bool) *tune.MeterSample {
		v := sample(10, 100, 0)
		if on {
			v = sample(7, 100, 0)
			if len(doses) == 0 || doses[len(doses)-1] != s.dose {
				doses = append(doses, s.dose)
			}
		}
		return &v
	})
	s.want(tune.Committed, tune.ReasonBetter)
	if got := strings.Join(doses, " "); got != "24 128 1024 65536" {
		t.Errorf("doses %s", got)
	}
}

// A change that turns bad in the last stage is not hidden by its good beginning.
// TestNoEffectOnWhatWasOpenBefore: a reader that keeps its file open keeps the read-ahead of the moment
// it opened it, and the outcome says so. A meter that opens its own files needs no such word.
func TestNoEffectOnWhatWasOpenBefore(t *testing.T) {
	t.Parallel()
	for _, fresh := range []bool{false, true} {
		changes := someone()
		changes[0].TakesEffect = tune.NewMappings
		plan, err := NewPlan(PlanRequest{Changes: changes, Steps: []float64{50, 100}, StageTime: 6 * time.Second, Fresh: fresh},
			book1(&tune.Tunable{Name: "vm.swappiness", Kind: tune.KindInteger}), rand.New(rand.NewPCG(5, 6)))
		if err != nil {
			t.Fatal(err)
		}
		s := newStory(t, plan, policy())
		s.play(sample(10, 100, 0), sample(10, 100, 0)).want(tune.RolledBack, tune.ReasonNoEffect)
		if got := strings.Contains(s.trial.Detail, "opened and memory mapped after the write"); got == fresh {
			t.Errorf("fresh %v: detail %q", fresh, s.trial.Detail)
		}
	}
}

func TestLateHarmIsUndone(t *testing.T) {
	t.Parallel()
	s := newStory(t, testPlan(t, 30*time.Second), policy())
	bad := 0
	s.playWith(func(on bool) *tune.MeterSample {
		v := sample(10, 100, 0)
		if on && len(s.trial.Stages) == len(s.trial.Plan.Stages) {
			bad++
			v = sample(30, 100, 0)
		}
		return &v
	})
	s.want(tune.RolledBack, tune.ReasonWorse)
	if bad > 2 {
		t.Errorf("undone after %d bad slots", bad)
	}
}

// The trap peers fall into (spinnaker#6278): 7 of 10 samples 100 times worse, median test content.
func TestSevenOfTenHundredfoldWorseFails(t *testing.T) {
	t.Parallel()
	n := 0
	s := newStory(t, testPlan(t, 40*time.Second), policy())
	s.playWith(func(on bool) *tune.MeterSample {
		v := sample(10, 100, 0)
		if on {
			if n%10 >= 3 {
				v = sample(1000, 100, 0)
			}
			n++
		}
		return &v
	})
	s.want(tune.RolledBack, tune.ReasonWorse)
}

func TestMissingDataNeverPasses(t *testing.T) {
	t.Parallel()
	s := newStory(t, testPlan(t, 12*time.Second), policy())
	s.playWith(func(bool) *tune.MeterSample { return nil })
	s.want(tune.RolledBack, tune.ReasonInconclusive)
	if len(s.slots) != maxMisses || s.trial.Stages[0].Verdict != tune.Inconclusive {
		t.Errorf("%d slots, stage %+v", len(s.slots), s.trial.Stages[0])
	}
	if !strings.Contains(s.trial.Detail, "silent") {
		t.Errorf("detail %q does not say what the meter said", s.trial.Detail)
	}
	// Two of three slots lost, and every treated one: never enough to compare, put back after 5 D.
	s = newStory(t, testPlan(t, 12*time.Second), policy())
	s.playWith(func(on bool) *tune.MeterSample {
		if on {
			return nil
		}
		v := sample(10, 100, 0)
		return &v
	})
	s.want(tune.RolledBack, tune.ReasonInconclusive)
	if len(s.trial.Stages) != 1 {
		t.Errorf("advanced to stage %d without a treated reading", len(s.trial.Stages))
	}
}

func TestInconclusiveAfterFiveStageTimes(t *testing.T) {
	t.Parallel()
	s := newStory(t, testPlan(t, 12*time.Second), policy())
	start, n := s.now, 0
	s.playWith(func(on bool) *tune.MeterSample { // leans worse for ever, too noisy to be sure
		n++
		v := sample([]float64{4, 8, 16, 30}[n%4], 100, 0)
		if on {
			v.P95MS *= 1.9
		}
		return &v
	})
	if s.trial.State != tune.RolledBack {
		t.Fatalf("ended %s", s.trial.State)
	}
	if took := s.now.Sub(start); took > 4*66*time.Second {
		t.Errorf("took %s", took)
	}
	for _, st := range s.trial.Stages {
		if st.Seconds > 62 {
			t.Errorf("a stage of 12 s lasted %.0f s", st.Seconds)
		}
	}
}

func TestHold(t *testing.T) {
	t.Parallel()
	p := policy()
	p.Hold = true
	good, better := sample(10, 100, 0), sample(7, 100, 0)
	hold := func() *story {
		s := newStory(t, testPlan(t, 5*time.Second), p)
		for s.trial.State != tune.Held {
			v := good
			if s.exposed {
				v = better
			}
			s.slot(v)
		}
		return s
	}
	s := hold()
	for range 50 {
		s.slot(good)
	}
	if s.trial.State != tune.Held || len(s.trial.Stages) != len(s.trial.Plan.Stages)-1 {
		t.Fatalf("does not wait: %s", s.trial.State)
	}
	s.see(Observation{Kind: KindAbort, Actor: "uid 7"})
	s.want(tune.RolledBack, tune.ReasonOperator)

	s = hold()
	s.see(Observation{Kind: KindAdvance})
	s.play(good, better)
	s.want(tune.Committed, tune.ReasonBetter)

	s = hold() // the watch goes on while waiting
	s.play(good, sample(70, 100, 0))
	s.want(tune.RolledBack, tune.ReasonWorse)
}

func TestOutsideEndsIt(t *testing.T) {
	t.Parallel()
	for kind, reason := range map[Kind]string{
		KindAbort: tune.ReasonOperator, KindInterrupt: tune.ReasonInterrupted, KindFault: tune.ReasonFault,
		KindYield: tune.ReasonYielded, KindLimit: tune.ReasonLimit,
	} {
		s := newStory(t, testPlan(t, 5*time.Second), policy())
		s.slot(sample(10, 100, 0))
		s.see(Observation{Kind: kind, Why: "because"})
		s.want(tune.RolledBack, reason)
	}
	// A commit that fails is put back.
	trial := NewTrial(testPlan(t, 5*time.Second), policy())
	trial.phase = phaseCommitting
	trial, effects := Step(trial, Observation{Kind: KindFault, Why: "disk full"}, time.Unix(1, 0))
	if len(effects) != 1 || effects[0].Do != DoRollback {
		t.Fatalf("effects %v", effects)
	}
	trial, _ = Step(trial, Observation{Kind: KindDone}, time.Unix(1, 0))
	if trial.State != tune.RolledBack || trial.Reason != tune.ReasonFault {
		t.Errorf("%s %s", trial.State, trial.Reason)
	}
}

func count(x []bool, want bool) int {
	n := 0
	for _, b := range x {
		if b == want {
			n++
		}
	}
	return n
}

// A command that takes longer than a slot, or than a stage, still gets enough slots on both sides.
func TestSlowMeter(t *testing.T) {
	t.Parallel()
	for _, takes := range []time.Duration{3 * time.Second, 8 * time.Second} {
		s := newStory(t, testPlan(t, 5*time.Second), policy())
		s.takes = takes
		s.play(sample(10, 100, 0), sample(5, 100, 0))
		s.want(tune.Committed, tune.ReasonBetter)
		if count(s.slots, true) < 3 || count(s.slots, false) < 3 {
			t.Errorf("%s: slots %v", takes, s.slots)
		}
	}
}

package rollout

import (
	"testing"
	"time"

	"semantos/internal/tune"
)

// restart plays the end of the process and its next start: the guard puts everything back, the trial is
// read from where it was saved, and down passes.
func (s *story) restart(down time.Duration) {
	s.t.Helper()
	s.trial = reload(s.t, s.trial, s.now)
	s.exposed = false
	s.now = s.now.Add(down)
	s.see(Observation{Kind: KindResume, Down: down})
}

func TestRestartGoesOnInTheSameStage(t *testing.T) {
	t.Parallel()
	s := newStory(t, testPlan(t, 12*time.Second), policy())
	good, better := sample(10, 100, 0), sample(7, 100, 0)
	slot := func() {
		v := good
		if s.exposed {
			v = better
		}
		s.slot(v)
	}
	for len(s.trial.Stages) < 2 {
		slot()
	}
	slot()
	slot()
	stage, readings, seconds := len(s.trial.Stages), len(s.trial.readings), s.trial.stage().Seconds
	for range 3 { // again and again, in the middle of a slot
		s.restart(time.Hour)
	}
	if len(s.trial.Stages) != stage || len(s.trial.readings) != readings || s.trial.Treated() != s.exposed {
		t.Fatalf("stage %d of %d, %d of %d readings", len(s.trial.Stages), stage, len(s.trial.readings), readings)
	}
	slot()
	if got := s.trial.Stages[stage-1].Seconds; got < seconds || got > seconds+20 {
		t.Errorf("the stage lasts %.0f s after an hour down, %.0f s before", got, seconds)
	}
	s.play(good, better).want(tune.Committed, tune.ReasonBetter)
}

func TestRestartWhileHeldIsHeldAgain(t *testing.T) {
	t.Parallel()
	p := policy()
	p.Hold = true
	good, better := sample(10, 100, 0), sample(7, 100, 0)
	held := func() *story {
		s := newStory(t, testPlan(t, 5*time.Second), p)
		for s.trial.State != tune.Held {
			v := good
			if s.exposed {
				v = better
			}
			s.slot(v)
		}
		s.restart(time.Minute)
		if s.trial.State != tune.Held || s.trial.Detail == "" {
			t.Fatalf("after a restart it is %s", s.trial.State)
		}
		return s
	}
	s := held()
	s.see(Observation{Kind: KindAdvance})
	s.play(good, better).want(tune.Committed, tune.ReasonBetter)
	s = held() // and still watched
	s.play(good, sample(70, 100, 0)).want(tune.RolledBack, tune.ReasonWorse)
	s = held()
	s.see(Observation{Kind: KindAdvance})
	s.restart(time.Minute) // what a person allowed stays allowed
	s.play(good, better).want(tune.Committed, tune.ReasonBetter)
}

// What was decided and not yet done when the process ended.
func TestRestartAfterTheVerdict(t *testing.T) {
	t.Parallel()
	good, better := sample(10, 100, 0), sample(7, 100, 0)
	until := func(treated tune.MeterSample, stop phase) *story {
		s := newStory(t, testPlan(t, 5*time.Second), policy())
		for {
			v := good
			if s.trial.Treated() {
				v = treated
			}
			next, _ := Step(s.trial, Observation{Kind: KindSlot, Sample: &v}, s.now)
			if next.phase == stop {
				s.trial = next // the effects never came about
				return s
			}
			s.slot(v)
		}
	}
	s := until(sample(30, 100, 0), phaseRestoring)
	s.restart(time.Second)
	s.want(tune.RolledBack, tune.ReasonWorse)
	s = until(better, phaseCommitting)
	s.restart(time.Second)
	if s.trial.Over() || s.trial.State != tune.Running {
		t.Fatalf("a commit that never came about counts: %s", s.trial.State)
	}
	s.play(good, better).want(tune.Committed, tune.ReasonBetter)
	s = newStory(t, testPlan(t, 5*time.Second), policy())
	s.trial = NewTrial(s.trial.Plan, policy()) // before its first step
	s.restart(time.Second)
	s.play(good, better).want(tune.Committed, tune.ReasonBetter)
}

// AUTO_POLL=off: every stage waits for a person, and each advance opens the next one only.
func TestGatesWaitAfterEveryStage(t *testing.T) {
	t.Parallel()
	p := policy()
	p.Gates = true
	good, better := sample(10, 100, 0), sample(7, 100, 0)
	s := newStory(t, testPlan(t, 12*time.Second), p)
	s.see(Observation{Kind: KindAdvance}) // nothing waits yet: it opens no later gate
	waits := 0
	for !s.trial.Over() {
		if s.trial.State == tune.Held {
			waits++
			stage := len(s.trial.Stages)
			for range 5 {
				v := good
				if s.exposed {
					v = better
				}
				s.slot(v)
			}
			if s.trial.State != tune.Held || len(s.trial.Stages) != stage {
				t.Fatalf("stage %d did not wait", stage)
			}
			s.see(Observation{Kind: KindAdvance})
			s.see(Observation{Kind: KindHold}) // somebody changes their mind before the slot ends
			s.see(Observation{Kind: KindAdvance})
		}
		v := good
		if s.exposed {
			v = better
		}
		s.slot(v)
	}
	s.want(tune.Committed, tune.ReasonBetter)
	if want := len(s.trial.Plan.Stages) - 1; waits != want {
		t.Errorf("waited %d times, want %d", waits, want)
	}
}

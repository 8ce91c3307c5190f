package rollout

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"semantos/internal/tune"
)

// Whatever is seen while a commit is under way, something follows: a trial that stops in the middle leaves
// its values standing with nobody to keep or undo them.
func TestNothingStopsACommitInTheMiddle(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		kind   Kind
		reason string
	}{
		{KindExpired, tune.ReasonExpired}, {KindLimit, tune.ReasonLimit}, {KindAbort, tune.ReasonOperator},
		{KindInterrupt, tune.ReasonInterrupted}, {KindYield, tune.ReasonYielded}, {KindFault, tune.ReasonFault},
	} {
		s := newStory(t, testPlan(t, 5*time.Second), policy())
		s.slot(sample(10, 100, 0))
		trial := s.trial
		trial.phase, trial.Reason = phaseCommitting, tune.ReasonBetter
		trial, effects := Step(trial, Observation{Kind: tc.kind, Why: "because", Actor: "uid 7"}, s.now)
		if len(effects) != 1 || effects[0].Do != DoRollback {
			t.Errorf("kind %d: effects %v", tc.kind, effects)
			continue
		}
		trial, _ = Step(trial, Observation{Kind: KindDone}, s.now)
		if trial.State != tune.RolledBack || trial.Reason != tc.reason {
			t.Errorf("kind %d: %s, %s", tc.kind, trial.State, trial.Reason)
		}
	}
}

// The window ends while the commit waits for a slow disk: it is put back as any other trial is.
func TestExpiresWhileTheCommitWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTrialRun(6)
		r.writer.hangs = "commit"
		committing := make(chan struct{})
		r.writer.on = func(verb string) {
			if verb == "commit" {
				close(committing)
			}
		}
		r.req.Allowance = func(time.Time, time.Duration) string {
			select {
			case <-committing:
				return "the maintenance window has ended"
			default:
				return ""
			}
		}
		out, err := r.run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		r.want(t, out, tune.RolledBack, tune.ReasonExpired, "60")
	})
}

// A target that vanishes while all of them are brought to what is kept is left out; the others are kept.
func TestATargetVanishesAtTheCommit(t *testing.T) {
	t.Parallel()
	w, p := newWorld(5, 1, 3), unitPolicy()
	p.Set = true // shown not to be worse by slots in which half of them stand beside the others
	now, o := time.Unix(1000, 0), Observation{Kind: KindBegin}
	trial := NewTrial(unitPlan(t, 5, 3*time.Second, 3), p)
	told, committed := false, false
	for steps := 0; !trial.Over() && steps < 3000; steps++ {
		var effects []Effect
		trial, effects = Step(trial, o, now)
		o = Observation{Kind: KindDone}
		for _, e := range effects {
			if trial.phase == phaseCommitting && e.Do == DoExpose && !told {
				told = true
				o = Observation{Kind: KindGone, Gone: []string{"netns:2"}, Why: "left out: netns:2 vanished"}
				break
			}
			switch e.Do {
			case DoExpose:
				for _, c := range e.Changes {
					w.on[c.Target] = true
				}
			case DoRevert:
				for _, target := range e.Targets {
					delete(w.on, target)
				}
			case DoCommit:
				committed = true
			case DoMeasure:
				now = now.Add(e.Settle + e.Sample)
				o = Observation{Kind: KindSlot, Units: w.samples()}
			}
		}
		if len(effects) == 0 && !trial.Over() {
			t.Fatalf("nothing follows in phase %d after %+v", trial.phase, o)
		}
	}
	if !told {
		t.Fatal("it was kept while all stood: nothing was to be exposed at the commit")
	}
	if !committed || trial.State != tune.Committed || !slices.Equal(trial.lost, []int{1}) {
		t.Errorf("%s, lost %v", trial.State, trial.lost)
	}
}

// A rule that knows no next step would leave values standing: the runner puts them back.
func TestNoNextStepIsPutBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTrialRun(6)
		run := &run{Runner: NewRunner(r.cfg), req: r.req, meter: r.meter, wrote: true,
			trial: NewTrial(testPlan(t, 5*time.Second), policy()), out: tune.Rollout{ID: "r-1"}}
		r.writer.known, r.writer.live = true, "10"
		run.trial, _ = Step(run.trial, Observation{Kind: KindBegin}, time.Now())
		stop := run.startWatch()
		defer stop()
		if err := run.loop(context.Background(), Observation{Kind: KindHold}); err == nil {
			t.Error("no error")
		}
		if r.writer.value() != "60" || run.out.State != tune.RolledBack || run.out.Reason != tune.ReasonFault {
			t.Errorf("%s, %s, value %s", run.out.State, run.out.Reason, r.writer.value())
		}
	})
}

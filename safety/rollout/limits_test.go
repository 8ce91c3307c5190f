package rollout

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"semantos/internal/tune"
)

// TestErrorsBreakInOneSlot: requests fail from the nth treated slot on. Where no untreated slot had as
// many, the first of them ends the rollout, also while it is held; where untreated ones fail as much, it
// is nothing that treatment did.
func TestErrorsBreakInOneSlot(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name      string
		hold      bool
		from      int // treated slot
		untreated float64
		breaks    bool
	}{
		{"first slot", false, 1, 0, true},
		{"later", false, 3, 0, true},
		{"held", true, 25, 0, true},
		{"a few fail anyway", false, 2, 0.01, true},
		{"as many fail untreated", false, 2, 0.95, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := policy()
			p.Limits, p.Hold, p.Margin = Limits{MaxErrorRate: 0.5}, tc.hold, 0.9
			s := newStory(t, testPlan(t, 10*time.Second), p)
			treated, held := 0, false
			broken := -1
			for n := 0; n < 200 && !s.trial.Over(); n++ {
				v := sample(10, 100, tc.untreated)
				if s.exposed {
					treated++
					v.ErrorRate = tc.untreated
					if treated >= tc.from {
						v.ErrorRate = 0.97
						if broken < 0 {
							broken = n
							held = s.trial.State == tune.Held
						}
					}
				}
				s.slot(v)
				if broken >= 0 && n-broken > 0 && tc.breaks && !s.trial.Over() {
					t.Fatalf("went on after a treated slot of failures: %s", s.trial.State)
				}
			}
			if got := s.trial.Reason == tune.ReasonLimit; got != tc.breaks {
				t.Fatalf("%s, %s (%s)", s.trial.State, s.trial.Reason, s.trial.Detail)
			}
			if tc.breaks && tc.from > 1 && treated != tc.from {
				t.Errorf("%d treated slots, want %d", treated, tc.from)
			}
			if tc.hold && !held {
				t.Error("it was not held when it broke")
			}
		})
	}
}

// TestAllowanceEndsARollout: what is used up is put back within one look, and is not held against the change.
func TestAllowanceEndsARollout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTrialRun(6)
		r.req.StageTime = time.Minute
		var ask []time.Duration
		r.req.Allowance = func(_ time.Time, exposed time.Duration) string {
			ask = append(ask, exposed)
			if exposed > 5*time.Second {
				return fmt.Sprintf("exposed for %s, 5s were left", exposed.Round(time.Second))
			}
			return ""
		}
		out, err := r.run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		r.want(t, out, tune.RolledBack, tune.ReasonExpired, "60")
		if !strings.Contains(out.Detail, "5s were left") || out.Stages[len(out.Stages)-1].Verdict != tune.Inconclusive {
			t.Errorf("%s, stages %+v", out.Detail, out.Stages)
		}
		if out.ExposedSeconds < 5 || out.ExposedSeconds > 6.1 {
			t.Errorf("exposed for %v s", out.ExposedSeconds)
		}
		if len(ask) < 5 {
			t.Errorf("asked %d times", len(ask))
		}
	})
}

// TestExposedSecondsAreWhatStood: the rollout's own account agrees with the machine's.
func TestExposedSecondsAreWhatStood(t *testing.T) {
	for name, set := range map[string]func(r *trialRun){
		"switchback": func(*trialRun) {},
		"dose":       func(r *trialRun) { r.meter.stale = true; r.outlive() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newTrialRun(10)
				set(r)
				var stood time.Duration
				var since time.Time
				r.writer.on = func(verb string) {
					switch {
					case verb == "apply" && since.IsZero():
						since = time.Now()
					case verb != "apply" && !since.IsZero():
						stood, since = stood+time.Since(since), time.Time{}
					}
				}
				out, err := r.run(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if d := out.ExposedSeconds - stood.Seconds(); d > 0.01 || d < -0.01 || stood == 0 {
					t.Errorf("counted %v s, stood %v", out.ExposedSeconds, stood)
				}
			})
		})
	}
}

package rollout

import (
	"fmt"
	"math"
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

// counted is a slot in which some of so many requests failed; of 0 requests only the rate is known.
func counted(rate float64, requests int64) tune.MeterSample {
	s := sample(10, 100, rate)
	s.Requests = requests
	return s
}

// TestFewFailedRequestsNeedASecondSlot: what a handful of requests may do by chance ends no trial in one slot,
// what it may not does, and so does any rate of a meter that does not count.
func TestFewFailedRequestsNeedASecondSlot(t *testing.T) {
	t.Parallel()
	none := counted(0, 50)
	for _, tc := range []struct {
		name    string
		limit   float64
		treated []tune.MeterSample
		breaks  bool
	}{
		{"one of one", 0.5, []tune.MeterSample{counted(1, 1)}, false},
		{"two of two", 0.5, []tune.MeterSample{none, none, counted(1, 2)}, false},
		{"six of six", 0.5, []tune.MeterSample{counted(1, 6)}, false},
		{"seven of seven", 0.5, []tune.MeterSample{counted(1, 7)}, true},
		{"an outage", 0.5, []tune.MeterSample{none, none, counted(0.98, 50)}, true},
		{"a large one", 0.5, []tune.MeterSample{counted(0.51, 4_000_000)}, true},
		{"barely above in 50", 0.5, []tune.MeterSample{counted(0.52, 50)}, false},
		{"one of one, twice", 0.5, []tune.MeterSample{none, counted(1, 1), counted(1, 1)}, true},
		{"one of one beside one of fifty", 0.5, []tune.MeterSample{counted(0.02, 50), counted(1, 1)}, false},
		{"one of fifty, at a small limit", 0.0001, []tune.MeterSample{counted(0.02, 50)}, false},
		{"two of fifty, at a small limit", 0.0001, []tune.MeterSample{counted(0.04, 50)}, true},
		{"not counted", 0.5, []tune.MeterSample{none, counted(0.98, 0)}, true},
		{"a count that cannot be", 0.5, []tune.MeterSample{counted(0.98, -3)}, true},
		{"no number", 0.5, []tune.MeterSample{counted(math.NaN(), 50)}, false},
	} {
		said, got := Limits{MaxErrorRate: tc.limit}.broken(tc.treated, []tune.MeterSample{none, none}, assessment{})
		if got != tc.breaks {
			t.Errorf("%s: broken %v (%s)", tc.name, got, said)
		}
	}
}

// TestOneBurstBreaksNoLimit: of two treated slots the mean is no median, for one of them would speak for both.
func TestOneBurstBreaksNoLimit(t *testing.T) {
	t.Parallel()
	well, burst := sample(10, 100, 0), sample(1000, 100, 0)
	l := Limits{MaxP95MS: 35}
	for _, tc := range []struct {
		treated []tune.MeterSample
		breaks  bool
	}{
		{[]tune.MeterSample{well, burst}, false},
		{[]tune.MeterSample{burst, well, burst}, true},
		{[]tune.MeterSample{burst, burst}, true},
	} {
		if said, got := l.broken(tc.treated, []tune.MeterSample{well}, assessment{}); got != tc.breaks {
			t.Errorf("%d treated slots: broken %v (%s)", len(tc.treated), got, said)
		}
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

package loop

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"semantos/internal/tune"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func recommend(symptom, tunable, from, to string) tune.Recommendation {
	c := []tune.Change{{Tunable: tunable, Scope: tune.ScopeHost, Target: "host", Current: tune.Value(from), Proposed: tune.Value(to)}}
	return tune.Recommendation{ID: tune.RecommendationID(c), Changes: c, Admissible: true,
		Rationale: "because", Provenance: tune.Provenance{Symptom: symptom}}
}

func standing(mode string, symptoms ...string) *memory {
	m := newMemory(mode)
	for range persistence {
		m.see(symptoms...)
	}
	return m
}

func (m *memory) see(names ...string) {
	var s []tune.Symptom
	for _, n := range names {
		s = append(s, tune.Symptom{Name: n})
	}
	m.observe(s)
}

func rolledBack(r tune.Recommendation, reason string) tune.Rollout {
	return tune.Rollout{ID: r.ID + "-1", Recommendation: r, State: tune.RolledBack, Reason: reason}
}

func committed(r tune.Recommendation) tune.Rollout {
	return tune.Rollout{ID: r.ID + "-1", Recommendation: r, State: tune.Committed, Reason: tune.ReasonBetter}
}

// TestChoose: each case prepares a memory on which a (best) and b (second) are offered.
func TestChoose(t *testing.T) {
	t.Parallel()
	a, b := recommend("slow", "vm.a", "1", "2"), recommend("slow", "vm.b", "1", "2")
	sameTunable := recommend("slow", "vm.a", "1", "3")
	vetoed := a
	vetoed.Admissible, vetoed.Veto = false, "u is 0.7"
	reboot := recommend("slow", "vm.a", "1", "2")
	reboot.Changes[0].TakesEffect = tune.Reboot
	cases := []struct {
		name  string
		mode  string
		offer []tune.Recommendation
		story func(m *memory)
		after time.Duration
		want  string // id, or ""
		says  string
	}{
		{"best first", On, []tune.Recommendation{a, b}, nil, 0, a.ID, ""},
		{"off", Off, []tune.Recommendation{a}, nil, 0, "", "recommend only"},
		{"calibrated waits", Calibrated, []tune.Recommendation{a}, func(m *memory) { m.missing = 9 }, 0, "", "uncalibrated, 9 more needed"},
		{"calibrated, with its bound", Calibrated, []tune.Recommendation{a}, func(m *memory) {
			m.calibrated(tune.Calibration{Known: true, Calibrated: true})
		}, 0, a.ID, ""},
		{"on, without a bound", On, []tune.Recommendation{a}, func(m *memory) {
			m.calibrated(tune.Calibration{Known: true, Needed: 9})
		}, 0, a.ID, ""},
		{"on, history never read", On, []tune.Recommendation{a}, func(m *memory) {
			m.calibrated(tune.Calibration{Fault: "the disk is away"})
		}, 0, "", "the disk is away"},
		{"off, with a bound", Off, []tune.Recommendation{a}, func(m *memory) {
			m.calibrated(tune.Calibration{Known: true, Calibrated: true})
		}, 0, "", "recommend only"},
		{"nothing offered", On, nil, nil, 0, "", "nothing to recommend"},
		{"held", On, []tune.Recommendation{a}, func(m *memory) { m.held = "maintenance" }, 0, "", "maintenance"},
		{"outside its window", On, []tune.Recommendation{a}, func(m *memory) { m.closed = "the window opens Mon 02:00" }, 0, "", "opens Mon 02:00"},
		{"off, outside its window", Off, []tune.Recommendation{a}, func(m *memory) { m.closed = "the window opens Mon 02:00" }, 0, "", "recommend only"},
		{"one at a time", On, []tune.Recommendation{a}, func(m *memory) { m.running = "x" }, 0, "", "running"},
		{"symptom seen once", On, []tune.Recommendation{a}, func(m *memory) { m.see(); m.see("slow") }, 0, "", "1 of 2"},
		{"symptom interrupted", On, []tune.Recommendation{a}, func(m *memory) { m.see("slow"); m.see("other"); m.see("slow") }, 0, "", "1 of 2"},
		{"inadmissible is passed over", On, []tune.Recommendation{vetoed, b}, nil, 0, b.ID, ""},
		{"only inadmissible", On, []tune.Recommendation{vetoed}, nil, 0, "", "u is 0.7"},
		{"needs a reboot", On, []tune.Recommendation{reboot, b}, nil, 0, b.ID, ""},
		{"worse: its tunable rests too", On, []tune.Recommendation{a, sameTunable},
			func(m *memory) { m.remember(rolledBack(a, tune.ReasonWorse), nil, noon) }, 10 * time.Minute, "", "rests"},
		{"worse: everything pauses at first", On, []tune.Recommendation{b},
			func(m *memory) { m.remember(rolledBack(a, tune.ReasonLimit), nil, noon) }, 29 * time.Second, "", "pausing"},
		{"worse: others may follow", On, []tune.Recommendation{a, b},
			func(m *memory) { m.remember(rolledBack(a, tune.ReasonWorse), nil, noon) }, time.Minute, b.ID, ""},
		{"worse: again after its rest", On, []tune.Recommendation{a},
			func(m *memory) { m.remember(rolledBack(a, tune.ReasonWorse), nil, noon) }, 16 * time.Minute, a.ID, ""},
		{"worse twice: longer", On, []tune.Recommendation{a}, func(m *memory) {
			m.remember(rolledBack(a, tune.ReasonWorse), nil, noon.Add(-time.Hour))
			m.remember(rolledBack(a, tune.ReasonWorse), nil, noon)
		}, 29 * time.Minute, "", "rests"},
		{"no effect: next candidate at once", On, []tune.Recommendation{a, b},
			func(m *memory) { m.remember(rolledBack(a, tune.ReasonNoEffect), nil, noon) }, 0, b.ID, ""},
		{"no effect: another value of it may help", On, []tune.Recommendation{a, sameTunable},
			func(m *memory) { m.remember(rolledBack(a, tune.ReasonNoEffect), nil, noon) }, 0, sameTunable.ID, ""},
		{"no effect: not the same for hours", On, []tune.Recommendation{a},
			func(m *memory) { m.remember(rolledBack(a, tune.ReasonNoEffect), nil, noon) }, 5 * time.Hour, "", "no effect"},
		{"inconclusive: soon again", On, []tune.Recommendation{a},
			func(m *memory) { m.remember(rolledBack(a, tune.ReasonInconclusive), nil, noon) }, 3 * time.Minute, a.ID, ""},
		{"yielded for good", On, []tune.Recommendation{a, sameTunable},
			func(m *memory) { m.remember(rolledBack(a, tune.ReasonYielded), nil, noon) }, 1000 * time.Hour, "", "left alone"},
		{"drift error yields", On, []tune.Recommendation{a}, func(m *memory) {
			m.remember(tune.Rollout{Recommendation: a}, tune.ErrDrifted, noon)
		}, 1000 * time.Hour, "", "left alone"},
		{"a person put it back", On, []tune.Recommendation{a, b}, func(m *memory) {
			m.remember(committed(a), nil, noon)
			m.remember(rolledBack(a, tune.ReasonOperator), nil, noon)
		}, 20 * time.Hour, b.ID, ""},
		{"held rollout waits", On, []tune.Recommendation{b}, func(m *memory) {
			m.remember(tune.Rollout{ID: "r", Recommendation: a, State: tune.Held}, nil, noon)
		}, time.Hour, "", "waits for a person"},
		{"busy pauses", On, []tune.Recommendation{a}, func(m *memory) {
			m.remember(tune.Rollout{}, tune.ErrBusy, noon)
		}, 20 * time.Second, "", "another semantos"},
		{"busy ends", On, []tune.Recommendation{a}, func(m *memory) {
			m.remember(tune.Rollout{}, tune.ErrBusy, noon)
		}, 31 * time.Second, a.ID, ""},
		{"never back to what was left", On, []tune.Recommendation{recommend("slow", "vm.a", "2", "1")},
			func(m *memory) { m.remember(committed(a), nil, noon) }, time.Hour, "", "would go back to 1"},
		{"further in the same direction", On, []tune.Recommendation{recommend("slow", "vm.a", "2", "4")},
			func(m *memory) { m.remember(committed(a), nil, noon) }, time.Hour, recommend("slow", "vm.a", "2", "4").ID, ""},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m := standing(tc.mode, "slow")
			if tc.story != nil {
				tc.story(m)
			}
			got := choose(m, tc.offer, noon.Add(tc.after))
			id := ""
			if got.rec != nil {
				id = got.rec.ID
			}
			if id != tc.want || !strings.Contains(got.why, tc.says) {
				t.Errorf("chose %q because %q, want %q and %q", id, got.why, tc.want, tc.says)
			}
		})
	}
}

func TestDriftYields(t *testing.T) {
	t.Parallel()
	m := standing(On, "slow")
	a := recommend("slow", "vm.a", "1", "2")
	m.remember(committed(a), nil, noon)
	if y := m.drifted([]tune.Recommendation{recommend("slow", "vm.a", "2", "4")}); len(y) != 0 {
		t.Errorf("yielded %v while the kept value stands", y)
	}
	again := []tune.Recommendation{recommend("slow", "vm.a", "1", "2")} // somebody wrote 1 again
	if y := m.drifted(again); len(y) != 1 {
		t.Errorf("yielded %v", y)
	}
	if c := choose(m, again, noon.Add(9999*time.Hour)); c.rec != nil {
		t.Error("fights another writer")
	}
}

func TestInherit(t *testing.T) {
	t.Parallel()
	m := standing(On, "slow")
	m.inherit([]tune.Managed{
		{Tunable: "vm.a", Target: "host", Original: "1", Current: "2", State: "committed"},
		{Tunable: "vm.b", Target: "host", Original: "1", Current: "9", State: "yielded"},
	})
	for _, r := range []tune.Recommendation{recommend("slow", "vm.a", "2", "1"), recommend("slow", "vm.b", "9", "2")} {
		if c := choose(m, []tune.Recommendation{r}, noon); c.rec != nil {
			t.Errorf("tries %v after an earlier run's outcome", r.Changes)
		}
	}
}

func TestPeriodsGrowToTheirLimit(t *testing.T) {
	t.Parallel()
	for _, p := range []period{hurtPeriod(), noEffectPeriod(), inconclusivePeriod(), operatorPeriod(), vetoedPeriod(), faultPeriod()} {
		last := time.Duration(0)
		for times := range 100 {
			d := p.after(times)
			if d < last || d > p.limit || (times == 0 && d != p.base) {
				t.Fatalf("%+v: %v after %d times, %v before", p, d, times, last)
			}
			last = d
		}
		if last != p.limit {
			t.Errorf("%+v ends at %v", p, last)
		}
	}
}

// TestNothingHurtsTwiceSoon: whatever the history, a recommendation that was put back as worse is not
// chosen again within its rest, and a yielded tunable never.
func TestNothingHurtsTwiceSoon(t *testing.T) {
	t.Parallel()
	offers := []tune.Recommendation{recommend("slow", "vm.a", "1", "2"), recommend("slow", "vm.a", "1", "3"), recommend("slow", "vm.b", "1", "2")}
	reasons := []string{tune.ReasonWorse, tune.ReasonLimit, tune.ReasonNoEffect, tune.ReasonInconclusive,
		tune.ReasonYielded, tune.ReasonInterrupted, tune.ReasonFault, "a reason unheard of"}
	rapid.Check(t, func(rt *rapid.T) {
		m, now := standing(On, "slow"), noon
		hurt, yielded := map[string]time.Time{}, map[string]bool{}
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(1, 3600).Draw(rt, "seconds")) * time.Second)
			c := choose(m, offers, now)
			if c.rec == nil {
				continue
			}
			k := c.rec.Changes[0].Tunable
			if yielded[k] || now.Sub(hurt[k]) < hurtPeriod().base {
				rt.Fatalf("chose %v too soon", c.rec.Changes)
			}
			reason := rapid.SampledFrom(reasons).Draw(rt, "reason")
			m.remember(rolledBack(*c.rec, reason), nil, now)
			switch reason {
			case tune.ReasonYielded:
				yielded[k] = true
			case tune.ReasonWorse, tune.ReasonLimit, tune.ReasonFault, "a reason unheard of":
				hurt[k] = now
			}
		}
	})
}

func TestErrorOutcomesAreNamed(t *testing.T) {
	t.Parallel()
	a := recommend("slow", "vm.a", "1", "2")
	for err, want := range map[error]string{
		tune.ErrVetoed: "vetoed", tune.ErrStale: "stale", tune.ErrGone: "stale", tune.ErrDrifted: "rolled_back_yielded",
		tune.ErrBusy: "busy", errors.New("guard died"): "error",
	} {
		if got := newMemory(On).remember(tune.Rollout{Recommendation: a}, err, noon); got != want {
			t.Errorf("%v counts as %q, want %q", err, got, want)
		}
	}
}

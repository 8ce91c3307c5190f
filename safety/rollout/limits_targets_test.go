package rollout

import (
	"strings"
	"testing"
	"time"

	"semantos/internal/tune"
)

// limitsOfUnits plays rollouts over eight like targets, and gives what each ended with.
func limitsOfUnits(t *testing.T, stage time.Duration, change func(u int, on bool, s *tune.MeterSample)) []Trial {
	t.Helper()
	var out []Trial
	for seed := range uint64(20) {
		w := newWorld(8, 1, seed)
		for u := range w.level {
			w.level[u] = 15
		}
		w.change = change
		p := unitPolicy()
		p.Limits, p.Margin, p.Set = Limits{MaxP95MS: 35, MaxErrorRate: 0.5}, 0.9, true
		out = append(out, w.play(t, NewTrial(unitPlan(t, 8, stage, seed), p)))
	}
	return out
}

func broke(all []Trial) (by map[string]int) {
	by = map[string]int{}
	for _, trial := range all {
		if trial.Reason == tune.ReasonLimit {
			name, _, _ := strings.Cut(trial.Detail, ": ")
			by[name]++
		}
	}
	return by
}

// TestLimitOfATargetAboveBefore: targets that lie above a limit whether treated or not end nothing.
func TestLimitOfATargetAboveBefore(t *testing.T) {
	t.Parallel()
	all := limitsOfUnits(t, 10*time.Second, func(u int, on bool, s *tune.MeterSample) {
		if u < 3 {
			s.P95MS, s.ErrorRate, s.Requests = 4*s.P95MS, 0.9, 50
		}
	})
	if by := broke(all); len(by) != 0 {
		t.Errorf("of %d trials of a change that does nothing, ended by a limit: %v", len(all), by)
	}
}

// TestLimitOfOneTarget: a target that treatment moves beyond a limit ends the trial, whatever the others beside it do.
func TestLimitOfOneTarget(t *testing.T) {
	t.Parallel()
	slow := limitsOfUnits(t, 10*time.Second, func(u int, on bool, s *tune.MeterSample) {
		if u == 2 && on {
			s.P95MS *= 4
		}
	})
	if by := broke(slow); by["netns:3"] < len(slow)*9/10 || len(by) != 1 {
		t.Errorf("of %d trials ended by the p95 of netns:3: %v", len(slow), by)
	}
	for _, tc := range []struct {
		name  string
		stage time.Duration
		rate  float64 // of failed requests of another target, treated or not
	}{
		{"first treated slot", 10 * time.Second, 0},
		{"another fails anyway", 10 * time.Second, 0.9},
		{"no untreated slot before it", 2 * time.Minute, 0},
	} {
		slots := 0
		failing := limitsOfUnits(t, tc.stage, func(u int, on bool, s *tune.MeterSample) {
			s.Requests = 50
			switch {
			case u == 2 && on:
				s.ErrorRate = 1
				slots++
			case u == 7:
				s.ErrorRate = tc.rate
			}
		})
		if by := broke(failing); by["netns:3"] != len(failing) || slots != len(failing) {
			t.Errorf("%s: of %d trials ended by the failures of netns:3: %v, in %d slots", tc.name, len(failing), by, slots)
		}
	}
}

// TestLimitOfATargetNeverSeenUntreated: it gave no data before, so the others' is held against it: a target that
// answers nobody until it is treated is watched as well.
func TestLimitOfATargetNeverSeenUntreated(t *testing.T) {
	t.Parallel()
	p := unitPolicy()
	p.Limits = Limits{MaxErrorRate: 0.5}
	trial, _ := Step(NewTrial(unitPlan(t, 2, 10*time.Second, 1), p), Observation{Kind: KindBegin}, time.Unix(1000, 0))
	well, failing := sample(10, 100, 0), sample(10, 100, 1)
	trial.readings = []reading{{unit: 2, sample: &well}, {unit: 1, treated: true, sample: &failing}, {unit: 2, sample: &well}}
	if said, broke := trial.limit(assessment{}); !broke || !strings.HasPrefix(said, "netns:1: ") {
		t.Errorf("broken %v (%s)", broke, said)
	}
	trial.readings = trial.readings[1:2]
	if said, broke := trial.limit(assessment{}); broke {
		t.Errorf("nothing was untreated, yet %s", said)
	}
}

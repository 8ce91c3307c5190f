package rollout

import (
	"math/rand/v2"
	"testing"
	"time"

	"semantos/internal/tune"
)

// A metric that only untreated slots deliver is missing because of the change: what the others say is not
// enough to keep it.
func TestAMetricThatTreatmentSilencesForbidsAClaim(t *testing.T) {
	t.Parallel()
	for _, set := range []bool{false, true} {
		p := policy()
		p.LossMS, p.Set = 1000, set // p95 and lost requests together are the cost
		s := newStory(t, testPlan(t, 12*time.Second), p)
		none := 0.0
		s.playWith(func(on bool) *tune.MeterSample {
			v := sample(10, 100, 0)
			v.Lost = &none
			if on {
				v = sample(10, 200, 0) // twice the throughput, and nobody knows what was lost
			}
			return &v
		})
		s.want(tune.RolledBack, tune.ReasonInconclusive)
		if len(s.trial.Stages) != 1 {
			t.Errorf("set %v: advanced to stage %d without the cost of a treated slot", set, len(s.trial.Stages))
		}
	}
}

// The same rule holds for what leaving a change out does.
func TestMarginalNeedsEveryMetric(t *testing.T) {
	t.Parallel()
	p, none := policy(), 0.0
	p.LossMS = 1000
	rng := rand.New(rand.NewPCG(1, 1))
	var slots []Drawn
	for b := range 40 {
		at := rng.IntN(3)
		for i := range 3 {
			v := sample(10, 100, 0)
			if v.Lost = &none; i == at {
				v.Lost = nil
			}
			slots = append(slots, Drawn{Block: b + 1, Size: 3, Treated: i == at, Sample: &v})
		}
	}
	if m := p.Marginal(slots); m.NotWorse || m.Better {
		t.Errorf("%+v from slots whose cost is not known", m)
	}
}

// A stage whose treated slots mostly gave no data has shown nothing, even when its last slot spoke.
func TestAStageDoesNotPassOnTheSlotsThatSpoke(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		plan, err := NewPlan(PlanRequest{Changes: someone(), Steps: []float64{25, 100}, StageTime: 12 * time.Second, Fresh: true},
			testTunables(), rand.New(rand.NewPCG(seed, 2)))
		if err != nil {
			t.Fatal(err)
		}
		s := newStory(t, plan, policy())
		treated := 0
		s.playWith(func(on bool) *tune.MeterSample {
			v := sample(10, 100, 0)
			if on {
				if treated++; treated%3 != 1 {
					return nil
				}
			}
			return &v
		})
		s.want(tune.RolledBack, tune.ReasonInconclusive)
		if len(s.trial.Stages) != 1 {
			t.Fatalf("seed %d: went on to the whole exposure; stages %+v", seed, s.trial.Stages)
		}
	}
}

// A target that falls silent whenever it is treated is not an idle one.
func TestATargetSilencedByTreatmentIsNotIdle(t *testing.T) {
	t.Parallel()
	for seed := range uint64(10) {
		plan, err := NewPlan(PlanRequest{Changes: namespaces(5, tune.Immediately), Steps: []float64{50, 100}, StageTime: 12 * time.Second,
			Fresh: true, Apart: true}, book1(&tune.Tunable{Name: "net.x", Kind: tune.KindInteger}), rand.New(rand.NewPCG(seed, 1)))
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld(5, 0.5, seed)
		w.silenced = map[int]bool{0: true}
		if end := w.play(t, NewTrial(plan, unitPolicy())); end.State == tune.Committed {
			t.Errorf("seed %d: kept as %s although target 1 answers nothing while treated", seed, end.Reason)
		}
	}
}

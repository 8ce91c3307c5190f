package ablate

import (
	"context"
	"math/rand/v2"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"semantos/internal/tune"
)

// TestErrors holds the verdicts to their promise: a change without which the workload is worse by more than
// the margin is undone in at most 5 % of ablations, one that earns nothing is found idle in at least 90 %.
func TestErrors(t *testing.T) {
	t.Parallel()
	runs := 40
	if os.Getenv("SOAK") != "" {
		runs = 2000
	}
	p95 := func(out map[string]bool) float64 {
		if out["little"] {
			return 11.5
		}
		return 10
	}
	wrong, idle, told := 0, 0, 0
	for seed := range runs {
		synctest.Test(t, func(t *testing.T) {
			m := newMachine(p95, "little", "idles", "other")
			m.rng, m.noise = rand.New(rand.NewPCG(uint64(seed), 5)), 0.1
			req := m.request("little", "idles", "other")
			req.Keep = true
			r := NewRunner(Config{Writer: m, Tunables: m, Now: time.Now, Rand: rand.New(rand.NewPCG(uint64(seed), 6))})
			out, err := r.Run(context.Background(), req, nil)
			if err != nil {
				t.Fatal(err)
			}
			if v := out.Changes[0].Verdict; v == tune.Nothing || v == tune.Harms {
				wrong++
			} else if v == tune.Earns {
				told++
			}
			if out.Changes[1].Verdict == tune.Nothing {
				idle++
			}
		})
	}
	t.Logf("of %d: %d wrongly idle, %d told to earn, %d idle found", runs, wrong, told, idle)
	if 20*wrong > runs || 10*idle < 9*runs {
		t.Errorf("of %d: %d wrongly idle, %d idle found", runs, wrong, idle)
	}
}

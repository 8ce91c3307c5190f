package simulate

import (
	"fmt"
	"math"
	"os"
	"testing"
	"time"
)

// each is how often every kind of noise is played: 2,000 times in make soak, fewer in make test, where all
// kinds together are held to the promise.
func each(quick int) int {
	if os.Getenv("SOAK") == "1" {
		return 2000
	}
	return quick
}

// allowance is what chance adds to a share in that many runs, three standard deviations.
func allowance(share float64, n int) float64 { return 3 * math.Sqrt(share*(1-share)/float64(n)) }

// amid are the kinds of noise that the promises hold in.
func amid() map[string]Load {
	out := map[string]Load{}
	for _, ar := range []float64{0, 0.5} {
		for shape, l := range map[string]Load{
			"steady": {}, "ramp": {Ramp: 0.7}, "bursts": {Bursts: 0.025}, "ramp and bursts": {Ramp: -0.7, Bursts: 0.025}} {
			l.CV, l.AR = 0.1, ar
			out[fmt.Sprintf("AR %.1f, %s", ar, shape)] = l
		}
	}
	return out
}

type promise struct {
	name   string
	set    Setting
	load   Load
	is     func(Outcome) bool
	most   float64 // share of runs, where least is 0
	least  float64
	bursts bool // it holds amid bursts too
}

func TestPromises(t *testing.T) {
	t.Parallel()
	set := Defaults()
	own := set
	own.Set = true
	for _, p := range []promise{
		{"an equal change is judged worse", set, Load{P95: 1, Throughput: 1}, Outcome.Worse, 0.05, 0, true},
		{"an equal change is kept as better", set, Load{P95: 1, Throughput: 1}, Outcome.Kept, 0.05, 0, true},
		{"a tenth worse is kept", set, Load{P95: 1.1, Throughput: 1}, Outcome.Kept, 0.05, 0, true},
		{"a tenth worse is kept though the operator chose it", own, Load{P95: 1.1, Throughput: 1}, Outcome.Kept, 0.05, 0, true},
		{"a tenth less throughput is kept though the operator chose it", own, Load{P95: 1, Throughput: 1 / 1.1}, Outcome.Kept, 0.05, 0, true},
		{"an equal change that the operator chose is kept", own, Load{P95: 1, Throughput: 1}, Outcome.Kept, 0, 0.80, false},
		{"twice as bad is undone within two treated slots", set, Load{P95: 2, Throughput: 1},
			func(o Outcome) bool { return o.Worse() && o.Treated <= 2 }, 0, 0.99, false},
		{"twice as bad is kept", set, Load{P95: 2, Throughput: 1}, Outcome.Kept, 0.001, 0, true},
		{"a fifth better is kept", set, Load{P95: 0.8, Throughput: 1}, Outcome.Kept, 0, 0.90, true},
		{"a rollout ends within five minutes", set, Load{P95: 0.95, Throughput: 1},
			func(o Outcome) bool { return o.Took <= 5*time.Minute }, 0, 1, true},
		{"a large effect is kept within a minute", set, Load{P95: 0.5, Throughput: 1},
			func(o Outcome) bool { return o.Kept() && o.Took <= time.Minute }, 0, 0.95, false},
	} {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			all, sum := 0, 0.0
			for noise, l := range amid() {
				if l.Bursts > 0 && !p.bursts {
					continue
				}
				n := each(25)
				got, err := Share(p.set, p.load.Amid(l), n, p.is)
				if err != nil {
					t.Fatal(err)
				}
				all, sum = all+n, sum+got*float64(n)
				if n >= 1000 {
					p.check(t, noise, got, n)
				}
			}
			p.check(t, "all", sum/float64(all), all)
		})
	}
}

func (p promise) check(t *testing.T, noise string, got float64, n int) {
	t.Helper()
	t.Logf("%s: %.4f of %d", noise, got, n)
	if p.least > 0 && got < p.least-allowance(p.least, n) {
		t.Errorf("%s: %.4f of %d runs, at least %.2f is promised", noise, got, n, p.least)
	}
	if p.least == 0 && got > p.most+allowance(p.most, n) {
		t.Errorf("%s: %.4f of %d runs, at most %.3f is promised", noise, got, n, p.most)
	}
}

// What is kept is reported with an interval that holds the truth, although only what looked good is kept.
func TestReportedIntervalsHoldTheTruth(t *testing.T) {
	t.Parallel()
	for _, effect := range []float64{0.85, 0.8, 0.6, 0.3} {
		t.Run(fmt.Sprint(effect), func(t *testing.T) {
			t.Parallel()
			all, kept, holds := 0, 0, 0
			for _, l := range amid() {
				n := each(25)
				all += n
				for seed := range n {
					o, err := Play(Defaults(), Load{P95: effect, Throughput: 1}.Amid(l), uint64(seed))
					if err != nil {
						t.Fatal(err)
					}
					if !o.Kept() || o.Effect.Metric != "p95_ms" {
						continue
					}
					kept++
					if o.Effect.Low <= effect && effect <= o.Effect.High {
						holds++
					}
				}
			}
			if kept < all/2 {
				t.Fatalf("kept %d of %d", kept, all)
			}
			got := float64(holds) / float64(kept)
			t.Logf("%.4f of %d kept", got, kept)
			if got < 0.93-allowance(0.93, kept) {
				t.Errorf("the interval held the truth in %.4f of %d", got, kept)
			}
		})
	}
}

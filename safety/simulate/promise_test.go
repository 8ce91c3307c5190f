package simulate

import (
	"fmt"
	"math"
	"os"
	"testing"
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

func TestPromises(t *testing.T) {
	t.Parallel()
	for _, p := range Promises() {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			all, sum := 0, 0.0
			for _, k := range Kinds() {
				if k.Load.Bursts > 0 && !p.Bursts {
					continue
				}
				n := each(25)
				got, err := Share(p.Setting, p.Load.Amid(k.Load), n, p.Is)
				if err != nil {
					t.Fatal(err)
				}
				all, sum = all+n, sum+got*float64(n)
				if n >= 1000 {
					check(t, p, k.Name, got, n)
				}
			}
			check(t, p, "all", sum/float64(all), all)
		})
	}
}

func check(t *testing.T, p Promise, noise string, got float64, n int) {
	t.Helper()
	t.Logf("%s: %.4f of %d", noise, got, n)
	if p.Least > 0 && got < p.Least-allowance(p.Least, n) {
		t.Errorf("%s: %.4f of %d runs, at least %.2f is promised", noise, got, n, p.Least)
	}
	if p.Least == 0 && got > p.Most+allowance(p.Most, n) {
		t.Errorf("%s: %.4f of %d runs, at most %.3f is promised", noise, got, n, p.Most)
	}
}

// What is kept is reported with an interval that holds the truth, although only what looked good is kept.
func TestReportedIntervalsHoldTheTruth(t *testing.T) {
	t.Parallel()
	for _, effect := range []float64{0.85, 0.8, 0.6, 0.3} {
		t.Run(fmt.Sprint(effect), func(t *testing.T) {
			t.Parallel()
			all, kept, holds := 0, 0, 0
			for _, kind := range Kinds() {
				n := each(25)
				k, h, err := Covered(effect, kind.Load, n)
				if err != nil {
					t.Fatal(err)
				}
				all, kept, holds = all+n, kept+k, holds+h
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

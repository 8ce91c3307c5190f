package reasoner

import (
	"testing"
)

// TestLearnedRanks: what outcomes made of a relief moves its rank, within bounds, and invents nothing.
func TestLearnedRanks(t *testing.T) {
	t.Parallel()
	r := engine(t, drops(bundle(change1("queue", "raise", "100")), bundle(change1("high", "raise", "100"))))
	cur := values(map[string]string{"queue": "10", "high": "10"})
	score := func(ev Evidence) map[string]float64 {
		out := map[string]float64{}
		for _, rec := range advise(t, r, cur, ev) {
			out[rec.Changes[0].Tunable] = rec.Score
		}
		return out
	}
	plain := score(Evidence{})
	for name, tc := range map[string]struct {
		factor float64
		known  bool
		want   float64
	}{
		"nothing learned": {1, true, 1}, "it failed": {0.25, true, 0.25}, "it worked": {1.5, true, 1.5},
		"too good": {100, true, 2}, "unknown edge": {0.1, false, 1},
	} {
		got := score(Evidence{Learned: func(symptom, tunable string) (float64, bool) {
			if symptom != "drops" {
				t.Errorf("asked about symptom %q", symptom)
			}
			if tunable == "high" {
				return tc.factor, tc.known
			}
			return 1, true
		}})
		if ratio := got["high"] / plain["high"]; ratio < tc.want*0.999 || ratio > tc.want*1.001 || got["queue"] != plain["queue"] {
			t.Errorf("%s: score moved by %.3f, want %.3f; the other from %v to %v", name, ratio, tc.want, plain["queue"], got["queue"])
		}
	}
}

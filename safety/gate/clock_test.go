package gate

import (
	"fmt"
	"testing"
	"time"

	"semantos/internal/tune"
)

// Outcomes written down while the clock was ahead are outcomes still: setting it back must not loosen the
// threshold.
func TestASetBackClockLoosensNothing(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var history []tune.Rollout // newest first
	for i := range 40 {
		r := tune.Rollout{ID: fmt.Sprintf("r-%d", i), State: tune.RolledBack, Reason: tune.ReasonWorse, Ended: now.Add(-time.Duration(i) * time.Hour),
			Recommendation: tune.Recommendation{ID: "x", Uncertainty: 0.2 + 0.005*float64(i)}}
		history = append(history, r)
	}
	before, after := calibrate(history, 0.55, 0.1, now), calibrate(history, 0.55, 0.1, now.Add(-30*24*time.Hour))
	if !before.Calibrated || !after.Calibrated || after.Tau > before.Tau {
		t.Errorf("tau %.3f (calibrated %v), with the clock set back %.3f (%v)", before.Tau, before.Calibrated, after.Tau, after.Calibrated)
	}
}

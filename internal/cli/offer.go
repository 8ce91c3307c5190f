package cli

import (
	"context"
	"sync"
	"time"

	"semantos/internal/tune"
	"semantos/kb/validate"
)

// offerEvery is how often one vetoed candidate is put before a person.
const offerEvery = 24 * time.Hour

// offers marks at most one vetoed candidate a day: what the gate vetoes has no outcome, so that a
// threshold that became too tight would never hear of it. Nothing is tried unless a person does.
type offers struct {
	store store
	now   func() time.Time

	mu   sync.Mutex
	read bool // the store was asked what was offered last
	id   string
	at   time.Time
}

// mark offers one of those vetoed for their uncertainty alone; the one offered already keeps its mark. A
// store that cannot be read offers nothing.
func (o *offers) mark(ctx context.Context, uncertain []*tune.Recommendation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(uncertain) == 0 || !o.last(ctx) {
		return
	}
	now := o.now()
	if since := now.Sub(o.at); since >= 0 && since < offerEvery {
		for _, r := range uncertain {
			if r.ID == o.id {
				r.Offered = o.at
			}
		}
		return
	}
	// The least uncertain: an unsafe candidate must never be the more likely to be tried the higher its
	// u, or the outcomes would say too little of what passes at a low one (docs/calibration.md).
	best := uncertain[0]
	for _, r := range uncertain {
		if r.Uncertainty < best.Uncertainty {
			best = r
		}
	}
	best.Offered, o.id, o.at = now, best.ID, now
}

func (o *offers) last(ctx context.Context) bool {
	if o.read {
		return true
	}
	err := o.store.EachRecommendation(ctx, func(a validate.Advice) error {
		if r := a.Recommendation; r.Offered.After(o.at) {
			o.id, o.at = r.ID, r.Offered
		}
		return nil
	})
	o.read = err == nil
	return o.read
}

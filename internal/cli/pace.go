package cli

import (
	"context"
	"sync"
	"time"

	"semantos/internal/loop"
	"semantos/internal/tune"
)

// historyLooked is how many of the newest rollouts say what should rest: as many as calibration counts.
const historyLooked = 400

// paceFresh is how long one reading of history answers: the gate is asked of every recommendation.
const paceFresh = 5 * time.Second

// pace tells the gate what history says should be left alone for a while.
type pace struct {
	store store
	now   func() time.Time

	mu   sync.Mutex
	read time.Time
	last loop.Pace
}

func (a *app) newPace(s store) *pace { return &pace{store: s, now: a.now} }

// Objections reads history again when the last reading is old.
func (p *pace) Objections(ctx context.Context, changes []tune.Change) ([]string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if since := now.Sub(p.read); p.read.IsZero() || since < 0 || since >= paceFresh {
		history, err := past{p.store}.Rollouts(ctx, historyLooked)
		if err != nil {
			return nil, err
		}
		p.last, p.read = loop.Recall(history, now), now
	}
	return p.last.Objections(changes, now), nil
}

// forget makes the next question read history: a rollout has ended.
func (p *pace) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.read = time.Time{}
}

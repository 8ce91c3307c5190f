package cli

import (
	"context"
	"fmt"
	"sync"
	"time"

	"semantos/internal/config"
	"semantos/internal/tune"
)

// budgetDay is the stretch over which exposure is added up: the last 24 hours, not a day of the calendar,
// so that no midnight and no change of the clocks gives twice as much.
const budgetDay = 24 * time.Hour

// unsaved is how much exposure a killed semantos may have had beyond its last record.
const unsaved = 5 * time.Second

// budget is when and how long trials may stand on this host without a person: EXPOSURE_BUDGET and
// MAINTENANCE_WINDOW. It counts every trial, whoever started it.
type budget struct {
	limit  time.Duration // 0: none
	window config.Window

	mu    sync.Mutex
	spent map[string]spell // by rollout
}

// spell is what one rollout had, spread over the time it ran.
type spell struct {
	from, to time.Time
	exposed  time.Duration
}

func newBudget(cfg config.Config) *budget {
	return &budget{limit: cfg.ExposureBudget, window: cfg.MaintenanceWindow, spent: map[string]spell{}}
}

// load counts what history knows of the last day, page by page: also what ran before a restart, and what
// was killed.
func (b *budget) load(ctx context.Context, history rollouts, now time.Time) error {
	for limit := 100; ; limit *= 4 {
		all, err := history.Rollouts(ctx, limit)
		if err != nil {
			return fmt.Errorf("count exposure: %w", err)
		}
		for _, r := range all {
			if r.Ended.IsZero() && r.ExposedSeconds > 0 {
				r.ExposedSeconds += unsaved.Seconds()
			}
			b.add(r, now)
		}
		if len(all) < limit || now.Sub(all[len(all)-1].Started) > budgetDay+longestStage {
			return nil
		}
	}
}

// rollouts are what history has, newest first.
type rollouts interface {
	Rollouts(ctx context.Context, limit int) ([]tune.Rollout, error)
}

// add counts a rollout as it stands; the newest account of it holds.
func (b *budget) add(r tune.Rollout, now time.Time) {
	if r.ID == "" || r.ExposedSeconds <= 0 {
		return
	}
	exposed := time.Duration(r.ExposedSeconds * float64(time.Second))
	to := r.Ended
	if to.IsZero() {
		to = r.Started.Add(exposed) // it ran that long at least
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spent[r.ID] = spell{from: r.Started, to: to, exposed: exposed}
	for id, s := range b.spent {
		if now.Sub(s.to) > budgetDay {
			delete(b.spent, id)
		}
	}
}

// used is the exposure of the last day.
func (b *budget) used(now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	var sum time.Duration
	for _, s := range b.spent {
		sum += s.since(now.Add(-budgetDay))
	}
	return sum
}

// since is the part of a spell after a time.
func (s spell) since(day time.Time) time.Duration {
	switch {
	case !s.to.After(day):
		return 0
	case !s.from.Before(day):
		return s.exposed
	}
	return time.Duration(float64(s.exposed) * float64(s.to.Sub(day)) / float64(s.to.Sub(s.from)))
}

// left is what may still be exposed; known is false where there is no limit.
func (b *budget) left(now time.Time) (left time.Duration, known bool) {
	return max(0, b.limit-b.used(now)), b.limit > 0
}

// vetoes say why nothing should start now, even by a person, who may pass them.
func (b *budget) vetoes(now time.Time) []string {
	var out []string
	if !b.window.Open(now) {
		out = append(out, fmt.Sprintf("the maintenance window %s is closed, it opens %s", b.window, clock(b.window.Opens(now))))
	}
	if left, known := b.left(now); known && left == 0 {
		out = append(out, fmt.Sprintf("the exposure budget of %s in 24 hours is used up", b.limit))
	}
	return out
}

func clock(t time.Time) string { return t.Format("Mon 15:04") }

// closed says why a machine may not start a rollout now, "" when it may: it needs time for its stages
// inside the window, and exposure for half of it.
func (b *budget) closed(now time.Time, need time.Duration) string {
	if v := b.vetoes(now); len(v) > 0 {
		return v[0]
	}
	if inside := b.window.Left(now); inside < need {
		return fmt.Sprintf("the maintenance window %s closes in %s, a rollout needs %s", b.window, inside.Round(time.Second), need)
	}
	if left, known := b.left(now); known && left < need/2 {
		return fmt.Sprintf("%s are left of the exposure budget of %s in 24 hours, a rollout needs %s", left.Round(time.Second), b.limit, need/2)
	}
	return ""
}

// allowance ends an unattended rollout that began now when its time is over.
func (b *budget) allowance(began time.Time) func(now time.Time, exposed time.Duration) string {
	left, known := b.left(began)
	return func(now time.Time, exposed time.Duration) string {
		if known && exposed > left && b.window.Open(now) {
			return fmt.Sprintf("the exposure budget of %s in 24 hours is used up: %s were left when it began", b.limit, left.Round(time.Second))
		}
		return b.shut(now)
	}
}

// shut says that the window has ended, "" while it is open.
func (b *budget) shut(now time.Time) string {
	if b.window.Open(now) {
		return ""
	}
	return fmt.Sprintf("the maintenance window %s has ended", b.window)
}

package loop

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"semantos/internal/tune"
)

// Pace is what history says should be left alone for a while: tunables of a rollout that did harm, and
// those that go back and forth. It is a value: the same history gives the same answer after any restart.
type Pace struct {
	resting map[string]rest
	swings  map[string]swing
}

// Recall reads history, in any order, as of now.
func Recall(history []tune.Rollout, now time.Time) Pace {
	return Pace{resting: replay(newMemory(Off), history).resting, swings: swings(history, now)}
}

// Objections says of each change why it should not be made now; none for what may be.
func (p Pace) Objections(changes []tune.Change, now time.Time) []string {
	var out []string
	for _, c := range changes {
		k := changeKey(c.Tunable, c.Target)
		if r, ok := p.resting[k]; ok && r.hurt && now.Before(r.until) {
			out = append(out, fmt.Sprintf("%s rests until %s: %s", c.Tunable, clock(r.until, now), r.why))
		}
		if s, ok := p.swings[k]; ok && now.Before(s.until) {
			out = append(out, fmt.Sprintf("%s is left alone until %s: %s", c.Tunable, clock(s.until, now), s.why))
		}
	}
	return out
}

// clock says a time as people of this day would.
func clock(t, now time.Time) string {
	t, now = t.Local(), now.Local()
	if t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return t.Format("15:04:05")
	}
	return t.Format("2006-01-02 15:04")
}

// replay draws the consequences of every finished rollout again, in their order: what a memory knew before
// a restart, it knows after it.
func replay(m *memory, history []tune.Rollout) *memory {
	type end struct {
		at time.Time
		r  tune.Rollout
	}
	var ends []end
	for _, r := range history {
		switch {
		case r.Ended.IsZero() || r.State == tune.Held || r.State == tune.Running || r.State == tune.Queued:
			continue
		case r.Undone.IsZero():
			ends = append(ends, end{r.Ended, r})
		default: // it was kept, and put back later
			kept := r
			kept.State, kept.Reason = tune.Committed, ""
			r.State, r.Reason = tune.RolledBack, tune.ReasonOperator
			ends = append(ends, end{r.Ended, kept}, end{r.Undone, r})
		}
	}
	slices.SortStableFunc(ends, func(a, b end) int { return cmp.Compare(a.at.UnixNano(), b.at.UnixNano()) })
	for _, e := range ends {
		m.remember(e.r, nil, e.at)
	}
	return m
}

package loop

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"semantos/internal/tune"
)

// A tunable that goes back and forth is fought over, or sits where no value is better than the next: two
// reversals within swingSpan leave it alone for swingRest.
const (
	swingSpan = 24 * time.Hour
	swingRest = 24 * time.Hour
)

// swing is why a tunable is left alone.
type swing struct {
	until time.Time
	why   string
}

// move is one change of a value that stands, by us, by a person who put it back, or by something else.
type move struct {
	at       time.Time
	from, to tune.Value
	by       string
}

// swings finds the tunables that went back and forth, from history alone, in any order.
func swings(history []tune.Rollout, now time.Time) map[string]swing {
	out := map[string]swing{}
	for key, all := range moves(history) {
		if s, ok := swingOf(all); ok && now.Before(s.until) {
			out[key] = s
		}
	}
	return out
}

// swingOf looks for the newest two reversals that lie close together.
func swingOf(all []move) (swing, bool) {
	var turns []time.Time
	for i := 1; i < len(all); i++ {
		if reverses(all[i-1], all[i]) {
			turns = append(turns, all[i].at)
		}
	}
	for i := len(turns) - 1; i > 0; i-- {
		if turns[i].Sub(turns[i-1]) <= swingSpan {
			last := all[len(all)-1]
			return swing{until: turns[i].Add(swingRest),
				why: fmt.Sprintf("it went back and forth, last from %q to %q by %s", last.from, last.to, last.by)}, true
		}
	}
	return swing{}, false
}

// step is one thing that history tells of a value: that it stood, or that it was set.
type step struct {
	at    time.Time
	value tune.Value
	by    string // "" only tells what stood
}

// moves gives, by tunable and target, how the standing value moved. Values of a trial that was put back
// never stood.
func moves(history []tune.Rollout) map[string][]move {
	steps := map[string][]step{}
	for _, r := range history {
		kept := r.State == tune.Committed || !r.Undone.IsZero()
		if r.State == tune.Vetoed || r.State == tune.Queued || r.State == tune.Running || r.State == tune.Held {
			continue
		}
		for _, c := range r.Recommendation.Changes {
			k := changeKey(c.Tunable, c.Target)
			steps[k] = append(steps[k], step{at: r.Started, value: c.Current})
			if kept {
				steps[k] = append(steps[k], step{r.Ended, r.Standing(c), "rollout " + r.ID})
			}
			if !r.Undone.IsZero() {
				steps[k] = append(steps[k], step{r.Undone, c.Current, "a person"})
			}
		}
	}
	out := map[string][]move{}
	for k, all := range steps {
		slices.SortStableFunc(all, func(a, b step) int { return cmp.Compare(a.at.UnixNano(), b.at.UnixNano()) })
		stands := all[0].value
		for _, s := range all[1:] {
			if s.value == stands {
				continue
			}
			by := s.by
			if by == "" {
				by = "something else"
			}
			out[k] = append(out[k], move{s.at, stands, s.value, by})
			stands = s.value
		}
	}
	return out
}

// reverses reports whether b goes against a: an element of a number that rose falls, or the other way; of
// what has no order, that it goes back to where a came from.
func reverses(a, b move) bool {
	x, okX := directions(a)
	y, okY := directions(b)
	if !okX || !okY || len(x) != len(y) {
		return b.to == a.from
	}
	for i := range x {
		if x[i]*y[i] < 0 {
			return true
		}
	}
	return false
}

// directions says of each element whether it rises (1), falls (-1) or stays.
func directions(m move) ([]int, bool) {
	from, err := m.from.Numbers()
	if err != nil {
		return nil, false
	}
	to, err := m.to.Numbers()
	if err != nil || len(from) != len(to) {
		return nil, false
	}
	out := make([]int, len(from))
	for i := range from {
		out[i] = cmp.Compare(to[i], from[i])
	}
	return out, true
}

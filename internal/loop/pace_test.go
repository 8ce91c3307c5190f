package loop

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"semantos/internal/tune"
)

// then is a rollout of vm.a that ended so, some time after a fixed one.
func then(after time.Duration, from, to string, state tune.State, reason string) tune.Rollout {
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Add(after)
	rec := recommend("slow", "vm.a", from, to)
	return tune.Rollout{ID: rec.ID + "-" + start.Format("150405"), Recommendation: rec, State: state, Reason: reason,
		Started: start, Ended: start.Add(time.Minute)}
}

func at(after time.Duration) time.Time {
	return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Add(after)
}

func TestCoolDownComesFromHistory(t *testing.T) {
	t.Parallel()
	worse := then(0, "1", "2", tune.RolledBack, tune.ReasonWorse)
	again := then(time.Hour, "1", "3", tune.RolledBack, tune.ReasonLimit)
	change := worse.Recommendation.Changes
	for _, tc := range []struct {
		name    string
		history []tune.Rollout
		now     time.Duration
		rests   bool
	}{
		{"nothing happened", nil, 0, false},
		{"soon after harm", []tune.Rollout{worse}, 10 * time.Minute, true},
		{"a quarter of an hour later", []tune.Rollout{worse}, 17 * time.Minute, false},
		{"twice as long after the second harm", []tune.Rollout{again, worse}, time.Hour + 25*time.Minute, true},
		{"and over after that", []tune.Rollout{again, worse}, time.Hour + 32*time.Minute, false},
		{"no effect is no harm", []tune.Rollout{then(0, "1", "2", tune.RolledBack, tune.ReasonNoEffect)}, 2 * time.Minute, false},
		{"nor is an interruption", []tune.Rollout{then(0, "1", "2", tune.RolledBack, tune.ReasonInterrupted)}, 2 * time.Minute, false},
		{"it worked after all", []tune.Rollout{worse, then(5*time.Minute, "1", "3", tune.Committed, tune.ReasonBetter)}, 10 * time.Minute, false},
		{"it still runs", []tune.Rollout{{ID: "x", State: tune.Running, Recommendation: worse.Recommendation, Started: at(0)}}, time.Minute, false},
	} {
		got := Recall(tc.history, at(tc.now)).Objections(change, at(tc.now))
		if (len(got) > 0) != tc.rests {
			t.Errorf("%s: %v", tc.name, got)
		}
		if tc.rests && !strings.Contains(got[0], "vm.a rests until") {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
	if got := Recall([]tune.Rollout{worse}, at(time.Minute)).Objections(recommend("slow", "vm.b", "1", "2").Changes, at(time.Minute)); len(got) > 0 {
		t.Errorf("another tunable: %v", got)
	}
}

// A loop that starts knows what the one before it had learned.
func TestMemoryIsRebuiltFromHistory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hurt, idle := recommend("slow", "vm.a", "1", "2"), recommend("slow", "vm.b", "1", "2")
		lost, taken, cure := recommend("slow", "vm.c", "1", "2"), recommend("slow", "vm.d", "1", "2"), recommend("slow", "vm.e", "1", "2")
		ended := func(r tune.Rollout) tune.Rollout {
			r.Started, r.Ended = time.Now().Add(-2*time.Minute), time.Now().Add(-time.Minute)
			return r
		}
		back := ended(committed(taken))
		back.State, back.Reason, back.Undone = tune.RolledBack, tune.ReasonOperator, time.Now().Add(-30*time.Second)
		history := []tune.Rollout{ended(rolledBack(hurt, tune.ReasonWorse)), ended(rolledBack(idle, tune.ReasonNoEffect)),
			ended(rolledBack(lost, tune.ReasonYielded)), back}
		m := &machine{t: t, sick: true, interval: 5 * time.Second, offers: []tune.Recommendation{hurt, idle, lost, taken, cure},
			verdict: map[string]tune.Rollout{cure.ID: committed(cure)}}
		l := m.loop(On)
		l.cfg.History = func(context.Context) ([]tune.Rollout, error) { return history, nil }
		watch(t, l, 3*time.Minute)
		if got := m.tried(); len(got) != 1 || got[0] != cure.ID {
			t.Errorf("tried %v", got)
		}
		s := l.State()
		if len(s.Yielded) != 1 || s.Yielded[0] != "vm.c@host" || len(s.Resting) < 4 {
			t.Errorf("yielded %v, resting %+v", s.Yielded, s.Resting)
		}
		// A person's own commit takes back what was yielded.
		l.mem.remember(committed(lost), nil, time.Now())
		if len(l.mem.yielded) != 0 {
			t.Errorf("still yielded: %v", l.mem.yielded)
		}
	})
}

// TestWhyAPersonsEndRests: an end before the first write is not said to have put anything back.
func TestWhyAPersonsEndRests(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	rec := tune.Recommendation{ID: "a", Changes: []tune.Change{{Tunable: "vm.a", Target: "host"}}}
	for _, c := range []struct {
		exposed float64
		undone  time.Time
		want    string
	}{{0, time.Time{}, "a person ended it before anything was written"}, {3, time.Time{}, "a person put it back"}, {0, now, "a person put it back"}} {
		m := newMemory(On)
		m.remember(tune.Rollout{ID: "a-1", Recommendation: rec, State: tune.RolledBack, Reason: tune.ReasonOperator,
			ExposedSeconds: c.exposed, Undone: c.undone}, nil, now)
		if got := m.resting[changeKey("vm.a", "host")]; got.why != c.want || !got.until.After(now) {
			t.Errorf("%+v, want %q", got, c.want)
		}
	}
}

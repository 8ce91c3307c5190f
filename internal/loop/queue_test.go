package loop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"semantos/internal/tune"
)

// byHand is a person's rollout of a recommendation.
func byHand(rec string) tune.Rollout {
	return tune.Rollout{ID: rec + "-1", Recommendation: tune.Recommendation{ID: rec}, Actor: "uid 0"}
}

// People are served in the order they came, one at a time, and the loop behind all of them.
func TestQueueIsFirstComeFirstServed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		own := recommend("slow", "vm.a", "1", "2")
		m := &machine{t: t, sick: true, interval: 5 * time.Second, offers: []tune.Recommendation{own},
			verdict: map[string]tune.Rollout{own.ID: committed(own)}}
		l := m.loop(On)
		ctx, stop := context.WithCancel(t.Context())
		over := make(chan error, 1)
		go func() { over <- l.Run(ctx) }()
		var order, heard []string
		for i := range 4 {
			go func() {
				r := byHand(fmt.Sprint("p", i))
				if err := l.Enter(t.Context(), r, func(behind string) { heard = append(heard, behind) }); err != nil {
					t.Error(err)
					return
				}
				order = append(order, r.Recommendation.ID)
				time.Sleep(time.Minute)
				l.End(tune.Rollout{ID: r.ID, Recommendation: r.Recommendation, State: tune.RolledBack, Reason: tune.ReasonNoEffect}, nil)
			}()
			synctest.Wait()
		}
		if q := l.Queue(); len(q) != 3 || q[0].ID != "p1-1" || q[0].State != tune.Queued || q[0].Detail != "waits for rollout p0-1" {
			t.Errorf("queue %+v", q)
		}
		time.Sleep(3*time.Minute + 30*time.Second)
		if len(m.tried()) != 0 {
			t.Errorf("the loop tried %v before people", m.tried())
		}
		time.Sleep(5 * time.Minute)
		if want := []string{"p0", "p1", "p2", "p3"}; !slices.Equal(order, want) || len(m.tried()) != 1 {
			t.Errorf("served %v, then the loop %v", order, m.tried())
		}
		if want := []string{"rollout p0-1", "rollout p1-1", "rollout p2-1"}; !slices.Equal(heard, want) {
			t.Errorf("told to wait for %v", heard)
		}
		stop()
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
}

func TestQueueLosesWhoLeavesOrIsDismissed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &machine{t: t, interval: 5 * time.Second}
		l := m.loop(On)
		if err := l.Enter(t.Context(), byHand("first"), nil); err != nil {
			t.Fatal(err)
		}
		errs := map[string]error{}
		enter := func(ctx context.Context, id string) {
			errs[id] = l.Enter(ctx, byHand(id), func(string) {})
		}
		leaving, leave := context.WithCancel(t.Context())
		go enter(leaving, "left")
		synctest.Wait()
		go enter(t.Context(), "aborted")
		synctest.Wait()
		go enter(t.Context(), "last")
		synctest.Wait()
		leave()
		stopped := errors.New("stopped by uid 7")
		if r, ok := l.Dismiss("aborted-1", stopped); !ok || r.Actor != "uid 0" {
			t.Errorf("dismissed %+v, %v", r, ok)
		}
		if _, ok := l.Dismiss("nobody", stopped); ok {
			t.Error("dismissed who does not wait")
		}
		synctest.Wait()
		if len(l.Queue()) != 1 || !errors.Is(errs["left"], context.Canceled) || errs["aborted"] != stopped {
			t.Errorf("queue %v, %v", l.Queue(), errs)
		}
		l.End(byHand("first"), nil)
		synctest.Wait()
		if err, served := errs["last"]; !served || err != nil {
			t.Errorf("the last one: %v, %v", served, err)
		}
		l.End(byHand("last"), nil)
		if s := l.State(); s.Running != "" {
			t.Errorf("still running %s", s.Running)
		}
	})
}

func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &machine{t: t, interval: 5 * time.Second}
		l := m.loop(On)
		ctx, stop := context.WithCancel(t.Context())
		for i := range maxWaiting + 1 {
			go func() { _ = l.Enter(ctx, byHand(fmt.Sprint(i)), func(string) {}) }()
		}
		synctest.Wait()
		if err := l.Enter(ctx, byHand("one more"), func(string) {}); !errors.Is(err, tune.ErrBusy) {
			t.Errorf("got %v", err)
		}
		stop()
		synctest.Wait()
	})
}

// Frozen, nothing starts: not the loop, not who waits, not who comes.
func TestFrozenLoopStartsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		own := recommend("slow", "vm.a", "1", "2")
		m := &machine{t: t, sick: true, interval: 5 * time.Second, offers: []tune.Recommendation{own},
			verdict: map[string]tune.Rollout{own.ID: committed(own)}}
		l := m.loop(On)
		if err := l.Enter(t.Context(), byHand("running"), nil); err != nil {
			t.Fatal(err)
		}
		var waited error
		go func() { waited = l.Enter(t.Context(), byHand("waits"), func(string) {}) }()
		synctest.Wait()
		l.Freeze(tune.Freeze{By: "uid 0", Why: "release day"})
		synctest.Wait()
		if !errors.Is(waited, tune.ErrFrozen) || len(l.Queue()) != 0 {
			t.Errorf("who waited got %v", waited)
		}
		l.End(byHand("running"), nil)
		if err := l.Enter(t.Context(), byHand("late"), nil); !errors.Is(err, tune.ErrFrozen) || !strings.Contains(err.Error(), "release day") {
			t.Errorf("who came got %v", err)
		}
		watch(t, l, 5*time.Minute)
		if len(m.tried()) != 0 || !strings.Contains(l.State().Decision, "frozen by uid 0") {
			t.Errorf("tried %v: %s", m.tried(), l.State().Decision)
		}
		l.Thaw()
		m.Reset()
		watch(t, l, 5*time.Minute)
		if len(m.tried()) != 1 {
			t.Errorf("thawed, it tried %v", m.tried())
		}
	})
}

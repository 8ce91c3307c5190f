package loop

import (
	"context"
	"fmt"
	"slices"

	"semantos/internal/tune"
)

// waiter is a person's rollout that waits for the one place.
type waiter struct {
	rollout tune.Rollout  // state queued
	called  chan struct{} // closed when the place is its own, or when it may not have it
	refused error
}

// maxWaiting bounds the queue: more than this is a script that does not wait for its answers.
const maxWaiting = 32

// Enter claims the one place for a rollout that a person started, and waits for it behind those who came
// first: effects of two rollouts at once could not be told apart. told hears once of what it waits for.
// Every Enter without an error needs an End. The error is ctx's, the reason of a Dismiss, or a freeze.
func (l *Loop) Enter(ctx context.Context, r tune.Rollout, told func(behind string)) error {
	l.mu.Lock()
	switch {
	case l.mem.frozen != nil:
		defer l.mu.Unlock()
		return frozen(*l.mem.frozen)
	case len(l.queue) >= maxWaiting:
		defer l.mu.Unlock()
		return &tune.Error{Op: "queue rollout of", Subject: r.Recommendation.ID, Err: fmt.Errorf("%w: %d rollouts wait already", tune.ErrBusy, maxWaiting),
			Hint: "wait for them, or see semantos status and semantos abort"}
	case l.mem.running == "":
		defer l.mu.Unlock()
		l.claim(r)
		return nil
	}
	behind := l.behind()
	r.State, r.Detail = tune.Queued, "waits for "+behind
	w := &waiter{rollout: r, called: make(chan struct{})}
	l.queue = append(l.queue, w)
	l.mu.Unlock()
	told(behind)
	select {
	case <-w.called:
		return w.refused
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.queue, w); i >= 0 {
		l.queue = slices.Delete(l.queue, i, i+1)
	} else if w.refused == nil { // the place came at the same moment: it is passed on
		l.free("")
	}
	return ctx.Err()
}

// behind names what the next in the queue waits for.
func (l *Loop) behind() string {
	if n := len(l.queue); n > 0 {
		return "rollout " + l.queue[n-1].rollout.ID
	}
	if l.onPlace != "" {
		return "rollout " + l.onPlace
	}
	return "the rollout of " + l.mem.running
}

// claim gives the free place to a rollout.
func (l *Loop) claim(r tune.Rollout) {
	l.mem.running, l.onPlace = r.Recommendation.ID, r.ID
	l.state.Phase, l.state.Reason = "rolling_out", "a person's trial is running: "+r.Recommendation.ID
}

// free takes the place from what has ended and calls the first who waits: people come before the loop.
func (l *Loop) free(reason string) {
	l.mem.running, l.onPlace = "", ""
	if len(l.queue) > 0 {
		first := l.queue[0]
		l.queue = l.queue[1:]
		l.claim(first.rollout)
		close(first.called)
		return
	}
	l.state.Phase, l.state.Reason = "watching", reason
}

// Queue gives the rollouts that wait, the next one first.
func (l *Loop) Queue() []tune.Rollout {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]tune.Rollout, len(l.queue))
	for i, w := range l.queue {
		out[i] = w.rollout
	}
	return out
}

// Dismiss takes a waiting rollout out of the queue, by its own id or its recommendation's, with the reason
// its Enter returns. It reports whether one waited.
func (l *Loop) Dismiss(id string, why error) (tune.Rollout, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, w := range l.queue {
		if w.rollout.ID == id || w.rollout.Recommendation.ID == id {
			l.queue = slices.Delete(l.queue, i, i+1)
			w.refused = why
			close(w.called)
			return w.rollout, true
		}
	}
	return tune.Rollout{}, false
}

// Freeze keeps everything from starting until Thaw, and dismisses what waits.
func (l *Loop) Freeze(f tune.Freeze) {
	l.mu.Lock()
	l.mem.frozen = &f
	for _, w := range l.queue {
		w.refused = frozen(f)
		close(w.called)
	}
	l.queue = nil
	if l.mem.running == "" {
		l.state.Phase, l.state.Reason = "frozen", f.Error()
	}
	l.mu.Unlock()
	l.say("freeze", f.Error(), f)
}

// CheckFreeze asks whether somebody froze or thawed the host from outside.
func (l *Loop) CheckFreeze(ctx context.Context) {
	if l.cfg.Frozen == nil {
		return
	}
	now := l.cfg.Frozen(ctx)
	l.mu.Lock()
	was := l.mem.frozen
	l.mu.Unlock()
	switch {
	case now != nil && (was == nil || was.By != now.By || was.Why != now.Why): // the two files may differ by a moment
		l.Freeze(*now)
	case now == nil && was != nil:
		l.Thaw()
	}
}

// Thaw ends a Freeze.
func (l *Loop) Thaw() {
	l.mu.Lock()
	was := l.mem.frozen
	l.mem.frozen = nil
	if l.mem.running == "" {
		l.state.Phase, l.state.Reason = "watching", "thawed"
	}
	l.mu.Unlock()
	if was != nil {
		l.say("freeze", "trials may start again", nil)
	}
}

func frozen(f tune.Freeze) error {
	return &tune.Error{Op: "start rollout", Err: f, Hint: "semantos freeze --off lets changes be made again"}
}

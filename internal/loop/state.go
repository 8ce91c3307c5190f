package loop

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"semantos/internal/tune"
)

// State says where the loop stands.
func (l *Loop) State() tune.LoopState {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.state
	s.Running, s.Held = l.mem.running, l.mem.held
	s.Decisions = maps.Clone(s.Decisions)
	s.Leftovers = slices.Clone(s.Leftovers)
	s.Resting = []tune.Resting{}
	now := l.cfg.Now()
	for _, what := range slices.Sorted(maps.Keys(l.mem.resting)) {
		if r := l.mem.resting[what]; now.Before(r.until) {
			s.Resting = append(s.Resting, tune.Resting{What: what, Until: r.until, Why: r.why})
		}
	}
	for _, what := range slices.Sorted(maps.Keys(l.mem.swings)) {
		if w := l.mem.swings[what]; now.Before(w.until) {
			s.Resting = append(s.Resting, tune.Resting{What: what, Until: w.until, Why: w.why})
		}
	}
	s.Yielded = slices.Sorted(maps.Keys(l.mem.yielded))
	if s.Yielded == nil {
		s.Yielded = []string{}
	}
	return s
}

// Snapshot gives the newest sample and the symptoms of the newest diagnosis.
func (l *Loop) Snapshot() (tune.Snapshot, []tune.Symptom) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.snap, slices.Clone(l.symptoms)
}

// Recommendations gives those of the newest diagnosis.
func (l *Loop) Recommendations() []tune.Recommendation {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.recs)
}

// Hold keeps the loop from starting trials until Resume; a running one is not stopped.
func (l *Loop) Hold(why string) {
	l.mu.Lock()
	l.mem.held = why
	if why == "" {
		l.mem.held = "by an operator"
	}
	if l.mem.running == "" {
		l.state.Phase, l.state.Reason = "held", "held: "+l.mem.held
	}
	l.mu.Unlock()
	l.say("hold", "no new trials: "+why, nil)
}

// Resume ends a Hold, and the wait for a held rollout.
func (l *Loop) Resume() {
	l.mu.Lock()
	l.mem.held, l.mem.waiting = "", ""
	if l.mem.running == "" {
		l.state.Phase, l.state.Reason = "watching", "resumed"
	}
	l.mu.Unlock()
	l.say("hold", "trials may start again", nil)
}

// End records the end of a trial whose Enter claimed the place.
func (l *Loop) End(r tune.Rollout, err error) { l.end(context.Background(), r, err) }

// RolledBack tells the loop that a person put a committed rollout back.
func (l *Loop) RolledBack(r tune.Rollout) {
	r.State, r.Reason = tune.RolledBack, tune.ReasonOperator
	l.mu.Lock()
	if l.mem.waiting == r.ID {
		l.mem.waiting = ""
	}
	l.mem.remember(r, nil, l.cfg.Now())
	l.mu.Unlock()
	l.say("outcome", "rollout "+r.ID+" was put back by a person", nil)
}

func (l *Loop) end(ctx context.Context, r tune.Rollout, err error) {
	l.cfg.Sampler.Reset()
	standing := l.standing(ctx, r, err)
	l.mu.Lock()
	outcome := l.mem.remember(r, err, l.cfg.Now())
	l.mem.inherit(standing)
	clear(l.mem.streak)
	l.state.Decisions[outcome]++
	l.free("")
	if l.mem.running == "" {
		l.state.Phase, l.state.Reason = "warming", "a fresh window after a trial"
	}
	// The window holds both sides of the trial; a diagnosis over it would be of neither.
	l.snap.Window = 0
	l.window++
	l.mu.Unlock()
	text := fmt.Sprintf("%s: %s %s", r.Recommendation.ID, strings.ReplaceAll(outcome, "_", " "), r.Detail)
	if err != nil {
		text = fmt.Sprintf("%s: %s: %v", r.Recommendation.ID, outcome, err)
	}
	l.say("outcome", strings.TrimSpace(text), r)
	l.recallSwings(ctx)
}

// recall rebuilds from history what is to be left alone.
func (l *Loop) recall(ctx context.Context) {
	if l.cfg.History == nil {
		return
	}
	history, err := l.cfg.History(ctx)
	if err != nil {
		l.fail("read history", err)
		return
	}
	l.mu.Lock()
	past := replay(newMemory(l.mem.mode), history)
	l.mem.resting, l.mem.yielded = past.resting, past.yielded // what stands is asked of the journal
	l.mu.Unlock()
	l.noteSwings(history)
}

// recallSwings looks for tunables that go back and forth, and says of each new one.
func (l *Loop) recallSwings(ctx context.Context) {
	if l.cfg.History == nil {
		return
	}
	history, err := l.cfg.History(ctx)
	if err != nil {
		l.fail("read history", err)
		return
	}
	l.noteSwings(history)
}

func (l *Loop) noteSwings(history []tune.Rollout) {
	now := l.cfg.Now()
	found := swings(history, now)
	l.mu.Lock()
	before := l.mem.swings
	l.mem.swings = found
	l.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(found)) {
		if before[k] != found[k] {
			l.say("swinging", fmt.Sprintf("%s is left alone until %s: %s", k, clock(found[k].until, now), found[k].why), nil)
		}
	}
}

// standing asks what a kept trial left in place: the kernel may have rounded what was proposed, and that
// is not somebody else's write.
func (l *Loop) standing(ctx context.Context, r tune.Rollout, err error) []tune.Managed {
	if err != nil || r.State != tune.Committed || l.cfg.Leftovers == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	all, err := l.cfg.Leftovers(ctx)
	if err != nil {
		l.fail("look at what was kept", err)
		return nil
	}
	return slices.DeleteFunc(slices.Clone(all), func(m tune.Managed) bool {
		return !slices.ContainsFunc(r.Recommendation.Changes, func(c tune.Change) bool {
			return c.Tunable == m.Tunable && c.Target == m.Target
		})
	})
}

func (l *Loop) setPhase(phase, reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.Phase, l.state.Reason = phase, reason
	l.state.Ready = false
}

func (l *Loop) say(kind, message string, data any) {
	l.cfg.Log.Info(message, "kind", kind)
	if l.cfg.Observe != nil {
		l.cfg.Observe(Event{Time: l.cfg.Now(), Kind: kind, Message: message, Data: data})
	}
}

// fail reports an error that the loop survives, once per text: a condition that lasts is one event.
func (l *Loop) fail(op string, err error) {
	text := op + ": " + err.Error()
	l.mu.Lock()
	repeated := l.state.LastError == text
	l.state.LastError = text
	l.mu.Unlock()
	if repeated {
		return
	}
	l.cfg.Log.Warn(op, "error", err)
	if l.cfg.Observe != nil {
		l.cfg.Observe(Event{Time: l.cfg.Now(), Kind: "error", Message: text})
	}
}

package loop

import (
	"context"
	"fmt"
	"time"

	"semantos/internal/tune"
)

// poll diagnoses when it is time to, and gives the recommendation to try, if any.
func (l *Loop) poll(ctx context.Context) *tune.Recommendation {
	snap, due := l.due(ctx)
	if !due {
		return nil
	}
	l.CheckFreeze(ctx)
	if l.cfg.Calibration != nil {
		c := l.cfg.Calibration(ctx)
		l.mu.Lock()
		l.mem.calibrated(c)
		l.mu.Unlock()
	}
	symptoms, recs, err := l.cfg.Adviser.Advise(ctx, snap)
	if err != nil {
		l.fail("diagnose", err)
		return nil
	}
	now := l.cfg.Now()
	if len(recs) > 0 {
		if err := l.cfg.Store.SaveRecommendations(ctx, recs, now); err != nil {
			// A trial that history cannot keep must not be started by a machine.
			l.fail("store recommendations", err)
			return l.decide(symptoms, nil, now)
		}
	}
	l.mu.Lock()
	l.state.LastError = ""
	l.mu.Unlock()
	return l.decide(symptoms, recs, now)
}

func (l *Loop) due(ctx context.Context) (tune.Snapshot, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.cfg.Now()
	switch {
	case ctx.Err() != nil:
		return tune.Snapshot{}, false
	case l.mem.running != "":
		l.state.Phase, l.state.Reason = "rolling_out", "a trial is running: "+l.mem.running
		return tune.Snapshot{}, false
	case now.Sub(l.state.LastTick) > 3*l.cfg.SampleInterval+l.cfg.PollInterval:
		l.state.Phase, l.state.Ready, l.state.Reason = "warming", false, "no sample succeeds: "+l.state.LastError
		return tune.Snapshot{}, false
	case l.snap.Window < l.cfg.MinWindow.Seconds():
		l.state.Phase = "warming"
		l.state.Reason = fmt.Sprintf("%.0f of %.0f s sampled", l.snap.Window, l.cfg.MinWindow.Seconds())
		return tune.Snapshot{}, false
	case !l.lastPoll.IsZero() && now.Sub(l.lastPoll) < l.cfg.PollInterval:
		return tune.Snapshot{}, false
	}
	l.lastPoll = now
	return l.snap, true
}

func (l *Loop) decide(symptoms []tune.Symptom, recs []tune.Recommendation, now time.Time) *tune.Recommendation {
	l.mu.Lock()
	l.mem.observe(symptoms)
	var yielded []tune.Change
	if l.mem.running == "" {
		yielded = l.mem.drifted(recs)
	}
	if l.cfg.Closed != nil {
		l.mem.closed = l.cfg.Closed(now)
	}
	c := choose(l.mem, recs, now)
	fresh := changed(l.symptoms, symptoms)
	l.symptoms, l.recs = symptoms, recs
	l.state.Diagnoses++
	l.state.LastDiagnosis, l.state.Ready, l.state.Decision = now, true, c.why
	l.state.Phase, l.state.Reason = "watching", c.why
	if l.mem.frozen != nil {
		l.state.Phase = "frozen"
	} else if l.mem.waiting != "" {
		l.state.Phase = "waiting"
	} else if l.mem.held != "" {
		l.state.Phase = "held"
	}
	if c.rec != nil {
		l.mem.running = c.rec.ID
		l.state.Phase, l.state.Reason = "rolling_out", "a trial is running: "+c.rec.ID
	}
	l.mu.Unlock()

	if fresh {
		l.say("symptoms", fmt.Sprintf("%d symptoms, %d recommendations", len(symptoms), len(recs)), symptoms)
	}
	for _, y := range yielded {
		text := changeKey(y.Tunable, y.Target) + " was written by something else and is left to it until a person applies it again"
		if l.cfg.Who != nil {
			text += ": " + l.cfg.Who(y)
		}
		l.say("yielded", text, nil)
	}
	if c.rec != nil {
		l.say("trial", "trying "+c.rec.ID+": "+c.rec.Rationale, *c.rec)
	}
	return c.rec
}

// changed reports whether other symptoms stand than before; their numbers always move.
func changed(before, after []tune.Symptom) bool {
	if len(before) != len(after) {
		return true
	}
	for i := range before {
		if before[i].Name != after[i].Name || before[i].Entity != after[i].Entity {
			return true
		}
	}
	return false
}

package loop

import (
	"errors"
	"fmt"
	"time"

	"semantos/internal/tune"
)

// period is how long something rests: base at first, doubled each time up to limit. What hurt rests
// with its tunables; what did nothing rests alone and long, so that the next candidate gets its turn;
// what could not be judged (the load went away) may be judged soon.
type period struct{ base, limit time.Duration }

func hurtPeriod() period         { return period{15 * time.Minute, 24 * time.Hour} }
func noEffectPeriod() period     { return period{6 * time.Hour, 7 * 24 * time.Hour} }
func inconclusivePeriod() period { return period{2 * time.Minute, 6 * time.Hour} }
func operatorPeriod() period     { return period{24 * time.Hour, 7 * 24 * time.Hour} }
func vetoedPeriod() period       { return period{30 * time.Minute, 24 * time.Hour} }
func faultPeriod() period        { return period{30 * time.Second, 30 * time.Minute} }

func (p period) after(times int) time.Duration {
	d := p.base
	for range times {
		if d >= p.limit {
			return p.limit
		}
		d *= 2
	}
	return min(d, p.limit)
}

func (m *memory) rest(what string, p period, why string, now time.Time) {
	old := m.resting[what]
	m.resting[what] = rest{until: now.Add(p.after(old.times)), times: old.times + 1, why: why}
}

func (m *memory) pause(p period, why string, now time.Time) {
	m.pauseTill, m.pauseWhy = now.Add(p.after(m.faults)), why
	m.faults++
}

// remember draws the consequences of a finished trial (or of an error that kept it from finishing) and
// names the outcome for the counters.
func (m *memory) remember(r tune.Rollout, err error, now time.Time) string {
	if err != nil {
		return m.rememberError(r, err, now)
	}
	if m.waiting == r.ID {
		m.waiting = ""
	}
	rec := r.Recommendation
	switch r.State {
	case tune.Committed:
		m.keep(r)
		m.faults = 0
		return "committed"
	case tune.Held, tune.Running:
		m.waiting = r.ID
		return "held"
	case tune.Vetoed:
		m.rest(rec.ID, vetoedPeriod(), "vetoed: "+r.Reason, now)
		return "vetoed"
	}
	m.forget(r)
	switch r.Reason {
	case tune.ReasonNoEffect:
		m.rest(rec.ID, noEffectPeriod(), "it had no effect", now)
		m.faults = 0
	case tune.ReasonInconclusive:
		m.rest(rec.ID, inconclusivePeriod(), "it could not be judged", now)
	case tune.ReasonYielded:
		for _, c := range rec.Changes {
			m.yielded[changeKey(c.Tunable, c.Target)] = "something else wrote it during a trial"
		}
	case tune.ReasonOperator:
		why := "a person put it back"
		if r.ExposedSeconds == 0 && r.Undone.IsZero() {
			why = "a person ended it before anything was written"
		}
		m.restAll(rec, operatorPeriod(), why, now)
	case tune.ReasonExpired:
		m.rest(rec.ID, inconclusivePeriod(), "its time was over before it could be judged", now)
	case tune.ReasonInterrupted:
		m.pause(faultPeriod(), "the last trial was interrupted", now)
	case tune.ReasonFault:
		m.restAll(rec, hurtPeriod(), "the last trial failed: "+r.Detail, now)
		m.pause(faultPeriod(), "the last trial failed", now)
	default: // worse, a limit, or a reason of the gate that came later: all of them undo
		m.restAll(rec, hurtPeriod(), "it was put back: "+r.Reason, now)
		m.hurt(rec)
		m.pause(faultPeriod(), "the last trial was put back: "+r.Reason, now)
	}
	return "rolled_back_" + outcomeWord(r.Reason)
}

// outcomeWord keeps the set of counter labels closed, whatever text a reason carries.
func outcomeWord(reason string) string {
	switch reason {
	case tune.ReasonNoEffect, tune.ReasonInconclusive, tune.ReasonYielded, tune.ReasonOperator,
		tune.ReasonInterrupted, tune.ReasonFault, tune.ReasonWorse, tune.ReasonLimit, tune.ReasonExpired:
		return reason
	}
	return "other"
}

func (m *memory) rememberError(r tune.Rollout, err error, now time.Time) string {
	id := r.Recommendation.ID
	switch {
	case errors.Is(err, tune.ErrVetoed):
		m.rest(id, vetoedPeriod(), err.Error(), now)
		return "vetoed"
	case errors.Is(err, tune.ErrStale), errors.Is(err, tune.ErrGone):
		// The host moved between the diagnosis and the trial; the next diagnosis sees it as it is.
		m.rest(id, faultPeriod(), err.Error(), now)
		return "stale"
	case errors.Is(err, tune.ErrDrifted):
		for _, c := range r.Recommendation.Changes {
			m.yielded[changeKey(c.Tunable, c.Target)] = err.Error()
		}
		return "rolled_back_yielded"
	case errors.Is(err, tune.ErrBusy):
		m.pause(faultPeriod(), err.Error(), now)
		return "busy"
	}
	if id != "" {
		m.rest(id, hurtPeriod(), err.Error(), now)
	}
	m.pause(faultPeriod(), err.Error(), now)
	return "error"
}

func (m *memory) restAll(rec tune.Recommendation, p period, why string, now time.Time) {
	m.rest(rec.ID, p, why, now)
	for _, c := range rec.Changes {
		m.rest(changeKey(c.Tunable, c.Target), p, why, now)
	}
}

// hurt marks what rests because it did harm.
func (m *memory) hurt(rec tune.Recommendation) {
	for _, c := range rec.Changes {
		k := changeKey(c.Tunable, c.Target)
		r := m.resting[k]
		r.hurt = true
		m.resting[k] = r
	}
}

// keep is what a commit means: what rested worked after all, and what was yielded somebody took back.
func (m *memory) keep(r tune.Rollout) {
	rec := r.Recommendation
	delete(m.resting, rec.ID)
	for _, c := range rec.Changes {
		k := changeKey(c.Tunable, c.Target)
		delete(m.resting, k)
		delete(m.yielded, k)
		from := c.Current
		if old, ok := m.kept[k]; ok {
			from = old.from
		}
		m.kept[k] = change{from: from, to: r.Standing(c)}
	}
}

// forget drops what a rollback took back: the value before is right again.
func (m *memory) forget(r tune.Rollout) {
	for _, c := range r.Recommendation.Changes {
		k := changeKey(c.Tunable, c.Target)
		if kept, ok := m.kept[k]; ok && kept.to == r.Standing(c) {
			delete(m.kept, k)
		}
	}
}

// inherit takes over what an earlier run left committed, so that drift of it is seen too.
func (m *memory) inherit(left []tune.Managed) {
	for _, x := range left {
		k := changeKey(x.Tunable, x.Target)
		switch x.State {
		case "committed", "persisted":
			m.kept[k] = change{from: x.Original, to: x.Current}
		case "yielded":
			m.yielded[k] = fmt.Sprintf("it was left to something else before this start (%q)", x.Current)
		}
	}
}

package rollout

import (
	"time"

	"semantos/internal/tune"
)

// resume goes on with a trial that was saved when its process ended: the guard has put every value back
// since, the slot under way is lost and measured again, and the time in which nothing ran does not count.
func (s Trial) resume(down time.Duration, now time.Time) (Trial, []Effect) {
	step := Trial.measure
	switch s.phase {
	case phaseReady:
		return s.beginStage(now)
	case phaseDone:
		return s, nil
	case phaseRestoring: // it was to be put back, and that is done
		s.State, s.phase = tune.RolledBack, phaseDone
		return s, nil
	case phaseCommitting: // it does not stand any more: the whole exposure is looked at again
		st := s.stage()
		st.Verdict, st.Reason = tune.Inconclusive, ""
		s.phase, s.Reason, s.Detail, s.Effect = phaseSlots, "", "", nil
		step = Trial.nextSlot // the last one has its reading
	}
	// Written down, a time has lost its monotonic clock: what is counted from now on has it again, so that
	// setting the clock moves no stage.
	later := func(t time.Time) time.Time { return now.Add(t.Add(down).Sub(now)) }
	s.began, s.lookAt, s.hopeAt = later(s.began), later(s.lookAt), later(s.hopeAt)
	s.exposed, s.dosed, s.standing = false, 0, nil
	return settled(step(s))
}

// settled has the first sample after values were written or put back outside the plan wait for them.
func settled(s Trial, effects []Effect) (Trial, []Effect) {
	effects[len(effects)-1].Settle = s.Plan.Settle
	return s, effects
}

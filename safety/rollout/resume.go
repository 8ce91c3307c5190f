package rollout

import (
	"time"

	"semantos/internal/tune"
)

// resume goes on with a trial that was saved when its process ended: the guard has put every value back
// since, the slot under way is lost and measured again, and the time in which nothing ran does not count.
func (s Trial) resume(down time.Duration, now time.Time) (Trial, []Effect) {
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
	}
	s.began, s.lookAt, s.hopeAt = s.began.Add(down), s.lookAt.Add(down), s.hopeAt.Add(down)
	s.exposed, s.dosed, s.standing = false, 0, nil
	return s.measure()
}

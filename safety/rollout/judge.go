package rollout

import (
	"fmt"
	"time"

	"semantos/internal/tune"
	"semantos/safety/effect"
)

// recentSlots are the newest slots looked at by themselves, so that a change that turns bad late is
// not hidden by its good beginning.
const recentSlots, recentCompared = 2, 8

// split gives the treated readings of the exposure now judged and the untreated ones beside them. In
// switchback every treated slot had the whole change, so all stages count together; a dose is judged by
// its own slots. Untreated slots count wherever they stand.
func (s Trial) split() (treated, untreated []tune.MeterSample) {
	stage := len(s.Stages) - 1
	for _, r := range s.readings {
		switch {
		case !r.treated:
			untreated = append(untreated, r.sample)
		case r.stage == stage || s.plan().Mode == modeSwitchback:
			treated = append(treated, r.sample)
		}
	}
	return treated, untreated
}

func (s Trial) assess() assessment {
	t, u := s.split()
	return s.compare(t, u)
}

func (s Trial) compare(treated, untreated []tune.MeterSample) assessment {
	return assess(s.Policy.Comparer, metricsOf(s.Policy.Measure, s.Policy.LossMS), s.Policy.Margin, treated, untreated)
}

// alarm is asked after every slot, in every state: a broken limit, or surely worse.
func (s Trial) alarm() (tune.Verdict, string, string) {
	t, u := s.split()
	a := s.compare(t, u)
	if s.Policy.Measure.Signal == "" {
		if said, broke := s.Policy.Limits.broken(t, u, a); broke {
			return tune.Fail, tune.ReasonLimit, said
		}
	}
	if f, worse := a.worse(actLevel); worse {
		return tune.Fail, tune.ReasonWorse, f.String()
	}
	newest := s.compare(tail(t, recentSlots), tail(u, recentCompared))
	if f, worse := newest.worse(recentLevel); worse && len(u) >= 3 {
		return tune.Fail, tune.ReasonWorse, "the newest slots: " + f.String()
	}
	return tune.Inconclusive, "", ""
}

// judgeStage ends a partial stage: it passes unless treated looks worse by more than the margin.
func (s Trial) judgeStage(now time.Time, late bool) (Trial, []Effect) {
	st := s.stage()
	if !s.Policy.Measured {
		st.Verdict, st.Reason = tune.Pass, s.noted("no limit broke; nothing else was measured")
		return s.advance(now)
	}
	a := s.assess()
	st.Effect = a.effect()
	if f, worse := a.worse(reportLevel); worse {
		return s.putBack(now, tune.Fail, tune.ReasonWorse, f.String())
	}
	lacking := s.lacking(a)
	if lacking == "" {
		f, _ := a.primary()
		st.Verdict, st.Reason = tune.Pass, s.noted("not worse: "+f.String())
		return s.advance(now)
	}
	if late {
		return s.putBack(now, tune.Inconclusive, tune.ReasonInconclusive,
			fmt.Sprintf("not judged within %s: %s", repeats*s.Plan.StageTime, lacking))
	}
	return s.nextSlot()
}

// lacking says what a partial stage still needs before it may pass, "" for nothing. No data is a need.
func (s Trial) lacking(a assessment) string {
	st := s.stage()
	lastPartial := len(s.Stages) == len(s.Plan.Stages)-1
	_, untreated := s.split()
	switch {
	case s.misses > 0:
		return "the last slot gave no data"
	case !a.known():
		return "too few slots with data to compare"
	case st.Treated < 1 || st.Compared < 1:
		return "treated and untreated slots with data are both needed"
	case lastPartial && len(untreated) < effect.MinUntreated:
		return fmt.Sprintf("the whole exposure needs %d untreated slots to compare with", effect.MinUntreated)
	}
	if f, ok := a.suspect(); ok {
		return "perhaps worse: " + f.String()
	}
	return ""
}

func (s Trial) advance(now time.Time) (Trial, []Effect) {
	if s.Policy.Gates || s.Policy.Hold && len(s.Stages) == len(s.Plan.Stages)-1 {
		return s.wait()
	}
	return s.beginStage(now)
}

// judgeWhole ends the rollout: kept when better (the operator's own change: when not worse), put back
// when not, measured on while more slots may tell. It looks once a stage time, not after every slot.
// What one look could not tell is measured on beside untreated slots again: a long run of treated ones
// only says that time went by.
func (s Trial) judgeWhole(now time.Time, late bool) (Trial, []Effect) {
	if !s.Policy.Measured {
		if s.Policy.Yes {
			return s.keep(tune.ReasonUnmeasured, "no limit broke; kept unmeasured because --yes was given")
		}
		return s.putBack(now, tune.Inconclusive, tune.ReasonUnmeasured,
			"nothing measured whether it helps; give a meter, or --yes to keep it unmeasured")
	}
	a := s.assess()
	st := s.stage()
	st.Effect = a.effect()
	if f, worse := a.worse(reportLevel); worse {
		return s.putBack(now, tune.Fail, tune.ReasonWorse, f.String())
	}
	doubt := s.doubt(a)
	if doubt == "" {
		best, better := a.better()
		if better && s.sideBySide(best) {
			return s.keep(tune.ReasonBetter, "better: "+best.String())
		}
		f, _ := a.primary()
		if s.Policy.Set {
			return s.keep(tune.ReasonNotWorse, "not worse: "+f.String())
		}
		if better && late {
			return s.putBack(now, tune.Inconclusive, tune.ReasonNoEffect,
				"better than before, but not beside untreated slots, so the load may have eased: "+f.String())
		}
		if !a.promising() || late {
			return s.putBack(now, tune.Inconclusive, tune.ReasonNoEffect, join("not shown to be better: "+f.String(), s.Plan.Caveat))
		}
	} else if late {
		return s.putBack(now, tune.Inconclusive, tune.ReasonInconclusive,
			fmt.Sprintf("not judged within %s: %s", repeats*s.Plan.StageTime, doubt))
	}
	// In doubt more slots help at once; a promise is looked at again only after another stage time, or
	// looking often would make chance look like an effect.
	if doubt == "" {
		s.lookAt = now.Add(s.Plan.StageTime)
		s.confirm = s.plan().Mode == modeSwitchback
	}
	return s.nextSlot()
}

// doubt says what forbids judging the whole exposure now, "" for nothing.
func (s Trial) doubt(a assessment) string {
	switch {
	case s.misses > 0:
		return "the last slot gave no data"
	case s.stage().Treated < 2:
		return "fewer than two treated slots of the whole exposure have data"
	case !a.enough():
		return fmt.Sprintf("fewer than %d treated and %d untreated slots have data", effect.MinTreated, effect.MinUntreated)
	}
	if f, ok := a.suspect(); ok {
		return "perhaps worse: " + f.String()
	}
	return ""
}

// sideBySide asks the slots that stood beside untreated ones to lean the same way as all together: the
// whole exposure is compared with earlier time, and a load that eased meanwhile would look like a cure.
// Doses differ between stages, so there is nothing to ask them.
func (s Trial) sideBySide(f finding) bool {
	if s.plan().Mode != modeSwitchback {
		return true
	}
	var treated, untreated []tune.MeterSample
	for _, r := range s.readings {
		switch {
		case !r.treated:
			untreated = append(untreated, r.sample)
		case r.beside:
			treated = append(treated, r.sample)
		}
	}
	for _, g := range s.compare(treated, untreated).findings {
		if g.metric.name == f.metric.name {
			_, high := g.bounds(leanLevel)
			return high < 0
		}
	}
	return false
}

func (s Trial) keep(reason, detail string) (Trial, []Effect) {
	st := s.stage()
	st.Verdict, st.Reason = tune.Pass, s.noted(detail)
	s.Effect = st.Effect
	s.phase, s.State, s.Reason, s.Detail = phaseCommitting, tune.Running, reason, detail
	if !s.exposed { // judged after an untreated slot: what is kept must stand first
		s.exposed, s.dosed = true, s.plan().Dose
		return s, []Effect{{Do: DoExpose, Changes: s.plan().Changes}, {Do: DoCommit}}
	}
	return s, []Effect{{Do: DoCommit}}
}

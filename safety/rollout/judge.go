package rollout

import (
	"fmt"
	"slices"
	"time"

	"semantos/internal/tune"
)

const (
	// alarmRuns of treated slots in a row end a rollout when each is plainly worse. One more is asked once
	// the whole exposure stood without one, and while it waits for a person: chance has longer to make one.
	alarmRuns, alarmRunsLate = 2, 3
	// enoughUntreated slots are there to hold the whole exposure against before it begins.
	enoughUntreated = 3
	// keepPlain slots outside any block are remembered, for the alarm and the limits.
	keepPlain = 200
)

// from is the first stage whose treated slots count. In switchback every treated slot had the whole
// change, so all stages count together; a dose is judged by its own slots.
func (s Trial) from() int {
	if s.plan().Mode == modeDose {
		return len(s.Stages) - 1
	}
	return 0
}

// split gives the treated samples of the exposure now judged and the untreated ones: of one of several like
// targets, counted from 1, or of all there is with 0.
func (s Trial) split(unit int) (treated, untreated []tune.MeterSample) {
	for _, r := range s.readings {
		switch {
		case r.sample == nil || unit > 0 && r.unit != unit:
		case !r.treated:
			untreated = append(untreated, *r.sample)
		case r.stage >= s.from():
			treated = append(treated, *r.sample)
		}
	}
	return treated, untreated
}

func (s Trial) assess() assessment {
	return assess(metricsOf(s.Policy.Measure, s.Policy.LossMS), s.Policy.Margin, s.readings, s.from())
}

// alarm is asked after every slot, in every state: a broken limit, surely worse, or plainly worse.
func (s Trial) alarm(a assessment) (tune.Verdict, string, string) {
	if !s.Policy.Measured {
		return tune.Inconclusive, "", ""
	}
	if s.Policy.Measure.Signal == "" && s.Policy.Limits != (Limits{}) {
		if said, broke := s.limit(a); broke {
			return tune.Fail, tune.ReasonLimit, said
		}
	}
	if !s.between() { // inside a block the evidence is as it was before it
		if f, worse := a.worse(); worse {
			return tune.Fail, tune.ReasonWorse, f.String()
		}
	}
	runs := alarmRuns
	if s.phase == phaseHeld || s.confirm {
		runs = alarmRunsLate
	}
	if s.runEnded() {
		if f, plain := a.alarm(runs); plain {
			return tune.Fail, tune.ReasonWorse, fmt.Sprintf("plainly worse in the newest %d treated: %s", runs, f)
		}
	}
	return tune.Inconclusive, "", ""
}

// limit says which limit treatment broke. Each of several like targets is held against itself: one that lay above
// before is not harmed, and one that is harmed is not outweighed by the others. One never seen untreated has only
// the others to be held against. Surely worse is said of all together, by [Trial.alarm].
func (s Trial) limit(a assessment) (string, bool) {
	t, u := s.split(0)
	if len(s.Plan.Units) == 0 {
		return s.Policy.Limits.broken(t, u, a)
	}
	for i, unit := range s.Plan.Units {
		own, before := s.split(i + 1)
		if len(before) == 0 {
			before = u
		}
		if said, broke := s.Policy.Limits.broken(own, before, assessment{}); broke {
			return unit.Target + ": " + said, true
		}
	}
	return "", false
}

// runEnded reports that the slot just done was untreated, or is the last one before another treated one
// would add to the harm. In the treated-only part a suspicion brings an untreated slot by itself.
func (s Trial) runEnded() bool {
	if !s.current.treated || len(s.Plan.Units) > 0 { // untreated units stand beside the treated ones
		return true
	}
	return (!s.whole() || s.confirm) && s.upcoming().treated
}

// suspicious reports that the newest treated slot looks plainly worse than the untreated ones before it.
func (s Trial) suspicious() bool {
	a := s.assess()
	_, ok := a.find(func(f finding) bool { return a.counts(f) && f.suspicious(a.marginOf(f)) })
	return ok
}

// judgeStage ends a partial stage: it passes unless treated looks worse by more than the margin.
func (s Trial) judgeStage(a assessment, now time.Time, late bool) (Trial, []Effect) {
	st := s.stage()
	if !s.Policy.Measured {
		st.Verdict, st.Reason = tune.Pass, s.noted("no limit broke; nothing else was measured")
		return s.advance(now)
	}
	lacking := s.lacking(a)
	if lacking == "" && !s.between() {
		f, _ := a.primary()
		st.Effect = f.effect()
		st.Verdict, st.Reason = tune.Pass, s.noted("not worse: "+f.String())
		return s.advance(now)
	}
	if late && lacking != "" {
		return s.putBack(now, tune.Inconclusive, tune.ReasonInconclusive,
			fmt.Sprintf("not judged within %s: %s", repeats*s.Plan.StageTime, lacking))
	}
	return s.nextSlot()
}

// lacking says what a partial stage still needs before it may pass, "" for nothing. No data is a need.
func (s Trial) lacking(a assessment) string {
	st := s.stage()
	lastPartial := len(s.Stages) == len(s.Plan.Stages)-1
	_, untreated := s.split(0)
	switch {
	case s.misses > 0:
		return "the last slot gave no data"
	case !a.known():
		return "too few slots with data to compare"
	case st.Treated < 1 || st.Compared < 1:
		return "treated and untreated slots with data are both needed"
	case lastPartial && len(untreated) < enoughUntreated:
		return fmt.Sprintf("the whole exposure needs %d untreated slots to compare with", enoughUntreated)
	}
	if f, ok := a.suspect(); ok {
		return "perhaps worse: " + f.String()
	}
	return a.missing()
}

func (s Trial) advance(now time.Time) (Trial, []Effect) {
	if s.Policy.Gates || s.Policy.Hold && len(s.Stages) == len(s.Plan.Stages)-1 {
		return s.wait()
	}
	return s.beginStage(now)
}

// judgeWhole ends the rollout: kept when better (the operator's own change: when not worse), put back
// when not. The evidence comes from blocks whose order was drawn, in earlier stages and, while these do
// not decide, beside untreated slots again: a long run of treated ones only says that time went by.
func (s Trial) judgeWhole(a assessment, now time.Time, late bool) (Trial, []Effect) {
	if !s.Policy.Measured {
		if s.Policy.Yes {
			return s.keep(tune.ReasonUnmeasured, "no limit broke; kept unmeasured because --yes was given")
		}
		return s.putBack(now, tune.Inconclusive, tune.ReasonUnmeasured,
			"nothing measured whether it helps; give a meter, or --yes to keep it unmeasured")
	}
	st := s.stage()
	doubt := s.doubt(a)
	if doubt == "" {
		if best, better := a.better(); better {
			st.Effect = a.effect()
			return s.keep(tune.ReasonBetter, "better: "+best.String())
		}
		if s.Policy.Set && a.notWorse() {
			st.Effect = a.effect()
			f, _ := a.primary()
			return s.keep(tune.ReasonNotWorse, "not worse: "+f.String())
		}
	}
	looked := !now.Before(s.hopeAt)
	switch {
	case late && doubt != "":
		return s.putBack(now, tune.Inconclusive, tune.ReasonInconclusive,
			fmt.Sprintf("not judged within %s: %s", repeats*s.Plan.StageTime, doubt))
	case late && s.Policy.Set:
		f, _ := a.primary()
		return s.putBack(now, tune.Inconclusive, tune.ReasonInconclusive, fmt.Sprintf(
			"not shown to be at most %.3g %% worse: %s; a longer --stage-time or a larger MARGIN may show it", 100*s.Policy.Margin, f))
	case late, looked && doubt == "" && !s.Policy.Set && !a.promising():
		f, _ := a.primary()
		return s.putBack(now, tune.Inconclusive, tune.ReasonNoEffect, join("not shown to be better: "+f.String(), s.Plan.Caveat))
	}
	if looked {
		s.hopeAt = now.Add(s.Plan.StageTime)
	}
	if !s.confirm {
		s.confirm, s.at = true, 0
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
	case !a.known():
		return "too few slots with data to compare"
	}
	if f, ok := a.suspect(); ok {
		return "perhaps worse: " + f.String()
	}
	return a.missing()
}

func (s Trial) keep(reason, detail string) (Trial, []Effect) {
	st := s.stage()
	st.Verdict, st.Reason = tune.Pass, s.noted(detail)
	s.Effect = st.Effect
	s.phase, s.State, s.Reason, s.Detail = phaseCommitting, tune.Running, reason, detail
	if missing := s.left(s.standing); len(s.Plan.Units) > 0 && len(missing) > 0 {
		s.exposed, s.standing = true, s.left(nil)
		return s, []Effect{{Do: DoExpose, Changes: s.changesOf(missing)}, {Do: DoCommit}}
	}
	if !s.exposed { // judged after an untreated slot: what is kept must stand first
		s.exposed, s.dosed = true, s.plan().Dose
		return s, []Effect{{Do: DoExpose, Changes: s.plan().Changes}, {Do: DoCommit}}
	}
	return s, []Effect{{Do: DoCommit}}
}

// remember bounds what a long hold keeps: the slots of blocks, and the newest plain ones.
func remember(rs []reading, plain int) []reading {
	surplus := -plain
	for _, r := range rs {
		if r.block.id == 0 {
			surplus++
		}
	}
	if surplus <= 0 {
		return rs
	}
	return slices.DeleteFunc(slices.Clone(rs), func(r reading) bool {
		if r.block.id != 0 || surplus <= 0 {
			return false
		}
		surplus--
		return true
	})
}

package rollout

import (
	"fmt"
	"slices"
	"time"

	"semantos/internal/tune"
)

// Trial is the whole state of one rollout. [Step] is its only mover.
type Trial struct {
	Plan   Plan
	Policy Policy

	State  tune.State
	Reason string
	Detail string
	Effect *tune.Effect
	Stages []tune.Stage // begun so far; the last one is running

	phase    phase
	next     int       // slots of this stage begun
	at       int       // place in the stage's order
	current  slot      // under way
	began    time.Time // of the stage
	lookAt   time.Time // the stage is judged from here on
	hopeAt   time.Time // of the whole exposure: whether more slots may help is asked again from here
	readings []reading
	misses   int  // in a row
	blind    int  // treated slots without data in a row
	confirm  bool // the whole exposure goes on beside untreated slots
	exposed  bool
	dosed    float64 // what stands on the machine when exposed
	goOn     bool    // held, and a person let it go on
	standing []int   // units that have the change now
	lost     []int   // units whose target has vanished
}

// Policy is what a rollout is judged by.
type Policy struct {
	Measure  tune.Measure // of a meter of one value; empty for p95, throughput and errors
	Measured bool         // there is a meter
	LossMS   float64      // what one attempt the kernel counted as lost costs a client; 0: not counted
	Margin   float64
	Limits   Limits
	Set      bool // the operator chose the change: kept when not worse
	Yes      bool // keep it even unmeasured
	Hold     bool // wait for a person before the whole exposure
	Gates    bool // wait for a person after every partial stage
}

type phase int

const (
	phaseReady phase = iota
	phaseSlots
	phaseHeld
	phaseCommitting
	phaseRestoring
	phaseDone
)

// reading is one measured slot.
type reading struct {
	stage   int
	treated bool
	unit    int // 1 and up where like targets are measured each by itself; 0 else
	block   block
	sample  *tune.MeterSample // nil: it gave no data
}

// Observation is what happened.
type Observation struct {
	Kind   Kind
	Sample *tune.MeterSample   // KindSlot: nil is missing data
	Units  []*tune.MeterSample // KindSlot over units: one for each of the plan's
	Gone   []string            // KindGone: units whose target has vanished
	Why    string              // why data is missing, or what broke
	Actor  string              // KindAbort
	Down   time.Duration       // KindResume: how long nothing ran
}

// Kind of an observation.
type Kind int

// The kinds. Slot, Done and Fault answer an effect; the others come from outside at any time.
const (
	KindBegin     Kind = iota // start
	KindSlot                  // the slot measured, or failed to
	KindDone                  // Commit or Rollback succeeded
	KindFault                 // an effect failed
	KindYield                 // something else changed what we hold
	KindLimit                 // a limit outside the meter broke
	KindExpired               // its time is over: the budget of exposure, or the maintenance window
	KindAdvance               // a person lets a held rollout go on
	KindHold                  // a person asks to wait before the whole exposure
	KindAbort                 // a person stops it
	KindInterrupt             // the command is ending
	KindGone                  // like targets have vanished: the others go on
	KindResume                // it was read back from where it was saved, and every value is as before it
)

// Effect is what the runner is to do next.
type Effect struct {
	Do      Do
	Changes []tune.Change // DoExpose: at this stage's dose
	Targets []string      // DoRevert: only what is on these; none: all
	Settle  time.Duration // DoMeasure: let pass first
	Sample  time.Duration // DoMeasure
}

// Do is the verb of an effect.
type Do int

// The verbs. Measure, Commit and Rollback are answered by an observation; Expose and Revert only when they fail.
const (
	DoExpose Do = iota
	DoRevert
	DoMeasure
	DoCommit
	DoRollback
)

// maxMisses in a row end a rollout: a meter that says nothing cannot keep a change.
const maxMisses = 3

// NewTrial is the state before the first Step.
func NewTrial(plan Plan, policy Policy) Trial {
	return Trial{Plan: plan, Policy: policy, State: tune.Running}
}

// Over reports that nothing is left to do.
func (s Trial) Over() bool { return s.phase == phaseDone }

// Treated reports whether the slot under way is a treated one.
func (s Trial) Treated() bool { return s.current.treated }

// Step is the rollout's only rule: from what is known and what was seen to what is done next. It reads
// no clock, no file and no chance, and leaves its argument as it was.
func Step(s Trial, o Observation, now time.Time) (Trial, []Effect) {
	s.Stages, s.readings = slices.Clone(s.Stages), slices.Clip(s.readings)
	if o.Kind == KindResume {
		return s.resume(o.Down, now)
	}
	switch s.phase {
	case phaseDone:
		return s, nil
	case phaseCommitting, phaseRestoring:
		if s.phase == phaseCommitting && o.Kind == KindLimit {
			return s.putBack(now, tune.Fail, tune.ReasonLimit, o.Why)
		}
		if s.phase == phaseCommitting && o.Kind == KindGone { // the others stand
			return s.loseUnits(o.Gone, o.Why), []Effect{{Do: DoCommit}}
		}
		return s.finish(o)
	}
	switch o.Kind {
	case KindBegin:
		if s.phase == phaseReady {
			return s.beginStage(now)
		}
		return s, nil
	case KindAbort:
		return s.putBack(now, tune.Inconclusive, tune.ReasonOperator, join("stopped by "+o.Actor, o.Why))
	case KindInterrupt:
		if o.Why == "" {
			o.Why = "the command was interrupted"
		}
		return s.putBack(now, tune.Inconclusive, tune.ReasonInterrupted, o.Why)
	case KindYield:
		return s.putBack(now, tune.Inconclusive, tune.ReasonYielded, o.Why)
	case KindFault:
		return s.putBack(now, tune.Inconclusive, tune.ReasonFault, o.Why)
	case KindLimit:
		return s.putBack(now, tune.Fail, tune.ReasonLimit, o.Why)
	case KindExpired:
		return s.putBack(now, tune.Inconclusive, tune.ReasonExpired, o.Why)
	case KindGone:
		s = s.loseUnits(o.Gone, o.Why)
		if len(s.left(nil)) < fewestUnits {
			return s.putBack(now, tune.Inconclusive, tune.ReasonInconclusive, "too few targets are left to compare: "+o.Why)
		}
		return settled(s.measure()) // all that stand were written anew
	case KindHold:
		s.Policy.Hold, s.goOn = true, false
		return s, nil
	case KindAdvance:
		s.Policy.Hold, s.goOn = false, s.phase == phaseHeld // the slot under way still ends first
		return s, nil
	case KindSlot:
		if s.phase == phaseSlots || s.phase == phaseHeld {
			return s.slotDone(o, now)
		}
	}
	return s, nil
}

// finish answers the last effect. A commit that failed is put back; a restore that failed is said.
func (s Trial) finish(o Observation) (Trial, []Effect) {
	undone, ends := map[Kind]string{KindFault: tune.ReasonFault, KindYield: tune.ReasonYielded, KindInterrupt: tune.ReasonInterrupted,
		KindExpired: tune.ReasonExpired, KindAbort: tune.ReasonOperator}[o.Kind]
	switch {
	case o.Kind == KindDone && s.phase == phaseCommitting:
		s.State, s.phase = tune.Committed, phaseDone
	case o.Kind == KindDone:
		s.State, s.phase = tune.RolledBack, phaseDone
	case s.phase == phaseCommitting && ends:
		s.phase, s.Reason, s.Detail = phaseRestoring, undone, o.Why
		return s, []Effect{{Do: DoRollback}}
	case o.Kind == KindFault:
		s.State, s.phase, s.Reason = tune.RolledBack, phaseDone, tune.ReasonFault
		s.Detail = join(s.Detail, "putting back failed: "+o.Why)
	}
	return s, nil
}

func (s Trial) beginStage(now time.Time) (Trial, []Effect) {
	plan := s.Plan.Stages[len(s.Stages)]
	s.Stages = append(s.Stages, tune.Stage{Share: plan.Share, Mode: plan.Mode, Verdict: tune.Inconclusive})
	s.phase, s.State, s.Detail, s.next, s.at, s.began = phaseSlots, tune.Running, "", 0, 0, now
	s.lookAt = now.Add(s.Plan.StageTime)
	s.hopeAt = s.lookAt
	return s.nextSlot()
}

func (s Trial) plan() PlanStage    { return s.Plan.Stages[len(s.Stages)-1] }
func (s Trial) stage() *tune.Stage { return &s.Stages[len(s.Stages)-1] }
func (s Trial) whole() bool        { return len(s.Stages) == len(s.Plan.Stages) }

// nextSlot changes the exposure where the next slot needs another, and measures.
func (s Trial) nextSlot() (Trial, []Effect) {
	s.turn()
	return s.measure()
}

// measure brings the machine to where the slot under way wants it, and measures.
func (s Trial) measure() (Trial, []Effect) {
	if len(s.Plan.Units) > 0 {
		return s.overUnits()
	}
	plan := s.plan()
	var out []Effect
	settle := time.Duration(0)
	switch {
	case s.current.treated && (!s.exposed || s.dosed != plan.Dose):
		out = append(out, Effect{Do: DoExpose, Changes: plan.Changes})
		s.exposed, s.dosed, settle = true, plan.Dose, s.Plan.Settle
	case !s.current.treated && s.exposed:
		out = append(out, Effect{Do: DoRevert})
		s.exposed, s.dosed, settle = false, 0, s.Plan.Settle
	}
	return s, append(out, Effect{Do: DoMeasure, Settle: settle, Sample: s.Plan.Sample})
}

// slotDone takes one slot in and decides: put back, wait, judge, or measure on.
func (s Trial) slotDone(o Observation, now time.Time) (Trial, []Effect) {
	st := s.stage()
	st.Seconds = now.Sub(s.began).Seconds()
	s.take(o)
	if s.misses >= maxMisses || s.blind >= maxMisses {
		said := fmt.Sprintf("no data in %d slots in a row", s.misses)
		if s.blind > s.misses {
			said = fmt.Sprintf("no data in %d treated slots in a row", s.blind)
		}
		return s.putBack(now, tune.Inconclusive, tune.ReasonInconclusive, said+": "+o.Why)
	}
	a := s.assess()
	if verdict, reason, detail := s.alarm(a); verdict == tune.Fail {
		return s.putBack(now, verdict, reason, detail)
	}
	if s.phase == phaseHeld {
		if !s.goOn {
			return s.nextSlot()
		}
		s.goOn = false
		return s.beginStage(now)
	}
	late := now.Sub(s.began) >= repeats*s.Plan.StageTime && s.hadItsChance()
	if (now.Before(s.lookAt) || s.between()) && !late {
		return s.nextSlot()
	}
	if s.whole() {
		return s.judgeWhole(a, now, late)
	}
	return s.judgeStage(a, now, late)
}

// take records the slot in the stage's counts and the readings.
func (s *Trial) take(o Observation) {
	if len(s.Plan.Units) > 0 {
		s.takeUnits(o)
		return
	}
	st := s.stage()
	missed := s.Policy.Measured && o.Sample == nil
	switch {
	case missed:
		s.misses++
		if s.current.treated {
			s.blind++
		}
	case s.current.treated:
		s.misses, s.blind = 0, 0
		st.Treated++
	default:
		s.misses = 0
		st.Compared++
	}
	if s.Policy.Measured {
		s.readings = remember(append(s.readings, reading{stage: len(s.Stages) - 1, treated: s.current.treated, block: s.current.block, sample: o.Sample}), keepPlain)
	}
	st.Exposed = 100 * float64(st.Treated) / float64(max(1, st.Treated+st.Compared))
	if st.Mode == modeDose {
		st.Exposed = 100 * s.plan().Dose
	}
}

// wait begins the hold before the next exposure: this stage's slots go on, and so does the watch.
func (s Trial) wait() (Trial, []Effect) {
	s.phase, s.State, s.goOn = phaseHeld, tune.Held, false
	s.Detail = "waiting for a person before the whole exposure"
	if next := s.Plan.Stages[len(s.Stages)].Share; next < 100 {
		s.Detail = fmt.Sprintf("waiting for a person before the stage of %.4g %%", next)
	}
	return s.nextSlot()
}

func (s Trial) putBack(now time.Time, v tune.Verdict, reason, detail string) (Trial, []Effect) {
	if s.phase == phaseReady { // nothing was written
		s.phase, s.State, s.Reason, s.Detail = phaseDone, tune.RolledBack, reason, detail
		return s, nil
	}
	st := s.stage()
	st.Seconds = now.Sub(s.began).Seconds()
	// A stage that passed and was only waiting keeps its verdict unless it failed since.
	if s.phase != phaseHeld || v == tune.Fail {
		st.Verdict, st.Reason = v, s.noted(detail)
	}
	if a := s.assess(); a.known() {
		st.Effect = a.effect()
		s.Effect = st.Effect
	}
	s.phase, s.State, s.Reason, s.Detail = phaseRestoring, tune.Running, reason, detail
	s.exposed, s.dosed, s.standing = false, 0, nil
	return s, []Effect{{Do: DoRollback}}
}

// noted puts what the planner had to change about the stage before why it ended so.
func (s Trial) noted(reason string) string { return join(join(s.plan().Note, s.leftOut()), reason) }

package rollout

import (
	"fmt"
	"time"

	"semantos/internal/tune"
)

// StageOutline is one stage of a plan in words, before anything is written.
type StageOutline struct {
	Share   float64 `json:"share"`             // percent
	Mode    string  `json:"mode"`              // "targets", "switchback" or "dose"
	Targets int     `json:"targets,omitempty"` // like targets among which some are drawn
	Seconds float64 `json:"seconds"`           // judged after this at the earliest
	// MostSeconds is when it ends at the latest, unless its meter takes longer than a slot.
	MostSeconds float64 `json:"most_seconds"`
	Why         string  `json:"why"`
}

// Outline says what a plan will do, and why so.
func (p Plan) Outline() []StageOutline {
	out := make([]StageOutline, len(p.Stages))
	for i, st := range p.Stages {
		out[i] = StageOutline{Share: st.Share, Mode: st.Mode, Targets: len(p.Units), Seconds: p.StageTime.Seconds(),
			MostSeconds: p.longest(st, i+1 == len(p.Stages)).Seconds(), Why: join(p.what(st), st.Note)}
	}
	if p.Caveat != "" {
		out[0].Why = join(out[0].Why, p.Caveat)
	}
	return out
}

// longest is how long a stage may last: five stage times, or its fewest slots where these take longer.
func (p Plan) longest(st PlanStage, whole bool) time.Duration {
	fewest := 0
	switch {
	case whole:
		fewest = leastConfirm
	case len(st.Blocks) > 0:
		fewest = max(leastPartial, st.Blocks[0])
	}
	return max(repeats*p.StageTime, time.Duration(fewest)*p.Slot())
}

// what says how a stage exposes its share.
func (p Plan) what(st PlanStage) string {
	slot := p.Slot().Round(100 * time.Millisecond)
	switch {
	case st.Mode == modeTargets && st.Share >= 100:
		return fmt.Sprintf("all %d targets; then half of them at a time until it is decided", len(p.Units))
	case st.Mode == modeTargets:
		return fmt.Sprintf("slots of %s, targets drawn anew for each", slot)
	case st.Mode == modeDose:
		return fmt.Sprintf("values go %.4g %% of the way, with untreated slots of %s between", 100*st.Dose, slot)
	case st.Share >= 100:
		return "everything; then every other slot untreated until it is decided"
	}
	treated, n := 0, 0
	for _, on := range st.Slots {
		n++
		if on {
			treated++
		}
	}
	return fmt.Sprintf("%d of %d slots of %s treated, their order drawn", treated/repeats, n/repeats, slot)
}

// Outline plans a rollout without running it.
func Outline(changes []tune.Change, steps []float64, stage time.Duration, meter Meter, cfg RunnerConfig) ([]StageOutline, error) {
	p, err := NewPlan(PlanRequest{Changes: changes, Steps: steps, StageTime: stage,
		Fresh: meter == nil || meter.Fresh(), Apart: apart(meter, changes)}, cfg.Tunables, cfg.Rand)
	if err != nil {
		return nil, err
	}
	return p.Outline(), nil
}

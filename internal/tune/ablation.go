package tune

import (
	"math"
	"time"
)

// Worth is what a change of a kept bundle earns.
type Worth string

// What leaving a change out shows. Earns: the workload is worse without it. Nothing: it is not worse
// without it by the margin. Harms: it is better without it.
const (
	Earns     Worth = "earns"
	Nothing   Worth = "nothing"
	Harms     Worth = "harms"
	Undecided Worth = "undecided"
)

// ReasonAblated ends an ablation that ran to its end.
const ReasonAblated = "ablated"

// Finding is what an ablation says of one change.
type Finding struct {
	Worth  Worth
	Why    string
	Effect *Effect
}

// Ablation is what the changes of one committed rollout earn.
type Ablation struct {
	ID      string    `json:"id"` // the rollout's
	Changes []Ablated `json:"changes"`
	State   State     `json:"state"` // committed: the bundle stands, less what is undone
	Reason  string    `json:"reason"`
	Detail  string    `json:"detail,omitempty"`
	Meter   string    `json:"meter,omitempty"`
	Actor   string    `json:"actor,omitempty"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended,omitzero"`
}

// Ablated is one change. Effect is the workload without it over with it: above 1 the metric rises when it
// is left out; null where no slot could tell.
type Ablated struct {
	Tunable string  `json:"tunable"`
	Target  string  `json:"target"`
	Effect  *Effect `json:"effect"`
	Verdict Worth   `json:"verdict"`
	Why     string  `json:"why,omitempty"`
	Undone  bool    `json:"undone"`
}

// WorstLog is the worse end of the interval as a logarithm, larger is worse; infinite where there is none.
func (e *Effect) WorstLog() float64 {
	if e == nil {
		return math.Inf(1)
	}
	if e.Better == "higher" {
		return -math.Log(e.Low)
	}
	return math.Log(e.High)
}

// Pruned reports that an ablation undid a change of the rollout.
func (r Rollout) Pruned(c Change) bool {
	if r.Ablation == nil {
		return false
	}
	for _, a := range r.Ablation.Changes {
		if a.Undone && a.Tunable == c.Tunable && a.Target == c.Target {
			return true
		}
	}
	return false
}

package tune

import "time"

// LoopState is where the control loop of serve stands.
type LoopState struct {
	Phase         string           `json:"phase"` // starting, warming, watching, rolling_out, waiting, held, stopped
	Ready         bool             `json:"ready"`
	Reason        string           `json:"reason"` // why not ready, or what it is doing
	AutoApply     string           `json:"auto_apply"`
	LastTick      time.Time        `json:"last_tick,omitzero"`
	LastDiagnosis time.Time        `json:"last_diagnosis,omitzero"`
	Ticks         int64            `json:"ticks"`
	TickErrors    int64            `json:"tick_errors"`
	Diagnoses     int64            `json:"diagnoses"`
	LastError     string           `json:"last_error,omitempty"`
	Running       string           `json:"running,omitempty"` // the recommendation on trial
	Decision      string           `json:"decision,omitempty"`
	Decisions     map[string]int64 `json:"decisions"` // finished and refused trials, by outcome
	Resting       []Resting        `json:"resting"`
	Yielded       []string         `json:"yielded"`   // tunables left to whatever else writes them
	Leftovers     []Managed        `json:"leftovers"` // what an earlier run left changed, found at start
}

// Resting is a recommendation or tunable that the loop leaves alone until a time.
type Resting struct {
	What  string    `json:"what"`
	Until time.Time `json:"until"`
	Why   string    `json:"why"`
}

package tune

import (
	"fmt"
	"time"
)

// LoopState is where the control loop of serve stands.
type LoopState struct {
	Phase         string           `json:"phase"` // starting, warming, watching, rolling_out, waiting, held, frozen, stopped
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
	Held          string           `json:"held,omitempty"`    // why an operator keeps it from starting anything
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

// Freeze is the word of a person that nothing may be changed until it is taken back: what stands stays,
// what runs is put back, rollback goes on working.
type Freeze struct {
	At      time.Time `json:"at"`
	By      string    `json:"by"`
	Why     string    `json:"why,omitempty"`
	DataDir string    `json:"data_dir,omitempty"` // whose command said it
}

// Error says it as the refusal of a change.
func (f Freeze) Error() string {
	text := fmt.Sprintf("%v by %s", ErrFrozen, f.By)
	if !f.At.IsZero() {
		text += " since " + f.At.Local().Format("2006-01-02 15:04:05")
	}
	if f.Why != "" {
		text += ": " + f.Why
	}
	return text
}

// Unwrap makes it an [ErrFrozen].
func (f Freeze) Unwrap() error { return ErrFrozen }

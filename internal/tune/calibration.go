package tune

import "time"

// Admission is what a rollout met at the gate: the threshold on its uncertainty, whether that was a
// calibrated bound, and whether a person went past a veto.
type Admission struct {
	Tau        float64 `json:"tau"`
	Calibrated bool    `json:"calibrated"`
	Passed     bool    `json:"passed_veto"`
}

// Calibration is where the gate's threshold stands and what it rests on, as calibrate prints it.
type Calibration struct {
	Time         time.Time `json:"time"`
	Calibrated   bool      `json:"calibrated"`
	Tau          float64   `json:"tau"`           // the threshold in force
	TauLimit     float64   `json:"tau_limit"`     // TAU, the loosest ever allowed
	TauConformal *float64  `json:"tau_conformal"` // the bound; null: there is none
	Previous     *float64  `json:"previous_tau"`  // in force before; null when not known
	Alpha        float64   `json:"alpha"`         // what P(admitted | unsafe) is held below
	Needed       int       `json:"needed"`        // unsafe outcomes still missing for a bound
	Outcomes     int       `json:"outcomes"`      // labelled, in the window
	Unsafe       int       `json:"unsafe"`        // of those
	// Basis is how many unsafe outcomes the bound rests on: those that met TAU itself ("open"), or all.
	Basis     int        `json:"basis"`
	BasisKind string     `json:"basis_kind"` // "open" or "all"
	Window    Window     `json:"window"`
	Cuts      []DriftCut `json:"cuts"`
	Vetoes    Accuracy   `json:"vetoes"`
	Rollbacks Accuracy   `json:"rollbacks"`
	Note      string     `json:"note"`            // a sentence for people
	Fault     string     `json:"fault,omitempty"` // why history cannot be read; the rest is as of Time
	Known     bool       `json:"known"`           // false: history was never read, nothing rests on outcomes
}

// Window is the part of history a calibration looks at.
type Window struct {
	Limit  int       `json:"limit"`    // labelled outcomes at most
	MaxAge float64   `json:"max_days"` // days after which an outcome expires
	Oldest time.Time `json:"oldest,omitzero"`
	Newest time.Time `json:"newest,omitzero"`
}

// DriftCut is one moment at which the window was cut.
type DriftCut struct {
	At      time.Time `json:"at"`
	Stream  string    `json:"stream"`  // "scores" or "outcomes"
	Dropped int       `json:"dropped"` // outcomes from before the change
}

// Accuracy is how right vetoes or rollbacks were, as far as later outcomes tell. Null is not known.
type Accuracy struct {
	Precision *float64 `json:"precision"`
	Recall    *float64 `json:"recall"` // at least this
	Checked   int      `json:"checked"`
	Meaning   string   `json:"meaning"`
}

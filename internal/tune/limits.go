package tune

import "time"

// LimitStanding is what no trial may break or use up on this host, and where that stands.
type LimitStanding struct {
	MaxP95MS        float64        `json:"max_p95_ms"`
	MaxErrorRate    float64        `json:"max_error_rate"`
	Pressure        []PressureLine `json:"pressure"`             // those that are on
	MinMemAvailable float64        `json:"min_memory_available"` // percent of memory; 0: off
	Protected       []string       `json:"protected"`
	Narrowed        []string       `json:"limits"` // NAME=LOWEST..HIGHEST
	Budget          BudgetStanding `json:"exposure_budget"`
	Window          WindowStanding `json:"maintenance_window"`
}

// PressureLine is one limit on the time that work stands still. Readable is false where the kernel does
// not tell: then nothing breaks it.
type PressureLine struct {
	Key      string  `json:"key"`
	Percent  float64 `json:"percent"`
	Readable bool    `json:"readable"`
}

// BudgetStanding is the exposure of the last 24 hours, in seconds. LimitSeconds is 0 where there is none,
// and LeftSeconds with it.
type BudgetStanding struct {
	LimitSeconds float64 `json:"limit_s"`
	UsedSeconds  float64 `json:"used_s"`
	LeftSeconds  float64 `json:"left_s"`
}

// WindowStanding is when a machine may try by itself. Until is when that changes; zero for always.
type WindowStanding struct {
	Window string    `json:"window"`
	Open   bool      `json:"open"`
	Until  time.Time `json:"until,omitzero"`
}

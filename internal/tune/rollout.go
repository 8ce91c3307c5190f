package tune

import (
	"fmt"
	"time"
)

// Rollout is the staged trial of one recommendation, as apply prints it and history keeps it.
// ID is "<recommendation id>-<start, unix seconds in base 36>".
type Rollout struct {
	ID             string           `json:"id"`
	Recommendation Recommendation   `json:"recommendation"`
	State          State            `json:"state"`
	Stages         []Stage          `json:"stages"`
	Effect         *Effect          `json:"effect"` // null: nothing was measured
	Reason         string           `json:"reason"`
	Detail         string           `json:"detail,omitempty"` // a sentence for people
	Actor          string           `json:"actor"`            // "uid 0", "serve"
	Meter          string           `json:"meter,omitempty"`
	Started        time.Time        `json:"started"`
	Ended          time.Time        `json:"ended,omitzero"`
	ExposedSeconds float64          `json:"exposed_seconds"`     // how long anything of it stood while it was tried
	Persisted      []string         `json:"persisted,omitempty"` // files written by --persist
	BootID         string           `json:"boot_id,omitempty"`
	Resumed        int              `json:"resumed,omitempty"`  // how often it went on after serve had ended
	Kept           map[string]Value `json:"kept,omitempty"`     // by tunable@target: what reads back where the kernel rounded
	Undone         time.Time        `json:"undone,omitzero"`    // when a person put back what was committed
	Ablation       *Ablation        `json:"ablation,omitempty"` // what each change earns, where it was asked
	Gate           *Admission       `json:"gate,omitempty"`     // null: it never reached the gate, or before it was recorded
}

// Standing is what a kept change left in place: the kernel may have rounded what was proposed.
func (r Rollout) Standing(c Change) Value {
	if v, rounded := r.Kept[c.Tunable+"@"+c.Target]; rounded {
		return v
	}
	return c.Proposed
}

// Stage is one share of exposure and its judgement.
type Stage struct {
	Share    float64 `json:"share"`   // asked, percent
	Exposed  float64 `json:"exposed"` // what the slots gave, percent
	Mode     string  `json:"mode"`    // "switchback" or "dose"
	Verdict  Verdict `json:"verdict"`
	Reason   string  `json:"reason"`
	Treated  int     `json:"treated_slots"`
	Compared int     `json:"untreated_slots"`
	Seconds  float64 `json:"seconds"`
	Effect   *Effect `json:"effect"`
}

// Effect is treated over untreated: below 1 the metric fell. The interval is at 95 %.
type Effect struct {
	Metric string  `json:"metric"`
	Better string  `json:"better"`
	Ratio  float64 `json:"ratio"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

// Span says the interval. An end beyond any effect is none: too few slots to tell on that side.
func (e Effect) Span() string {
	switch low, high := e.Low >= 1e-9, e.High <= 1e9; {
	case low && high:
		return fmt.Sprintf("%.3g to %.3g", e.Low, e.High)
	case high:
		return fmt.Sprintf("at most %.3g", e.High)
	case low:
		return fmt.Sprintf("at least %.3g", e.Low)
	}
	return "too few slots for an interval"
}

// Managed is one tunable semantos holds away from its original.
type Managed struct {
	Tunable  string `json:"tunable"`
	Scope    Scope  `json:"scope"`
	Target   string `json:"target"`
	Original Value  `json:"original"`
	Current  Value  `json:"current"`
	State    string `json:"state"` // trying, committed, persisted, in_doubt, yielded, gone
	Rollout  string `json:"rollout,omitempty"`
	Detail   string `json:"detail,omitempty"` // of one that was to be put back: what became of it, and who else wrote it
}

// Capability is what can be done with a tunable on a target, found by trying.
type Capability struct {
	Present  bool   `json:"present"`
	Readable bool   `json:"readable"`
	Writable bool   `json:"writable"`
	Reason   string `json:"reason,omitempty"` // when not all three
}

// Identity tells one target from a later one of the same name (inode numbers repeat).
// Keys by scope: netns {ino, cookie}; device {diskseq}; cgroup {id}; process {pid, start};
// socket {cookie, netns}. Host scope has none.
type Identity map[string]string

// Equal reports whether both name the same thing; a key one of them lacks does not count.
func (a Identity) Equal(b Identity) bool {
	for k, v := range a {
		if w, ok := b[k]; ok && v != w {
			return false
		}
	}
	return true
}

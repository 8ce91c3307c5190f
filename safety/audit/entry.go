package audit

import (
	"cmp"
	"fmt"
	"math"
	"unicode/utf8"

	"semantos/internal/tune"
)

// Kind says what a record tells.
type Kind string

// Decisions: what the process that decides may ask the guard to log, and nothing else.
const (
	Chosen   Kind = "chosen"   // a recommendation, or an operator's own change, is to be tried
	Gate     Kind = "gate"     // admitted, vetoed, passed with --yes, or refused; with u and tau
	Stage    Kind = "stage"    // the verdict on one share of exposure, with its effect
	Held     Kind = "held"     // somebody asks to wait
	Advanced Kind = "advanced" // somebody lets it go on
	Aborted  Kind = "aborted"  // somebody, or the end of the command, stops it
	Frozen   Kind = "frozen"   // nothing is started or advanced until thawed
	Thawed   Kind = "thawed"   // the end of that
	Skipped  Kind = "skipped"  // a rollout was not started now, or waits: budget, window, queue
	Ended    Kind = "ended"    // the rollout is over; with state and effect
	Alerted  Kind = "alerted"  // an alert was given up: it reached nobody
)

// Deeds: what the guard does, told by the guard alone.
const (
	Began    Kind = "began"     // a guard works from here
	Wrote    Kind = "wrote"     // a tunable was written and read back
	Refusal  Kind = "refusal"   // a write was asked for and not done, or failed
	Reverted Kind = "reverted"  // put back for an untreated slot
	Restored Kind = "restored"  // put back for good
	Yielded  Kind = "yielded"   // something else set it: left alone
	Gone     Kind = "gone"      // the target is not there any more
	Failed   Kind = "failed"    // it could not be put back
	Commit   Kind = "committed" // kept until rollback or reboot
	Persist  Kind = "persisted" // written for the next boot
	Unpin    Kind = "unpersisted"
	Closed   Kind = "closed" // nothing of this rollout is held
)

// What the log says of itself.
const (
	Gap        Kind = "gap"        // so many records could not be kept, and why
	Repaired   Kind = "repaired"   // an unfinished last line of a crash was cut off
	Broken     Kind = "broken"     // the log found is not the one that was left
	Checkpoint Kind = "checkpoint" // whole old segments were dropped by age or size
)

// Decision reports whether the deciding process may have this logged.
func (k Kind) Decision() bool {
	switch k {
	case Chosen, Gate, Stage, Held, Advanced, Aborted, Frozen, Thawed, Skipped, Ended, Alerted:
		return true
	}
	return false
}

// Entry is what one record tells, without its place in the chain. Empty fields do not apply.
type Entry struct {
	Kind           Kind       `json:"kind"`
	Actor          string     `json:"actor"` // who: "uid 0", "serve", "guard"
	Rollout        string     `json:"rollout,omitempty"`
	Recommendation string     `json:"recommendation,omitempty"`
	Tunable        string     `json:"tunable,omitempty"`
	Target         string     `json:"target,omitempty"`
	Old            tune.Value `json:"old,omitempty"`
	New            tune.Value `json:"new,omitempty"`
	ReadBack       tune.Value `json:"read_back,omitempty"`
	Reason         string     `json:"reason,omitempty"` // one word of a closed set where there is one
	Detail         string     `json:"detail,omitempty"` // a sentence for people
	Changes        []Change   `json:"changes,omitempty"`
	Numbers        *Numbers   `json:"numbers,omitempty"`
	Files          []string   `json:"files,omitempty"`
	Span           *Span      `json:"span,omitempty"`
}

// Change is one change of a bundle as it was chosen.
type Change struct {
	Tunable string     `json:"tunable"`
	Target  string     `json:"target,omitempty"`
	Old     tune.Value `json:"old,omitempty"`
	New     tune.Value `json:"new"`
}

// ChangesOf spells a recommendation's changes for the log.
func ChangesOf(changes []tune.Change) []Change {
	out := make([]Change, len(changes))
	for i, c := range changes {
		out[i] = Change{Tunable: c.Tunable, Target: c.Target, Old: c.Current, New: c.Proposed}
	}
	return out
}

// Numbers are what a verdict rested on. Ratio, Low and High are treated over untreated, the interval at
// 95 %; Share is the exposure in percent; a pointer is nil where the number was not known.
type Numbers struct {
	Metric     string   `json:"metric,omitempty"`
	Better     string   `json:"better,omitempty"`
	Ratio      *float64 `json:"ratio,omitempty"`
	Low        *float64 `json:"low,omitempty"`
	High       *float64 `json:"high,omitempty"`
	Treated    int      `json:"treated_slots,omitempty"`
	Untreated  int      `json:"untreated_slots,omitempty"`
	Share      *float64 `json:"share,omitempty"`
	Exposed    *float64 `json:"exposed,omitempty"`
	U          *float64 `json:"u,omitempty"`
	Tau        *float64 `json:"tau,omitempty"`
	Calibrated *bool    `json:"calibrated,omitempty"`
}

// NewNumbers gives the numbers of an effect; nil has none.
func NewNumbers(e *tune.Effect) Numbers {
	if e == nil {
		return Numbers{}
	}
	return Numbers{Metric: e.Metric, Better: e.Better, Ratio: Number(e.Ratio), Low: Number(e.Low), High: Number(e.High)}
}

// Number keeps what JSON can hold: an interval without a bound has none.
func Number(x float64) *float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return nil
	}
	return &x
}

// Span is a stretch of the log: records lost, or dropped. Hash is that of its last record, where known.
type Span struct {
	Records uint64 `json:"records"`
	First   uint64 `json:"first,omitempty"`
	Last    uint64 `json:"last,omitempty"`
	Hash    string `json:"hash,omitempty"`
}

// Bounds of what a decision may carry, so that who decides cannot fill the disk or hide a line in noise.
const (
	maxWord    = 200
	maxDetail  = 4000
	maxChanges = 64
)

// Check refuses an entry that a deciding process may not have logged: a deed, or one too large. Text is
// data: what is no UTF-8 is refused, control characters are escaped by JSON.
func (e Entry) Check() error {
	if !e.Kind.Decision() {
		return fmt.Errorf("log decision: kind %q: %w", e.Kind, tune.ErrUsage)
	}
	n := cmp.Or(e.Numbers, &Numbers{})
	for name, text := range map[string]string{"metric": n.Metric, "better": n.Better, "actor": e.Actor, "rollout": e.Rollout, "recommendation": e.Recommendation,
		"tunable": e.Tunable, "target": e.Target, "reason": e.Reason, "old": string(e.Old), "new": string(e.New)} {
		if len(text) > maxWord || !utf8.ValidString(text) {
			return fmt.Errorf("log decision: %s of %d bytes: %w", name, len(text), tune.ErrOutOfRange)
		}
	}
	switch {
	case e.Actor == "":
		return fmt.Errorf("log decision %q: it names no actor: %w", e.Kind, tune.ErrUsage)
	case len(e.Detail) > maxDetail || !utf8.ValidString(e.Detail):
		return fmt.Errorf("log decision: detail of %d bytes: %w", len(e.Detail), tune.ErrOutOfRange)
	case len(e.Changes) > maxChanges || len(e.Files) > 0 || e.Span != nil || e.ReadBack != "":
		return fmt.Errorf("log decision %q: it carries what only a deed has: %w", e.Kind, tune.ErrUsage)
	}
	for _, c := range e.Changes {
		if max(len(c.Tunable), len(c.Target), len(c.Old), len(c.New)) > maxWord {
			return fmt.Errorf("log decision: change of %.40q: %w", c.Tunable, tune.ErrOutOfRange)
		}
	}
	return nil
}

// Clip shortens what people wrote to what a record may hold, so that a long reason is cut, not lost.
func (e Entry) Clip() Entry {
	for _, at := range []*string{&e.Actor, &e.Rollout, &e.Recommendation, &e.Tunable, &e.Target, &e.Reason} {
		*at = cut(*at, maxWord)
	}
	e.Detail = cut(e.Detail, maxDetail)
	for _, at := range []*tune.Value{&e.Old, &e.New, &e.ReadBack} {
		*at = tune.Value(cut(string(*at), maxWord))
	}
	e.Changes = append([]Change(nil), e.Changes[:min(len(e.Changes), maxChanges)]...)
	if e.Numbers != nil {
		n := *e.Numbers
		n.Metric, n.Better = cut(n.Metric, maxWord), cut(n.Better, maxWord)
		e.Numbers = &n
	}
	for i, c := range e.Changes {
		e.Changes[i] = Change{Tunable: cut(c.Tunable, maxWord), Target: cut(c.Target, maxWord),
			Old: tune.Value(cut(string(c.Old), maxWord)), New: tune.Value(cut(string(c.New), maxWord))}
	}
	return e
}

const ellipsis = "…"

func cut(s string, limit int) string {
	valid := []rune(s)
	s = string(valid) // what is no UTF-8 becomes the replacement rune
	if len(s) <= limit {
		return s
	}
	s = s[:limit-len(ellipsis)]
	for len(s) > 0 && !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + ellipsis
}

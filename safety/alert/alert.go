package alert

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"semantos/internal/tune"
	"semantos/safety/audit"
)

// Kind is what an alert is about.
type Kind string

// The kinds.
const (
	Veto     Kind = "veto"     // the gate did not admit it
	Rollback Kind = "rollback" // a rollout was put back
	Yield    Kind = "yield"    // something else writes what semantos held
	Fault    Kind = "fault"    // something could not be done: a guard died, a value is not back
)

// Severities: nothing to do; look at it; act.
const (
	Info     = "info"
	Warning  = "warning"
	Critical = "critical"
)

// Version is of the payload's form; fields may be added under it, none taken away or given new meaning.
const Version = 1

// Alert is the payload. ID stays the same over retries and restarts: who has seen it drops it.
type Alert struct {
	Version        int            `json:"version"`
	ID             string         `json:"id"`
	Time           time.Time      `json:"time"`
	Kind           Kind           `json:"kind"`
	Severity       string         `json:"severity"`
	Host           string         `json:"host"`
	BootID         string         `json:"boot_id,omitempty"`
	Rollout        string         `json:"rollout,omitempty"`
	Recommendation string         `json:"recommendation,omitempty"`
	Actor          string         `json:"actor"`
	Reason         string         `json:"reason"` // one word of a closed set
	Detail         string         `json:"detail,omitempty"`
	Tunables       []audit.Change `json:"tunables"`
	Numbers        *audit.Numbers `json:"numbers,omitempty"`
	Audit          string         `json:"audit,omitempty"` // head of the log, "SEQ:SHA256": for history --verify --head
	Folded         int            `json:"folded,omitempty"`
	Dropped        int            `json:"dropped,omitempty"`
}

// Of makes the alert of a rollout that has ended; false when there is nothing to tell. reason is the word
// for a veto.
func Of(r tune.Rollout, reason string) (Alert, bool) {
	a := Alert{Time: r.Ended, Severity: Info, BootID: r.BootID, Rollout: r.ID, Recommendation: r.Recommendation.ID,
		Actor: r.Actor, Reason: r.Reason, Detail: r.Detail, Tunables: audit.ChangesOf(r.Recommendation.Changes)}
	u := audit.NewNumbers(r.Effect)
	u.U = audit.Number(r.Recommendation.Uncertainty)
	if r.Gate != nil {
		u.Tau, u.Calibrated = audit.Number(r.Gate.Tau), &r.Gate.Calibrated
	}
	a.Numbers = &u
	switch {
	case r.State == tune.Vetoed:
		a.Kind, a.Reason, a.Detail = Veto, reason, r.Reason
	case r.State != tune.RolledBack:
		return Alert{}, false
	case r.Reason == tune.ReasonYielded:
		a.Kind, a.Severity = Yield, Warning
	case r.Reason == tune.ReasonFault:
		a.Kind, a.Severity = Fault, Critical
	default:
		a.Kind = Rollback
		if slices.Contains([]string{tune.ReasonWorse, tune.ReasonLimit}, r.Reason) {
			a.Severity = Warning
		}
	}
	return a, true
}

// key is what makes alerts alike: many of one key within a while are folded.
func (a Alert) key() string {
	names := make([]string, len(a.Tunables))
	for i, c := range a.Tunables {
		names[i] = c.Tunable + "@" + c.Target
	}
	slices.Sort(names)
	return string(a.Kind) + " " + a.Reason + " " + strings.Join(names, " ")
}

// fill gives an alert its id, from what it tells and the newest record of the log when it was told. All that
// makes it another alert counts, for who has seen an id drops it.
func (a Alert) fill(host string, now time.Time) Alert {
	a.Version, a.Host = Version, host
	if a.Time.IsZero() {
		a.Time = now
	}
	a.Time = a.Time.UTC()
	if a.Tunables == nil {
		a.Tunables = []audit.Change{}
	}
	a.Detail = audit.Entry{Detail: a.Detail}.Clip().Detail
	seq, _, _ := strings.Cut(a.Audit, ":")
	if seq == "" {
		seq = a.Time.Format(time.RFC3339Nano)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s\n%s\n%s\n%d", host, a.Rollout, a.key(), a.Detail, seq, a.Folded))
	a.ID = hex.EncodeToString(sum[:16])
	return a
}

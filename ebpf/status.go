package ebpf

import (
	"errors"
	"slices"

	"semantos/ebpf/probe"
	"semantos/internal/tune"
)

// ProbeStatus is how one probe fares. Measured is false while nothing is known of its cost: then the
// three figures of cost are zero.
type ProbeStatus struct {
	Name         string   `json:"name"`
	Answers      string   `json:"answers"`
	State        string   `json:"state"`
	Costly       bool     `json:"costly"`
	Reason       string   `json:"reason,omitempty"`   // why it is not simply on
	Verifier     string   `json:"verifier,omitempty"` // the kernel verifier's message
	Duty         float64  `json:"duty"`               // share of the time it counts
	Measured     bool     `json:"measured"`
	EventsPerSec float64  `json:"events_per_s"` // while it counts
	NSPerEvent   float64  `json:"ns_per_event"`
	CPUShare     float64  `json:"cpu_share"` // of all CPUs, at this duty
	Lost         uint64   `json:"lost"`      // events that could not be kept
	Missing      []string `json:"missing,omitempty"`
}

// Status tells how each probe fares, sorted as All.
func (s *Set) Status() []ProbeStatus {
	out := make([]ProbeStatus, 0, len(s.members))
	for _, m := range s.members {
		m.mu.Lock()
		out = append(out, s.status(m))
		m.mu.Unlock()
	}
	return out
}

func (s *Set) status(m *member) ProbeStatus {
	st := ProbeStatus{Name: m.spec.Name, Answers: m.spec.Answers, Costly: m.spec.Costly}
	switch {
	case s.cfg.Mode == Off:
		st.State, st.Reason = StateOff, s.cfg.Why
	case m.err != nil:
		st.State, st.Reason, st.Verifier = StateFailed, reason(m.err), probe.VerifierLog(m.err)
	case m.p == nil:
		st.State, st.Reason = StateOff, "costly: it is switched on when a symptom or a person asks for it"
	default:
		s.running(m, &st)
	}
	return st
}

// running fills in what only a loaded probe has.
func (s *Set) running(m *member, st *ProbeStatus) {
	st.State, st.Duty, st.Lost, st.Missing = StateOn, m.duty, m.p.Lost(), slices.Sorted(slices.Values(m.p.Missing))
	if m.spec.Costly {
		st.State, st.Reason = StateAsked, m.why
	}
	if m.duty < 1 {
		slice, period := slot(m.duty, s.cfg.Turn)
		st.Duty = slice.Seconds() / (float64(period) * s.cfg.Turn.Seconds())
		st.State, st.Reason = StatePaused, "cut to keep all probes within their share of the CPUs"
	}
	if m.cost.blind {
		st.Reason = "cut because what it costs cannot be measured here (CAP_SYS_ADMIN)"
	}
	if m.cost.known {
		st.Measured, st.EventsPerSec, st.NSPerEvent = true, m.cost.events, m.cost.ns
		st.CPUShare = m.cost.load / s.cpus * st.Duty
	}
}

// reason is a failure in one line. Where bpf(2) is refused, which call it was says nothing more.
func reason(err error) string {
	if errors.Is(err, tune.ErrNotPermitted) {
		return tune.ErrNotPermitted.Error() + ": bpf(2) needs CAP_BPF and CAP_PERFMON, and lockdown or a security module may forbid it"
	}
	return firstLine(err.Error())
}

// firstLine keeps a verifier's pages out of a table.
func firstLine(text string) string {
	for i, r := range text {
		if r == '\n' {
			return text[:i]
		}
	}
	return text
}

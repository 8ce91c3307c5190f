// Package probetest loads probes on the real kernel for tests and keeps what they hand over.
//
// It owns the rule when such a test may be skipped: only where the kernel or the rights lack something
// a doctor would name. It must never hide a probe that the verifier refuses. Read [Load] first.
package probetest

import (
	"errors"
	"testing"

	"semantos/ebpf/probe"
	"semantos/internal/tune"
)

// Load loads a probe and closes it with the test. Without the rights or the kernel's types the test is
// skipped; any other failure, a verifier's no included, fails it.
func Load(t testing.TB, s probe.Spec, opts probe.Options) *probe.Probe {
	t.Helper()
	p, err := probe.Load(s, opts)
	if err != nil {
		if log := probe.VerifierLog(err); log != "" {
			t.Fatalf("%v\n%s", err, log)
		}
		if errors.Is(err, tune.ErrNotPermitted) || errors.Is(err, tune.ErrUnsupported) {
			t.Skipf("probe %s: %v", s.Name, err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// Readings is what a probe handed over at one reading, by subject ID ("" is the host) and name.
type Readings struct {
	hists    map[[2]string]probe.Hist
	values   map[[2]string]float64
	Subjects map[string]probe.Subject
}

// Read reads a probe once.
func Read(t testing.TB, p *probe.Probe) *Readings {
	t.Helper()
	r := &Readings{hists: map[[2]string]probe.Hist{}, values: map[[2]string]float64{}, Subjects: map[string]probe.Subject{}}
	if err := p.Spec.Read(p, sink{r}); err != nil {
		t.Fatal(err)
	}
	return r
}

// Hist gives a histogram, or what it counted since earlier readings; empty when there is none.
func (r *Readings) Hist(id, name string, since ...*Readings) probe.Hist {
	h := r.hists[[2]string{id, name}]
	for _, s := range since {
		h = h.Since(s.hists[[2]string{id, name}])
	}
	return h
}

// Value gives a counter, time or gauge, and whether it was there.
func (r *Readings) Value(id, name string) (float64, bool) {
	v, ok := r.values[[2]string{id, name}]
	return v, ok
}

// sink implements probe.Sink.
type sink struct{ r *Readings }

func (s sink) Hist(of probe.Subject, name string, h probe.Hist) {
	s.r.Subjects[of.ID] = of
	s.r.hists[[2]string{of.ID, name}] = h
}

func (s sink) Counter(of probe.Subject, name string, v float64) { s.put(of, name, v) }
func (s sink) Seconds(of probe.Subject, name string, v float64) { s.put(of, name, v) }
func (s sink) Gauge(of probe.Subject, name string, v float64)   { s.put(of, name, v) }

func (s sink) put(of probe.Subject, name string, v float64) {
	s.r.Subjects[of.ID] = of
	s.r.values[[2]string{of.ID, name}] = v
}

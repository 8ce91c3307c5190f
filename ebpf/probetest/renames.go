package probetest

import (
	"fmt"
	"testing"

	"github.com/cilium/ebpf"

	"semantos/ebpf/probe"
)

// Renames describes a probe for tests of the core: it counts, in scope, each renaming of a thread to a
// name that begins with "pt-" (variable "renamed"), and pairs "pt-start" with "pt-end" ("paired",
// "voided"). Its program "absent" is for a tracepoint that no kernel has; optional says whether it may be.
func Renames(optional bool) probe.Spec {
	s := probe.Spec{Name: "renames", Answers: "how often does a test rename a thread", Collection: func() (*ebpf.CollectionSpec, error) {
		spec, err := loadBpf()
		if err == nil {
			delete(spec.Programs, bpfProgAsk) // belongs to no tracepoint
		}
		return spec, err
	}}
	s.Read = func(p *probe.Probe, out probe.Sink) error {
		for _, name := range []string{bpfVarRenamed, bpfVarPaired, bpfVarVoided} {
			var n uint64
			if err := p.Get(name, &n); err != nil {
				return err
			}
			out.Counter(probe.Subject{}, name, float64(n))
		}
		return nil
	}
	if optional {
		s.Optional = []string{bpfProgAbsent}
	}
	return s
}

// Arithmetic is the C side of a histogram (headers/hist.h) on this kernel.
type Arithmetic struct {
	coll *ebpf.Collection
}

// NewArithmetic loads it; the test is skipped where no such program can run.
func NewArithmetic(t testing.TB) *Arithmetic {
	t.Helper()
	spec, err := loadBpf()
	if err != nil {
		t.Fatal(err)
	}
	delete(spec.Programs, bpfProgRename)
	delete(spec.Programs, bpfProgAbsent)
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Skipf("a program of type syscall (5.14): %v", err)
	}
	t.Cleanup(coll.Close)
	return &Arithmetic{coll}
}

// Bucket counts a value in both histograms and says where.
func (a *Arithmetic) Bucket(v uint64) (uint64, error) {
	q := struct{ Value, Bucket uint64 }{Value: v}
	_, err := a.coll.Programs[bpfProgAsk].Run(&ebpf.RunOptions{Context: q, ContextOut: &q})
	if err != nil {
		return 0, fmt.Errorf("ask for the bucket of %d: %w", v, err)
	}
	return q.Bucket, nil
}

// Hists gives what has been counted: in the shared histogram, and in those of all CPUs together.
func (a *Arithmetic) Hists(t testing.TB) (shared, local probe.Hist) {
	t.Helper()
	var one probe.Raw
	var perCPU []probe.Raw
	if err := a.coll.Maps[bpfMapShared].Lookup(uint32(0), &one); err != nil {
		t.Fatal(err)
	}
	if err := a.coll.Maps[bpfMapLocal].Lookup(uint32(0), &perCPU); err != nil {
		t.Fatal(err)
	}
	return probe.Of(one), probe.Of(perCPU...)
}

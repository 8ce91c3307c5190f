package telemetry

import (
	"bytes"
	"context"
	"errors"

	"semantos/internal/tune"
)

type psiCollector struct{ *env }

func newPSI(e *env) collector { return &psiCollector{e} }

func (c *psiCollector) Name() string { return "psi" }

func (c *psiCollector) Signals() []tune.Signal {
	return table("", "/proc/pressure", `
psi.cpu_some_share | +share | time in which some task waited for a CPU
psi.cpu_full_share | +share | time in which all tasks waited for a CPU (only inside cgroups)
psi.memory_some_share | +share | time in which some task was stalled by missing memory
psi.memory_full_share | +share | time in which all tasks were stalled by missing memory
psi.io_some_share | +share | time in which some task waited for I/O
psi.io_full_share | +share | time in which all tasks waited for I/O`)
}

func (c *psiCollector) Collect(_ context.Context, f *frame) error {
	found := false
	for _, r := range [...]struct{ file, some, full string }{
		{"proc/pressure/cpu", "psi.cpu_some_share", "psi.cpu_full_share"},
		{"proc/pressure/memory", "psi.memory_some_share", "psi.memory_full_share"},
		{"proc/pressure/io", "psi.io_some_share", "psi.io_full_share"},
	} {
		b, err := c.files.read(r.file)
		if errors.Is(err, tune.ErrNoData) {
			continue
		}
		if err != nil {
			return err
		}
		p, err := parsePSI(b)
		if err != nil {
			return err
		}
		found = true
		f.host().duty(r.some, p.some/1e6)
		if p.hasFull {
			f.host().duty(r.full, p.full/1e6)
		}
	}
	if !found {
		return fileError("/proc/pressure", errNotExist)
	}
	return nil
}

// pressure holds the totals of one pressure file in microseconds.
type pressure struct {
	some, full float64
	hasFull    bool
}

// parsePSI is our own although procfs has one, because the cgroups' files are read by the dozen and
// procfs reads only the host's.
func parsePSI(b []byte) (pressure, error) {
	var p pressure
	hasSome := false
	for len(b) > 0 {
		var l []byte
		if l, b = line(b); len(bytes.TrimSpace(l)) == 0 {
			continue
		}
		kind, rest := word(l)
		_, total, found := bytes.Cut(rest, []byte("total="))
		v, ok := number(bytes.TrimSpace(total))
		if !found || !ok {
			return pressure{}, corrupt("pressure line", l)
		}
		switch string(kind) {
		case "some":
			p.some, hasSome = v, true
		case "full":
			p.full, p.hasFull = v, true
		default:
			return pressure{}, corrupt("pressure line", l)
		}
	}
	if !hasSome {
		return pressure{}, corrupt("pressure file", b)
	}
	return p, nil
}

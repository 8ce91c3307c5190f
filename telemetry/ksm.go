package telemetry

import (
	"context"
	"errors"

	"semantos/internal/tune"
)

type ksmCollector struct{ *env }

func newKSM(e *env) collector { return &ksmCollector{e} }

func (c *ksmCollector) Name() string { return "ksm" }

var ksmGauges = []string{"pages_shared", "pages_sharing", "pages_unshared", "pages_volatile"}
var ksmCounters = []string{"pages_scanned", "full_scans"}

func (c *ksmCollector) Signals() []tune.Signal {
	return table("", "/sys/kernel/mm/ksm", `
ksm.pages_shared | pages | pages that are shared by merging
ksm.pages_sharing | pages | places that share them: what is saved
ksm.pages_unshared | pages | pages unique so far that are checked again and again
ksm.pages_volatile | pages | pages that change too fast to be merged
ksm.pages_scanned | +pages | pages the merging daemon looked at
ksm.full_scans | +scans | full passes over all mergeable memory`)
}

func (c *ksmCollector) Collect(_ context.Context, f *frame) error {
	found := false
	read := func(field string, add func(string, float64)) error {
		b, err := c.files.read("sys/kernel/mm/ksm/" + field)
		if errors.Is(err, tune.ErrNoData) {
			return nil // older kernels lack some
		}
		if err != nil {
			return err
		}
		var v [1]float64
		if _, err := parseNumbers(b, v[:]); err != nil {
			return err
		}
		add("ksm."+field, v[0])
		found = true
		return nil
	}
	for _, g := range ksmGauges {
		if err := read(g, f.host().gauge); err != nil {
			return err
		}
	}
	for _, k := range ksmCounters {
		if err := read(k, f.host().counter); err != nil {
			return err
		}
	}
	if !found {
		return fileError("/sys/kernel/mm/ksm", errNotExist)
	}
	return nil
}

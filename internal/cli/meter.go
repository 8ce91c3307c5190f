package cli

import (
	"context"

	"semantos/safety"
	"semantos/workloads/meter"
)

// openMeter reads --meter and refuses one that could never work, before anything is tried with it.
// It gives nil for "": then the symptom's own signal is measured.
func (a *app) openMeter(ctx context.Context, spec string) (safety.Meter, error) {
	if spec == "" {
		return nil, nil
	}
	m, err := meter.Parse(spec, meter.Config{Probe: a.newEBPFMeter})
	if err != nil {
		return nil, err
	}
	if err := m.Check(ctx); err != nil {
		return nil, err
	}
	return m, nil
}

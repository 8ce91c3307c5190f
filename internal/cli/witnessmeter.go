package cli

import (
	"context"
	"time"

	"semantos/internal/tune"
	"semantos/safety/rollout"
)

// witnessMeter has the kernel count what clients lost while a meter from outside measures: a meter
// starts its clock when a connection is open and does not see who never got in.
type witnessMeter struct {
	rollout.Meter
	sampler windows
	measure tune.Measure
}

// LossMS is what one loss costs a client.
func (m *witnessMeter) LossMS() float64 { return m.measure.LossMS }

// Sample is the meter's own, with the share of attempts lost over the same time. When the kernel's
// count cannot be read the sample stands without it.
func (m *witnessMeter) Sample(ctx context.Context, d time.Duration) (tune.MeterSample, error) {
	m.sampler.Reset()
	if err := m.sampler.Tick(ctx); err != nil {
		return tune.MeterSample{}, err
	}
	s, err := m.Meter.Sample(ctx, d)
	if err != nil {
		return s, err
	}
	if err := m.sampler.Tick(ctx); err != nil {
		return tune.MeterSample{}, err
	}
	s.Lost = lostShare(m.sampler.Snapshot(), m.measure)
	return s, nil
}

// lostShare is lost / (lost + got through); no attempt at all lost nothing.
func lostShare(snap tune.Snapshot, m tune.Measure) *float64 {
	lost, ok := reading(snap, m)
	if !ok {
		return nil
	}
	through := m
	through.Signal = m.Per
	done, ok := reading(snap, through)
	if !ok {
		return nil
	}
	share := 0.0
	if lost+done > 0 {
		share = lost / (lost + done)
	}
	return &share
}

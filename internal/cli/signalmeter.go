package cli

import (
	"context"
	"fmt"
	"time"

	"semantos/internal/tune"
)

// signalMeter measures a symptom by its own kernel-side signal: each sample is a window of its own.
type signalMeter struct {
	sampler windows
	measure tune.Measure
}

// windows is a sampler of one's own.
type windows interface {
	Tick(ctx context.Context) error
	Snapshot() tune.Snapshot
	Reset()
}

// looksApart is how often a sample looks: gauges such as a queue's length move within a second.
const looksApart = 500 * time.Millisecond

func (m *signalMeter) Name() string { return "signal:" + m.measure.Signal }

// Fresh is false: what this host's clients do is unknown, and old connections may live on.
func (m *signalMeter) Fresh() bool { return false }

// Measure tells the runner what the one value is.
func (m *signalMeter) Measure() tune.Measure { return m.measure }

// Sample looks for d and reads the signal of that window. An entity that is gone is no data.
func (m *signalMeter) Sample(ctx context.Context, d time.Duration) (tune.MeterSample, error) {
	m.sampler.Reset()
	looks := max(1, int(d/looksApart))
	start := time.Now()
	if err := m.sampler.Tick(ctx); err != nil {
		return tune.MeterSample{}, err
	}
	for i := 1; i <= looks; i++ {
		timer := time.NewTimer(d*time.Duration(i)/time.Duration(looks) - time.Since(start))
		select {
		case <-ctx.Done():
			timer.Stop()
			return tune.MeterSample{}, ctx.Err()
		case <-timer.C:
		}
		if err := m.sampler.Tick(ctx); err != nil {
			return tune.MeterSample{}, err
		}
	}
	value, ok := reading(m.sampler.Snapshot(), m.measure)
	if !ok {
		return tune.MeterSample{}, fmt.Errorf("%s of %s: %w", m.measure.Signal, orHost(m.measure.Entity), tune.ErrNoData)
	}
	return tune.MeterSample{Start: start, End: time.Now(), Value: &value}, nil
}

// reading finds a measure in a snapshot.
func reading(snap tune.Snapshot, m tune.Measure) (float64, bool) {
	if m.Entity == "" {
		v, ok := snap.Signals[m.Signal]
		return v, ok
	}
	for kind, entities := range snap.Entities {
		if m.Kind != "" && kind != m.Kind {
			continue
		}
		for _, e := range entities {
			if e.ID == m.Entity {
				v, ok := e.Signals[m.Signal]
				return v, ok
			}
		}
	}
	return 0, false
}

func orHost(entity string) string {
	if entity == "" {
		return "the host"
	}
	return oneLine(entity)
}

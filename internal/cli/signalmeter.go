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
	fresh   bool
	keep    func(time.Duration) // has the signal's probe count all the time meanwhile; nil needs none
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

// Fresh is false unless connections were seen to live shortly: old ones may keep what they have.
func (m *signalMeter) Fresh() bool { return m.fresh }

// turnoverLook is how long opened connections are counted before a rollout that only they will see.
const turnoverLook = time.Second

// shortLived looks whether a namespace's connections are opened about as fast as they stand: then each
// slot has connections of its own, and a value for new sockets can be switched back and forth.
func shortLived(ctx context.Context, sampler windows, netns string) bool {
	sampler.Reset()
	if sampler.Tick(ctx) != nil {
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(turnoverLook):
	}
	if sampler.Tick(ctx) != nil {
		return false
	}
	get := func(signal string) (float64, bool) {
		return reading(sampler.Snapshot(), tune.Measure{Signal: signal, Entity: netns, Kind: tune.EntityNetns})
	}
	active, okA := get("tcp.active_opens")
	passive, okP := get("tcp.passive_opens")
	standing, okS := get("tcpinfo.established")
	return okA && okP && okS && active+passive >= max(1, standing/2)
}

// newSocketsOf names the namespace whose new sockets alone will see a bundle, "" when none or several.
func newSocketsOf(changes []tune.Change) string {
	netns := ""
	for _, c := range changes {
		switch {
		case c.TakesEffect == tune.NewMappings, c.TakesEffect == tune.NewSockets && c.Scope != tune.ScopeNetns,
			c.TakesEffect == tune.NewSockets && netns != "" && netns != c.Target:
			return ""
		case c.TakesEffect == tune.NewSockets:
			netns = c.Target
		}
	}
	return netns
}

// Measure tells the runner what the one value is.
func (m *signalMeter) Measure() tune.Measure { return m.measure }

// Sample looks for d and reads the signal of that window. An entity that is gone is no data.
func (m *signalMeter) Sample(ctx context.Context, d time.Duration) (tune.MeterSample, error) {
	if m.keep != nil {
		m.keep(d)
	}
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

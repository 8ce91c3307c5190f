package cli

import (
	"context"
	"testing"
	"time"

	"semantos/internal/tune"
)

type oneWindow struct{ snap tune.Snapshot }

func (w oneWindow) Tick(context.Context) error { return nil }
func (w oneWindow) Snapshot() tune.Snapshot    { return w.snap }
func (w oneWindow) Reset()                     {}

type stubMeter struct{}

func (stubMeter) Name() string { return "stub" }
func (stubMeter) Fresh() bool  { return true }
func (stubMeter) Sample(context.Context, time.Duration) (tune.MeterSample, error) {
	return tune.MeterSample{P95MS: 1, Throughput: 10}, nil
}

func TestWitnessCountsLosses(t *testing.T) {
	t.Parallel()
	measure := tune.Measure{Signal: "tcp.listen_overflows", Per: "tcp.passive_opens", LossMS: 1000, Entity: "netns:1", Kind: tune.EntityNetns}
	for name, c := range map[string]struct {
		signals map[string]float64
		want    float64
		absent  bool
	}{
		"some lost":    {signals: map[string]float64{"tcp.listen_overflows": 10, "tcp.passive_opens": 90}, want: 0.1},
		"none tried":   {signals: map[string]float64{"tcp.listen_overflows": 0, "tcp.passive_opens": 0}},
		"not readable": {signals: map[string]float64{"tcp.passive_opens": 90}, absent: true},
	} {
		snap := tune.Snapshot{Entities: map[string][]tune.Entity{tune.EntityNetns: {{Kind: tune.EntityNetns, ID: "netns:1", Signals: c.signals}}}}
		s, err := (&witnessMeter{Meter: stubMeter{}, sampler: oneWindow{snap}, measure: measure}).Sample(t.Context(), time.Millisecond)
		if err != nil || s.P95MS != 1 || (s.Lost == nil) != c.absent || s.Lost != nil && *s.Lost != c.want {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
}

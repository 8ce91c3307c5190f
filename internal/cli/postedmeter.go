package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"semantos/console"
	"semantos/internal/tune"
)

// postedMeter measures by asking the command line that started the rollout: what runs there runs with
// its uid, never with serve's.
type postedMeter struct {
	name    string
	fresh   bool
	rollout string
	publish func(console.Event)
	now     func() time.Time
	answers chan console.SampleRequest

	mu  sync.Mutex
	seq int
}

// sampleWanted is the data of a progress event of kind "sample".
type sampleWanted struct {
	Seq     int     `json:"seq"`
	Seconds float64 `json:"seconds"`
}

func (m *postedMeter) Name() string { return m.name }
func (m *postedMeter) Fresh() bool  { return m.fresh }

// Sample asks for one and waits for the answer with the same number; an older one is dropped.
func (m *postedMeter) Sample(ctx context.Context, d time.Duration) (tune.MeterSample, error) {
	m.mu.Lock()
	m.seq++
	seq := m.seq
	m.mu.Unlock()
	m.publish(console.Event{Time: m.now(), Kind: "sample", Message: "", Rollout: m.rollout,
		Data: sampleWanted{Seq: seq, Seconds: d.Seconds()}})
	for {
		select {
		case <-ctx.Done():
			return tune.MeterSample{}, ctx.Err()
		case a := <-m.answers:
			switch {
			case a.Seq != seq:
			case a.Error != "":
				return tune.MeterSample{}, errors.New(oneLine(a.Error))
			case a.Sample == nil:
				return tune.MeterSample{}, fmt.Errorf("meter %s: %w", m.name, tune.ErrNoData)
			default:
				return *a.Sample, nil
			}
		}
	}
}

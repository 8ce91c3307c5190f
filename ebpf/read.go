package ebpf

import (
	"errors"
	"fmt"
	"time"

	"semantos/ebpf/probe"
	"semantos/internal/tune"
)

// Sink takes a reading of the set. Begin comes before each probe's own readings.
type Sink interface {
	probe.Sink
	Begin(Origin)
}

// Origin is what readings of one probe have in common.
type Origin struct {
	Probe string
	Load  uint64 // differs when the probe was loaded anew since: its counts began again at zero
	// Age is how long ago the counts end: a probe that counts part of the time has seen nothing since.
	Age time.Duration
}

// Read reads every loaded probe: cumulative since its load, and scaled to all of the time. What failed
// to load or to be read is given with the reason, what is off on purpose is not.
func (s *Set) Read(out Sink) []tune.Missing {
	var missing []tune.Missing
	miss := func(m *member, err error) {
		missing = append(missing, tune.Missing{Collector: "ebpf/" + m.spec.Name, Reason: reason(err)})
	}
	for _, m := range s.members {
		m.mu.Lock()
		switch {
		case m.p != nil:
			if err := m.read(); err != nil {
				miss(m, err)
				break
			}
			m.hand(out)
		case m.err != nil:
			miss(m, m.err)
		}
		m.mu.Unlock()
	}
	return missing
}

// Totals hands over what Read came to last, without reading anew.
func (s *Set) Totals(out Sink) {
	for _, m := range s.members {
		m.mu.Lock()
		if m.p != nil {
			m.hand(out)
		}
		m.mu.Unlock()
	}
}

func (m *member) hand(out Sink) {
	out.Begin(Origin{Probe: m.spec.Name, Load: m.loads, Age: m.counts.age})
	m.counts.hand(out)
}

// read takes a reading of the maps. A probe's parser must not end the process, whatever is in a map.
func (m *member) read() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("read probe %s: gave up (%v): %w", m.spec.Name, r, tune.ErrCorrupt)
		}
	}()
	if m.spec.Read == nil {
		return errors.New("the probe has nothing to read")
	}
	var b batch
	wall, active := time.Since(m.loaded), m.p.Active()
	if err := m.spec.Read(m.p, &b); err != nil {
		return fmt.Errorf("read probe %s: %w", m.spec.Name, err)
	}
	m.counts.take(wall, active, b)
	return nil
}

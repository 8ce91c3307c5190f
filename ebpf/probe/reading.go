package probe

import "semantos/internal/tune"

// Subject is the thing a reading belongs to; the zero subject is the host. Kind is one of the entity
// kinds of tune.
type Subject struct {
	Kind   string
	ID     string
	Labels map[string]string // never changed after it was handed over
}

// Sink takes what a probe read at one tick. All numbers are cumulative since the probe was loaded,
// except gauges.
type Sink interface {
	// Hist hands over a histogram. The name says the unit it is shown in ("_us", "_ms"); the values are
	// nanoseconds whatever the name.
	Hist(of Subject, name string, h Hist)
	// Counter hands over a count that only grows.
	Counter(of Subject, name string, v float64)
	// Seconds hands over time that only grows; it is shown as a share of time.
	Seconds(of Subject, name string, v float64)
	// Gauge hands over a reading of now.
	Gauge(of Subject, name string, v float64)
}

// HistSignal describes a histogram's signals: name+".p50", ".p95", ".p99" and ".mean" in the unit given
// ("us", "ms") and name+".rate", values counted per second.
func HistSignal(name, entity, unit, help, source string) tune.Signal {
	return tune.Signal{Name: name, Entity: entity, Unit: unit, Histogram: true, Help: help, Source: source}
}

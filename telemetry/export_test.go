package telemetry

import "semantos/internal/tune"

// CollectorSignals gives each collector's own table.
func CollectorSignals() map[string][]tune.Signal {
	out := make(map[string][]tune.Signal)
	for _, c := range all(nil) {
		out[c.Name()] = c.Signals()
	}
	return out
}

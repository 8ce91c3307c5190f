package telemetry

import (
	"sort"
	"strings"

	"semantos/internal/tune"
)

// Signals is the full table of what can be delivered, sorted by name and entity. A counter's name
// carries also ".total", a gauge's ".max" and ".last".
func Signals() []tune.Signal {
	var out []tune.Signal
	for _, c := range all(nil) {
		out = append(out, c.Signals()...)
	}
	for _, s := range out {
		// namespaces' counters are summed to the host under the same name
		if s.Entity == tune.EntityNetns && s.Counter {
			s.Entity = ""
			s.Help += "; summed over namespaces"
			out = append(out, s)
		}
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].Name != out[j].Name {
			return out[i].Name < out[j].Name
		}
		return out[i].Entity < out[j].Entity
	})
	return out
}

// table builds signals of one entity kind and source from lines "name | unit | help". A unit with a
// leading plus is a counter's (per second).
func table(entity, source, lines string) []tune.Signal {
	var out []tune.Signal
	for _, l := range strings.Split(strings.TrimSpace(lines), "\n") {
		cells := strings.SplitN(l, "|", 3)
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		unit, counter := strings.CutPrefix(cells[1], "+")
		out = append(out, tune.Signal{Name: cells[0], Entity: entity, Unit: unit, Counter: counter,
			Help: cells[2], Source: source})
	}
	return out
}

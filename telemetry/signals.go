package telemetry

import (
	"sort"
	"strings"

	"semantos/ebpf"
	"semantos/internal/tune"
)

// Signals is the full table of what can be delivered, sorted by name and entity. [Series] gives the names
// each is delivered under. It loads no probe.
func Signals() []tune.Signal {
	var out []tune.Signal
	for _, c := range all(nil) {
		out = append(out, c.Signals()...)
	}
	for _, p := range ebpf.All() {
		out = append(out, p.Signals...)
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

// Series gives every name a signal is delivered under, with the unit of each: a counter's rate and
// ".total"; a histogram's ".p50", ".p95", ".p99", ".mean" and ".rate"; a gauge's mean, ".max", ".last".
// A share of time has neither a unit per second nor a total.
func Series(s tune.Signal) []tune.Signal {
	as := func(suffix, unit string) tune.Signal {
		one := s
		one.Name, one.Unit = s.Name+suffix, unit
		return one
	}
	switch {
	case s.Histogram:
		out := []tune.Signal{as(".rate", "/s")}
		for _, suffix := range histSuffixes()[:4] {
			out = append(out, as(suffix, s.Unit))
		}
		return out
	case s.Counter && s.Unit == "share":
		return []tune.Signal{s}
	case s.Counter:
		return []tune.Signal{as("", s.Unit+"/s"), as(".total", s.Unit)}
	}
	return []tune.Signal{s, as(".max", s.Unit), as(".last", s.Unit)}
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

package kb

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"semantos/internal/tune"
)

// priorPartOf is the weight of belonging to a subsystem: it joins what nothing else joins, and must
// never be the strongest chain between two tunables that have another.
const priorPartOf = 0.1

// Seed gives the graph as the catalogue and the rules tell it, before anything was learned: nodes by
// ID, edges by From, Type and To. Signals are what the edges and measures name.
func Seed(c *Catalogue, rules []tune.Rule) ([]tune.Node, []tune.Edge) {
	nodes := map[string]tune.Node{}
	put := func(n tune.Node) {
		if old, ok := nodes[n.ID]; !ok || old.Summary == "" {
			nodes[n.ID] = n
		}
	}
	edges := slices.Clone(c.edges)
	for _, t := range c.All() {
		put(tune.Node{ID: t.Name, Kind: tune.NodeTunable, Summary: t.Summary, Source: t.Source})
		subsystem := "subsystem:" + t.Domain
		put(tune.Node{ID: subsystem, Kind: tune.NodeSubsystem})
		e := seeded(t.Name, tune.PartOf, subsystem, 1, priorPartOf, t.Source)
		edges = append(edges, e)
	}
	for _, r := range rules {
		summary := r.Resource
		if len(r.Relief) > 0 {
			summary = r.Relief[0].Why
		}
		put(tune.Node{ID: r.Name, Kind: tune.NodeSymptom, Summary: summary, Source: r.Source})
		edges = append(edges, reliefs(r)...)
		edges = append(edges, shown(r)...)
	}
	for _, e := range edges {
		put(tune.Node{ID: e.To, Kind: kindOf(e.To)})
	}
	slices.SortFunc(edges, func(a, b tune.Edge) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.Type, b.Type), cmp.Compare(a.To, b.To))
	})
	return slices.SortedFunc(maps.Values(nodes), func(a, b tune.Node) int { return cmp.Compare(a.ID, b.ID) }), edges
}

// reliefs are one edge per tunable a rule proposes; of several reliefs with it the first counts.
func reliefs(r tune.Rule) []tune.Edge {
	var out []tune.Edge
	for _, relief := range r.Relief {
		for _, c := range relief.Changes {
			if slices.ContainsFunc(out, func(e tune.Edge) bool { return e.To == c.Tunable }) {
				continue
			}
			e := seeded(r.Name, tune.Relieves, c.Tunable, 1, relief.Weight, r.Source)
			e.Why = relief.Why
			// That the kernel documents a signal does not prove a cure: outcomes may move these.
			e.Documented = false
			out = append(out, e)
		}
	}
	return out
}

// priorShown is the weight of a symptom's own signal.
const priorShown = 0.9

// shown joins a symptom to the signal it is measured by.
func shown(r tune.Rule) []tune.Edge {
	if r.Measure.Signal == "" {
		return nil
	}
	return []tune.Edge{seeded(r.Name, tune.Affects, r.Measure.Signal, 1, priorShown, r.Source)}
}

// kindOf tells what an edge's end stands for when nothing else describes it.
func kindOf(id string) tune.NodeKind {
	prefix, _, ok := strings.Cut(id, separatorOfKind)
	if !ok {
		return tune.NodeSignal
	}
	switch prefix {
	case "workload":
		return tune.NodeWorkload
	case "goal":
		return tune.NodeGoal
	case "fact":
		return tune.NodeFact
	}
	return tune.NodeSubsystem
}

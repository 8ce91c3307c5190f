package graph

import (
	"cmp"
	"maps"
	"slices"

	"semantos/internal/tune"
)

// Conflicts gives the conflicts within a set of tunables, strongest first. A documented conflict counts
// with its undecayed seed: what the kernel's documents say does not fade.
func (g *Graph) Conflicts(set []string) []tune.Edge {
	in := make(map[string]bool, len(set))
	for _, id := range set {
		in[id] = true
	}
	out := []tune.Edge{}
	for _, id := range slices.Sorted(maps.Keys(in)) {
		i, ok := g.index[id]
		if !ok {
			continue
		}
		for _, a := range g.of(i) {
			e := g.edges[a.edge]
			if e.Type == tune.ConflictsWith && e.From == id && in[e.To] {
				out = append(out, e)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b tune.Edge) int { return cmp.Or(cmp.Compare(vetoWeight(b), vetoWeight(a)), compareEdges(a, b)) })
	return out
}

func vetoWeight(e tune.Edge) float64 {
	if e.Documented {
		return max(e.Seed, e.Weight)
	}
	return e.Weight
}

// Requires gives everything a set of tunables depends on, directly or through others, without the set
// itself, in an order in which each comes after what it depends on.
func (g *Graph) Requires(set []string) ([]string, error) {
	asked := map[int32]bool{}
	for _, id := range set {
		i, err := g.find(id)
		if err != nil {
			return nil, err
		}
		asked[i] = true
	}
	seen := map[int32]bool{}
	out := []string{}
	var visit func(i int32)
	visit = func(i int32) {
		if seen[i] {
			return
		}
		seen[i] = true
		for _, a := range g.of(i) {
			if e := g.edges[a.edge]; e.Type == tune.DependsOn && e.From == g.nodes[i].ID {
				visit(a.to)
			}
		}
		if !asked[i] {
			out = append(out, g.nodes[i].ID)
		}
	}
	for _, id := range set {
		visit(g.index[id])
	}
	return out, nil
}

// Relief is one tunable that relieves a symptom, with what belongs to it.
type Relief struct {
	Tunable   string      `json:"tunable"`
	Strength  float64     `json:"strength"` // weight of the relieves edge
	Edge      tune.Edge   `json:"edge"`
	Requires  []string    `json:"requires"`  // closure of depends_on
	Helped    []tune.Edge `json:"helped"`    // synergies with the symptom's other reliefs
	Conflicts []tune.Edge `json:"conflicts"` // with the symptom's other reliefs
}

// Reliefs gives every bundle that relieves a symptom, strongest first.
func (g *Graph) Reliefs(symptom string) ([]Relief, error) {
	i, err := g.find(symptom)
	if err != nil {
		return nil, err
	}
	out := []Relief{}
	for _, a := range g.of(i) {
		e := g.edges[a.edge]
		if e.Type != tune.Relieves || e.From != symptom || e.Sign < 0 {
			continue
		}
		out = append(out, Relief{Tunable: e.To, Strength: e.Weight, Edge: e, Helped: []tune.Edge{}, Conflicts: []tune.Edge{}})
	}
	slices.SortFunc(out, func(a, b Relief) int {
		return cmp.Or(cmp.Compare(b.Strength, a.Strength), cmp.Compare(a.Tunable, b.Tunable))
	})
	others := map[string]bool{}
	for _, r := range out {
		others[r.Tunable] = true
	}
	for k := range out {
		r := &out[k]
		if r.Requires, err = g.Requires([]string{r.Tunable}); err != nil {
			return nil, err
		}
		for _, a := range g.of(g.index[r.Tunable]) {
			e := g.edges[a.edge]
			if !others[e.From] || !others[e.To] {
				continue
			}
			switch e.Type {
			case tune.SynergizesWith:
				r.Helped = append(r.Helped, e)
			case tune.ConflictsWith:
				r.Conflicts = append(r.Conflicts, e)
			}
		}
	}
	return out, nil
}

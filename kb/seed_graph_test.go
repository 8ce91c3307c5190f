package kb

import (
	"testing"

	"semantos/internal/tune"
)

// TestSeed: at least 250 edges with a source, every end a node, no edge twice, no cycle of depends_on.
func TestSeed(t *testing.T) {
	t.Parallel()
	c, err := Load(Options{})
	if err != nil {
		t.Fatal(err)
	}
	rules, err := LoadRules(Options{})
	if err != nil {
		t.Fatal(err)
	}
	nodes, edges := Seed(c, rules)
	kinds := map[string]tune.NodeKind{}
	for _, n := range nodes {
		if kinds[n.ID] != "" {
			t.Errorf("node %s twice", n.ID)
		}
		kinds[n.ID] = n.Kind
	}
	sourced, seen := 0, map[[3]string]bool{}
	needs := map[string][]string{}
	for _, e := range edges {
		key := [3]string{e.From, string(e.Type), e.To}
		if seen[key] || e.From == e.To || kinds[e.From] == "" || kinds[e.To] == "" || e.Weight < 0 || e.Weight > 1 {
			t.Errorf("edge %+v", e)
		}
		seen[key] = true
		if e.Source != "" && e.Type != tune.PartOf {
			sourced++
		}
		if e.Type == tune.Relieves && (kinds[e.From] != tune.NodeSymptom || kinds[e.To] != tune.NodeTunable) {
			t.Errorf("%s relieves %s: %s to %s", e.From, e.To, kinds[e.From], kinds[e.To])
		}
		if e.Type == tune.DependsOn {
			needs[e.From] = append(needs[e.From], e.To)
		}
	}
	t.Logf("%d nodes, %d edges, %d of them sourced beside part_of", len(nodes), len(edges), sourced)
	if sourced < 250 {
		t.Errorf("%d sourced edges, want at least 250", sourced)
	}
	for from := range needs {
		if cycle := cycleFrom(needs, from, from, map[string]bool{}); cycle {
			t.Errorf("%s depends on itself", from)
		}
	}
}

func cycleFrom(needs map[string][]string, start, at string, seen map[string]bool) bool {
	for _, next := range needs[at] {
		if next == start {
			return true
		}
		if !seen[next] {
			seen[next] = true
			if cycleFrom(needs, start, next, seen) {
				return true
			}
		}
	}
	return false
}

package cli

import (
	"context"
	"testing"
	"time"

	"semantos/internal/tune"
	"semantos/kb/graph"
)

// TestRetiredReliefWeighsNothing: what evidence retired is not taken for what was never learned.
func TestRetiredReliefWeighsNothing(t *testing.T) {
	t.Parallel()
	nodes := []tune.Node{{ID: "s", Kind: tune.NodeSymptom}, {ID: "a", Kind: tune.NodeTunable}, {ID: "b", Kind: tune.NodeTunable}}
	g, err := graph.New(nodes, []tune.Edge{
		{From: "s", Type: tune.Relieves, To: "a", Sign: 1, Weight: 0.1, Seed: 0.5, Evidence: 60, Retired: true},
		{From: "s", Type: tune.Relieves, To: "b", Sign: 1, Weight: 0.25, Seed: 0.5, Evidence: 8},
	}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	ad := &adviser{graph: func(context.Context) (*graph.Graph, error) { return g, nil }}
	factor := ad.learned(t.Context())
	for _, c := range []struct {
		tunable string
		want    float64
		known   bool
	}{{"a", 0, true}, {"b", 0.5, true}, {"c", 0, false}} {
		if got, known := factor("s", c.tunable); got != c.want || known != c.known {
			t.Errorf("%s: %v, %v; want %v, %v", c.tunable, got, known, c.want, c.known)
		}
	}
}

package sqlite

import (
	"fmt"
	"testing"

	"semantos/internal/tune"
	"semantos/kb/kbtest"
	"semantos/kb/validate"
)

// BenchmarkKnowledge times the store at the size the knowledge base is built for: 10,000 nodes, 100,000
// edges, 20,000 traces.
func BenchmarkKnowledge(b *testing.B) {
	s, err := Open(b.Context(), b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	ctx := b.Context()
	var data validate.Batch
	name := func(i int) string { return fmt.Sprintf("n%05d", i%10_000) }
	for i := range 10_000 {
		data.Nodes = append(data.Nodes, kbtest.Node(name(i)))
	}
	for i := range 100_000 {
		data.Edges = append(data.Edges, kbtest.Edge(name(i), tune.Affects, name(i+1+i/10_000), 0.5))
	}
	for i := range 20_000 {
		data.Traces = append(data.Traces, kbtest.Trace(i))
	}
	b.Run("store all", func(b *testing.B) {
		for b.Loop() {
			if err := s.Apply(ctx, data); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read edges", func(b *testing.B) {
		for b.Loop() {
			if all, err := s.Edges(ctx); err != nil || len(all) != len(data.Edges) {
				b.Fatal(len(all), err)
			}
		}
	})
	b.Run("walk traces", func(b *testing.B) {
		for b.Loop() {
			n := 0
			if err := s.EachTrace(ctx, func(tune.Trace) error { n++; return nil }); err != nil || n != len(data.Traces) {
				b.Fatal(n, err)
			}
		}
	})
	b.Run("one learned edge", func(b *testing.B) {
		i := 0
		for b.Loop() {
			i++
			e := data.Edges[i%len(data.Edges)]
			e.Weight = float64(i%100) / 100
			if err := s.UpsertEdges(ctx, []tune.Edge{e}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("graph version", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.GraphVersion(ctx); err != nil {
				b.Fatal(err)
			}
		}
	})
}

package neo4j

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"semantos/internal/tune"
	"semantos/kb/graph"
	"semantos/kb/kbtest"
	"semantos/kb/neo4j/neo4jtest"
	"semantos/kb/validate"
)

// large makes 10,000 nodes and 100,000 edges, a few nodes having many, as knowledge graphs are.
func large() validate.Batch {
	const nodes, edges = 10_000, 100_000
	random := rand.New(rand.NewPCG(11, 12))
	var b validate.Batch
	for i := range nodes {
		b.Nodes = append(b.Nodes, kbtest.Node(nodeName(i)))
	}
	types := []tune.EdgeType{tune.Affects, tune.SynergizesWith, tune.ConflictsWith, tune.Relieves}
	seen := map[validate.EdgeKey]bool{}
	for len(b.Edges) < edges {
		near := func() int { f := random.Float64(); return int(f * f * nodes) }
		e := kbtest.Edge(nodeName(near()), types[random.IntN(len(types))], nodeName(near()), 0.05+0.9*random.Float64())
		key := validate.EdgeKey{From: e.From, Type: e.Type, To: e.To}
		if e.From != e.To && !seen[key] {
			seen[key] = true
			b.Edges = append(b.Edges, e)
		}
	}
	return b
}

func nodeName(i int) string { return fmt.Sprintf("n%05d", i) }

// BenchmarkWalks asks Neo4j and the embedded graph the same questions of the same data, one at a time.
func BenchmarkWalks(b *testing.B) {
	steady := neo4jtest.Shared{Steady: true}
	defer steady.Stop()
	srv := steady.Server(b)
	s, err := open(b.Context(), configOf(srv.URI(), b.TempDir()), defaultLimits())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	data := large()
	begin := time.Now()
	if err := s.Apply(b.Context(), data); err != nil {
		b.Fatal(err)
	}
	stored := time.Since(begin)
	for s.State().Queued > 0 {
		time.Sleep(20 * time.Millisecond)
	}
	b.Logf("%d nodes and %d edges: stored here in %v, in Neo4j after %v", len(data.Nodes), len(data.Edges), stored.Round(time.Millisecond), time.Since(begin).Round(time.Millisecond))
	begin = time.Now()
	g, err := graph.New(data.Nodes, data.Edges, time.Time{})
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("embedded graph built in %v", time.Since(begin).Round(time.Millisecond))
	var depths = []int{1, 2}
	for _, depth := range depths {
		timed(b, fmt.Sprintf("neighborhood%d/neo4j", depth), func(id, _ string) error {
			_, err := s.Neighborhood(b.Context(), id, depth, nil)
			return err
		})
		timed(b, fmt.Sprintf("neighborhood%d/embedded", depth), func(id, _ string) error {
			_, err := g.Neighborhood(id, graph.Around{Depth: depth})
			return err
		})
	}
	timed(b, "path/neo4j", func(from, to string) error {
		_, err := s.StrongestPath(b.Context(), from, to)
		return err
	})
	timed(b, "path/embedded", func(from, to string) error {
		_, err := g.Path(from, to)
		return err
	})
}

// timed reports the median and the 99th percentile beside the mean.
func timed(b *testing.B, name string, ask func(from, to string) error) {
	b.Run(name, func(b *testing.B) {
		random := rand.New(rand.NewPCG(13, 14))
		var took []time.Duration
		for b.Loop() {
			from, to := nodeName(random.IntN(10_000)), nodeName(random.IntN(10_000))
			begin := time.Now()
			if err := ask(from, to); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(begin))
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	})
}

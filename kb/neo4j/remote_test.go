package neo4j

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"semantos/internal/tune"
	"semantos/kb/kbtest"
	"semantos/kb/validate"
)

func TestSchemaIsThere(t *testing.T) {
	srv := server(t)
	reaches(t, openStore(t, configOf(srv.URI(), t.TempDir())), OK)
	reaches(t, openStore(t, configOf("neo4j://"+srv.Addr, t.TempDir())), OK)
	for _, scheme := range []string{"bolt+s://", "neo4j+ssc://"} { // the server has no TLS
		if st := reaches(t, openStore(t, configOf(scheme+srv.Addr, t.TempDir())), Unreachable); !strings.Contains(st.Reason, "TLS") {
			t.Errorf("%s: %+v", scheme, st)
		}
	}
	rows := srv.Query(t, "SHOW INDEXES YIELD name, state WHERE name STARTS WITH 'semantos_' RETURN name, state", nil)
	if len(rows) != len(migrations()) {
		t.Errorf("%d indexes, and %d steps make one each", len(rows), len(migrations()))
	}
	for _, r := range rows {
		if r[1] != "ONLINE" {
			t.Errorf("%v", r)
		}
	}
}

func TestNewerSchemaIsLeftAlone(t *testing.T) {
	srv := server(t)
	srv.Query(t, "CREATE (:SemantosMeta {id: 'schema', version: 99})", nil)
	s := openStore(t, configOf(srv.URI(), t.TempDir()))
	if st := reaches(t, s, Broken); !strings.Contains(st.Reason, "version 99") {
		t.Errorf("got %+v", st)
	}
	save(t, s, ends())
	if rows := srv.Query(t, "MATCH (n:SemantosNode) RETURN n", nil); len(rows) != 0 {
		t.Error("it was written to")
	}
}

func TestOthersChangesArrive(t *testing.T) {
	srv := server(t)
	a, b := openStore(t, configOf(srv.URI(), t.TempDir())), openStore(t, configOf(srv.URI(), t.TempDir()))
	reaches(t, a, OK)
	reaches(t, b, OK)
	lim := quick()
	lim.idle = time.Hour // the reads themselves have to look
	c := openWith(t, configOf(srv.URI(), t.TempDir()), lim)
	reaches(t, c, OK)
	ctx := t.Context()
	round := 10
	for name, see := range map[string]func() (bool, error){
		"node":  func() (bool, error) { _, err := c.Node(ctx, fmt.Sprint("a", round)); return true, err },
		"nodes": func() (bool, error) { all, err := c.Nodes(ctx); return len(all) == 3*(round-10), err },
		"edges": func() (bool, error) { all, err := c.Edges(ctx); return len(all) == 2*(round-10), err },
		"trace": func() (bool, error) { _, err := c.Trace(ctx, kbtest.Trace(round).ID); return true, err },
		"traces": func() (bool, error) {
			all, err := c.Traces(ctx, 1)
			return len(all) == 1 && all[0].ID == kbtest.Trace(round).ID, err
		},
		"rollouts": func() (bool, error) { all, err := c.Rollouts(ctx, 0); return len(all) == round-10, err },
		"outcomes": func() (bool, error) {
			all, err := c.Outcomes(ctx, "accept_queue", nil)
			return len(all) == round-10, err
		},
		"rollout": func() (bool, error) { _, err := c.Rollout(ctx, kbtest.Batch(round).Rollouts[0].ID); return true, err },
		"recommendation": func() (bool, error) {
			_, _, err := c.Recommendation(ctx, kbtest.Batch(round).Recommendations[0].Recommendation.ID)
			return true, err
		},
		"recommendations": func() (bool, error) {
			n := 0
			err := c.EachRecommendation(ctx, func(validate.Advice) error { n++; return nil })
			return n == round-10, err
		},
		"each trace": func() (bool, error) {
			n := 0
			err := c.EachTrace(ctx, func(tune.Trace) error { n++; return nil })
			return n == round-10, err
		},
		"each event": func() (bool, error) {
			n := 0
			err := c.EachEdgeEvent(ctx, func(validate.Event) error { n++; return nil })
			return n == 3*(round-10), err
		},
		"edge history": func() (bool, error) {
			all, err := c.EdgeHistory(ctx, fmt.Sprint("a", round), tune.DependsOn, fmt.Sprint("b", round))
			return len(all) == 1, err
		},
	} {
		round++
		save(t, a, kbtest.Batch(round))
		if ok, err := see(); !ok || err != nil {
			t.Errorf("%s: what another machine just wrote is not there: %v", name, err)
		}
	}
	before, err := c.GraphVersion(ctx)
	if err != nil {
		t.Fatal(err)
	}
	save(t, a, kbtest.Batch(1))
	if after, err := c.GraphVersion(ctx); err != nil || after <= before {
		t.Errorf("version %d, then %d, %v", before, after, err)
	}
	// Without a read, the copy is kept current in the background, so that a later outage finds it so.
	save(t, a, kbtest.Batch(2))
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err := b.spool.Trace(t.Context(), kbtest.Trace(2).ID); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the copy of the other machine stays old")
		}
	}
}

// TestEmptiedDatabaseIsFilledAgain covers another database, a wiped one and a node deleted by hand.
func TestEmptiedDatabaseIsFilledAgain(t *testing.T) {
	srv := server(t)
	s := openStore(t, configOf(srv.URI(), t.TempDir()))
	reaches(t, s, OK)
	save(t, s, kbtest.Batch(1))
	srv.Wipe(t)
	save(t, s, kbtest.Batch(2))
	filled := func(what string) {
		t.Helper()
		want := []any{int64(6), int64(4), int64(6), int64(2), int64(2), int64(2)}
		var got []any
		for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			got = srv.Query(t, `RETURN COUNT { (:SemantosNode) }, COUNT { ()-[:RELATES]->() }, COUNT { (:SemantosEvent) },
				COUNT { (:SemantosTrace) }, COUNT { (:SemantosRollout) }, COUNT { (:SemantosAdvice) }`, nil)[0]
			if cmp.Equal(want, got) {
				return
			}
		}
		t.Errorf("%s: %v, want %v", what, got, want)
	}
	filled("wiped")
	reaches(t, s, OK)
	srv.Query(t, "MATCH (n:SemantosNode {id: 'a1'}) DETACH DELETE n", nil)
	edge := kbtest.Edge("s1", tune.Relieves, "a1", 0.75)
	save(t, s, validate.Batch{Edges: []tune.Edge{edge}})
	filled("a node deleted by hand")
	srv.Query(t, "MATCH (c:SemantosMeta {id: 'clock'}) DELETE c", nil)
	save(t, s, validate.Batch{Edges: []tune.Edge{edge}})
	filled("the clock deleted by hand")
	reaches(t, s, OK)
}

// TestGarbageInTheDatabase: what cannot be understood is said, and the last known copy goes on.
func TestGarbageInTheDatabase(t *testing.T) {
	srv := server(t)
	for name, spoil := range map[string]string{
		"text for a weight": `MATCH ()-[r:RELATES]->() SET r.weight = 'heavy'`,
		"no sign":           `MATCH ()-[r:RELATES]->() REMOVE r.sign`,
		"NaN":               `MATCH ()-[r:RELATES]->() SET r.weight = 0.0/0.0`,
		"a weight of 7":     `MATCH ()-[r:RELATES]->() SET r.weight = 7`,
		"a time of words":   `MATCH ()-[r:RELATES]->() SET r.updated = 'yesterday'`,
		"unknown kind":      `MATCH (n:SemantosNode {id: 'a'}) SET n.kind = 'gizmo'`,
		"no summary":        `MATCH (n:SemantosNode {id: 'a'}) REMOVE n.summary`,
		"a list":            `MATCH (n:SemantosNode {id: 'a'}) SET n.summary = [1, 2]`,
		"no JSON":           `MATCH (e:SemantosEvent) SET e.body = '{"at": '`,
		"other JSON":        `MATCH (t:SemantosTrace) SET t.body = '{"id": 7}'`,
		"a body of bytes":   `MATCH (t:SemantosTrace) SET t.body = 7`,
	} {
		t.Run(name, func(t *testing.T) {
			srv.Wipe(t)
			s := openStore(t, configOf(srv.URI(), t.TempDir()))
			reaches(t, s, OK)
			b := ends()
			b.Events, b.Traces = event(1).Events, []tune.Trace{kbtest.Trace(1)}
			save(t, s, b)
			// Somebody changes it and the clock, as another version of semantos might.
			srv.Query(t, spoil, nil)
			srv.Query(t, `MATCH (c:SemantosMeta {id: 'clock'}) SET c.n = c.n + 1 WITH c.n AS n
				MATCH (x) WHERE x.rev IS NOT NULL SET x.rev = n WITH DISTINCT n MATCH ()-[r:RELATES]->() SET r.rev = n`, nil)
			nodes, err := s.Nodes(t.Context())
			if err != nil || len(nodes) != 2 {
				t.Errorf("the last known copy: %v, %v", nodes, err)
			}
			st := reaches(t, s, Broken)
			if !strings.Contains(st.Reason, tune.ErrCorrupt.Error()) {
				t.Errorf("got %+v", st)
			}
			if _, err := s.clockAndPull(t); !errors.Is(err, tune.ErrCorrupt) {
				t.Errorf("copying says %v", err)
			}
		})
	}
	t.Run("in a walk", func(t *testing.T) {
		srv.Wipe(t)
		s := openStore(t, configOf(srv.URI(), t.TempDir()))
		reaches(t, s, OK)
		save(t, s, ends())
		if _, err := s.Nodes(t.Context()); err != nil { // the copy is current, and nothing else will be read
			t.Fatal(err)
		}
		srv.Query(t, `MATCH ()-[r:RELATES]->() SET r.weight = 7`, nil)
		if _, err := s.Neighborhood(t.Context(), "a", 2, nil); !errors.Is(err, tune.ErrCorrupt) {
			t.Errorf("got %v", err)
		}
		if _, err := s.StrongestPath(t.Context(), "a", "b"); !errors.Is(err, tune.ErrCorrupt) {
			t.Errorf("got %v", err)
		}
	})
}

// clockAndPull copies once over a connection of its own.
func (s *Store) clockAndPull(t *testing.T) (bool, error) {
	l, err := s.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer l.close(time.Second)
	return true, s.pull(t.Context(), l)
}

// TestWalksLikeBruteForce compares the answers of Neo4j with all simple chains of a small random graph.
func TestWalksLikeBruteForce(t *testing.T) {
	srv := server(t)
	s := openStore(t, configOf(srv.URI(), t.TempDir()))
	reaches(t, s, OK)
	random := rand.New(rand.NewPCG(7, 8))
	const n = 12
	types := []tune.EdgeType{tune.Affects, tune.SynergizesWith, tune.ConflictsWith}
	var b validate.Batch
	for i := range n {
		b.Nodes = append(b.Nodes, kbtest.Node(fmt.Sprint("n", i)))
	}
	seen := map[string]bool{}
	for len(b.Edges) < 22 {
		from, to := random.IntN(n-1), random.IntN(n-1) // the last node stays alone
		e := kbtest.Edge(fmt.Sprint("n", from), types[random.IntN(3)], fmt.Sprint("n", to), random.Float64())
		e.Retired = random.IntN(6) == 0
		if key := validate.EdgeName(e.From, e.Type, e.To); from != to && !seen[key] {
			seen[key] = true
			b.Edges = append(b.Edges, e)
		}
	}
	b.Edges[0].Weight = 0
	save(t, s, b)
	for i := range n {
		from := fmt.Sprint("n", i)
		for _, tc := range []struct {
			depth int
			types []tune.EdgeType
		}{{1, nil}, {2, nil}, {3, types[:1]}, {4, types[1:]}} {
			want := bruteForce(b.Edges, from, tc.depth, tc.types)
			got, err := s.Neighborhood(t.Context(), from, tc.depth, tc.types)
			if err != nil {
				t.Fatal(err)
			}
			reached := map[string]float64{}
			for i, r := range got {
				reached[r.ID] = r.Strength
				if i > 0 && r.Strength > got[i-1].Strength || r.Depth < 1 || r.Depth > tc.depth {
					t.Errorf("place %d of the neighbourhood: %+v", i, r)
				}
			}
			if d := cmp.Diff(want, reached, cmpopts.EquateApprox(1e-12, 0)); d != "" {
				t.Errorf("%s to depth %d over %v (-want +got):\n%s", from, tc.depth, tc.types, d)
			}
		}
		all := bruteForce(b.Edges, from, n, nil)
		for j := range n {
			if to := fmt.Sprint("n", j); to != from {
				checkPath(t, s, b.Edges, from, to, all[to])
			}
		}
	}
	for _, id := range []string{"", "nowhere"} {
		if _, err := s.Neighborhood(t.Context(), id, 1, nil); !errors.Is(err, tune.ErrUnknown) {
			t.Errorf("around %q: %v", id, err)
		}
	}
}

func checkPath(t *testing.T, s *Store, edges []tune.Edge, from, to string, want float64) {
	t.Helper()
	chain, err := s.StrongestPath(t.Context(), from, to)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(chain.Strength-want) > 1e-12 {
		t.Errorf("from %s to %s %v, want %v", from, to, chain.Strength, want)
		return
	}
	product := 1.0
	for i := 1; i < len(chain.Nodes); i++ {
		product *= strongest(edges, chain.Nodes[i-1], chain.Nodes[i], nil)
	}
	if want > 0 && (math.Abs(product-want) > 1e-12 || chain.Nodes[0] != from || chain.Nodes[len(chain.Nodes)-1] != to) {
		t.Errorf("from %s to %s over %v is %v, want %v", from, to, chain.Nodes, product, want)
	}
}

func strongest(edges []tune.Edge, a, b string, types []tune.EdgeType) (best float64) {
	for _, e := range edges {
		joins := e.From == a && e.To == b || e.From == b && e.To == a
		allowed := len(types) == 0
		for _, typ := range types {
			allowed = allowed || typ == e.Type
		}
		if joins && allowed && !e.Retired {
			best = max(best, e.Weight)
		}
	}
	return best
}

func bruteForce(edges []tune.Edge, from string, depth int, types []tune.EdgeType) map[string]float64 {
	names := map[string]bool{}
	for _, e := range edges {
		names[e.From], names[e.To] = true, true
	}
	out, on := map[string]float64{}, map[string]bool{from: true}
	var visit func(at string, product float64, left int)
	visit = func(at string, product float64, left int) {
		if left == 0 {
			return
		}
		for to := range names {
			if w := product * strongest(edges, at, to, types); w > 0 && !on[to] {
				out[to] = max(out[to], w)
				on[to] = true
				visit(to, w, left-1)
				on[to] = false
			}
		}
	}
	visit(from, 1, depth)
	return out
}

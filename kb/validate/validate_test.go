package validate

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"semantos/internal/tune"
)

// What a store must refuse is listed in kb/kbtest; here are the parts with something to compute.

type memory map[string][]string // depends_on

func (memory) MissingNodes([]string) ([]string, error)   { return nil, nil }
func (memory) MissingEdges([]EdgeKey) ([]EdgeKey, error) { return nil, nil }
func (m memory) DependsOn(id string) ([]string, error)   { return append([]string(nil), m[id]...), nil }
func depends(from, to string) tune.Edge {
	return tune.Edge{From: from, Type: tune.DependsOn, To: to, Sign: 1}
}
func name(i int) string                        { return fmt.Sprint("n", i) }
func check(m memory, edges ...tune.Edge) error { return Batch{Edges: edges}.CheckAgainst(m) }

// TestCyclesLikeClosure compares the walk with a transitive closure on random graphs.
func TestCyclesLikeClosure(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	refused := 0
	for range 400 {
		n := 2 + random.IntN(7)
		stored := memory{}
		reach := make([][]bool, n)
		for i := range reach {
			reach[i] = make([]bool, n)
		}
		closes := func(a, b int) bool { return a == b || reach[b][a] }
		add := func(a, b int) {
			for i := range n {
				for j := range n {
					if (i == a || reach[i][a]) && (j == b || reach[b][j]) {
						reach[i][j] = true
					}
				}
			}
		}
		for range n {
			if a, b := random.IntN(n), random.IntN(n); !closes(a, b) {
				add(a, b)
				stored[name(a)] = append(stored[name(a)], name(b))
			}
		}
		var batch []tune.Edge
		cyclic := false
		for range 1 + random.IntN(3) {
			a, b := random.IntN(n), random.IntN(n)
			if a != b {
				batch = append(batch, depends(name(a), name(b)))
				cyclic = cyclic || closes(a, b)
				add(a, b)
			}
		}
		err := check(stored, batch...)
		if cyclic != errors.Is(err, tune.ErrInvariant) || !cyclic && err != nil {
			t.Fatalf("cyclic %v, got %v: %v + %v", cyclic, err, stored, batch)
		}
		if cyclic {
			refused++
		}
	}
	if refused < 40 || refused > 360 {
		t.Errorf("%d of 400 were cyclic: the test shows little", refused)
	}
}

func TestLongChains(t *testing.T) {
	chain := make([]tune.Edge, 0, 200_001)
	for i := range 200_000 {
		chain = append(chain, depends(name(i), name(i+1)))
	}
	if err := check(memory{}, chain...); err != nil {
		t.Fatal(err)
	}
	err := check(memory{}, append(chain, depends(name(200_000), name(0)))...)
	if !errors.Is(err, tune.ErrInvariant) {
		t.Fatal(err)
	}
	if len(err.Error()) > 2000 {
		t.Errorf("an error of %d bytes", len(err.Error()))
	}
}

func TestLastOfTheSameKeyHolds(t *testing.T) {
	retired := depends("b", "a")
	retired.Retired = true
	if err := check(memory{"a": {"b"}}, depends("b", "a"), retired); err != nil {
		t.Error(err)
	}
	if err := check(memory{"a": {"b"}}, retired, depends("b", "a")); err == nil {
		t.Error("a circle was let in")
	}
}

func TestSplit(t *testing.T) {
	var b Batch
	for i := range 7 {
		b.Nodes = append(b.Nodes, tune.Node{ID: name(i)})
		b.Edges = append(b.Edges, depends(name(i), name(i+1)))
		b.Events = append(b.Events, Event{From: name(i)})
		b.Traces = append(b.Traces, tune.Trace{ID: name(i)})
		b.Rollouts = append(b.Rollouts, tune.Rollout{ID: name(i)})
		b.Recommendations = append(b.Recommendations, Advice{Recommendation: tune.Recommendation{ID: name(i)}})
	}
	var back Batch
	for i, p := range b.Split(3) {
		if p.Len() > 3 || p.Len() == 0 {
			t.Errorf("piece %d has %d", i, p.Len())
		}
		back.Nodes, back.Edges, back.Events = append(back.Nodes, p.Nodes...), append(back.Edges, p.Edges...), append(back.Events, p.Events...)
		back.Traces, back.Rollouts = append(back.Traces, p.Traces...), append(back.Rollouts, p.Rollouts...)
		back.Recommendations = append(back.Recommendations, p.Recommendations...)
	}
	if d := cmp.Diff(b, back); d != "" {
		t.Error(d)
	}
	if whole := b.Split(42); len(whole) != 1 {
		t.Errorf("%d pieces of one that fits", len(whole))
	}
}

func TestErrorsQuoteAndShorten(t *testing.T) {
	err := Batch{Nodes: []tune.Node{{ID: strings.Repeat("\x1b[31m", 200)}}}.Check()
	if err == nil || strings.Contains(err.Error(), "\x1b") || len(err.Error()) > 1000 {
		t.Errorf("got %v", err)
	}
}

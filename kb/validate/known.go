package validate

import (
	"fmt"
	"slices"
	"strings"

	"semantos/internal/tune"
)

// Known answers for the data a batch is added to, within the transaction that adds it.
type Known interface {
	// MissingNodes gives those of ids that are not stored, in any order.
	MissingNodes(ids []string) ([]string, error)
	// MissingEdges gives those of keys that are not stored, retired ones counting as stored.
	MissingEdges(keys []EdgeKey) ([]EdgeKey, error)
	// DependsOn gives the ends of the edges depends_on from a node that are not retired.
	DependsOn(id string) ([]string, error)
}

// EdgeKey names an edge.
type EdgeKey struct {
	From string        `json:"from"`
	Type tune.EdgeType `json:"type"`
	To   string        `json:"to"`
}

// CheckAgainst refuses edges whose ends exist neither in the store nor in the batch, events of unknown
// edges, and a batch after which depends_on would run in a circle.
func (b Batch) CheckAgainst(known Known) error {
	if err := b.CheckEnds(known); err != nil {
		return err
	}
	return b.checkCycle(known)
}

// CheckEnds is [Batch.CheckAgainst] without the search for circles, for copies of what another store
// holds already.
func (b Batch) CheckEnds(known Known) error {
	if err := b.checkEnds(known); err != nil {
		return err
	}
	return b.checkEvents(known)
}

func (b Batch) checkEnds(known Known) error {
	if len(b.Edges) == 0 {
		return nil
	}
	have := make(map[string]bool, len(b.Nodes))
	for _, n := range b.Nodes {
		have[n.ID] = true
	}
	asked := map[string]bool{}
	for _, e := range b.Edges {
		for _, end := range []string{e.From, e.To} {
			if !have[end] {
				asked[end] = true
			}
		}
	}
	missing, err := known.MissingNodes(keys(asked))
	if err != nil || len(missing) == 0 {
		return err
	}
	for _, e := range b.Edges {
		for _, end := range []string{e.From, e.To} {
			if slices.Contains(missing, end) {
				return bad("store edge", EdgeName(e.From, e.Type, e.To), tune.ErrUnknown,
					"add the node first, or look for the right name with semantos kb search", "no node is called %q", end)
			}
		}
	}
	return nil
}

func (b Batch) checkEvents(known Known) error {
	if len(b.Events) == 0 {
		return nil
	}
	have := make(map[EdgeKey]bool, len(b.Edges))
	for _, e := range b.Edges {
		have[EdgeKey{e.From, e.Type, e.To}] = true
	}
	var asked []EdgeKey
	for _, e := range b.Events {
		key := EdgeKey{e.From, e.Type, e.To}
		if !have[key] {
			have[key] = true
			asked = append(asked, key)
		}
	}
	missing, err := known.MissingEdges(asked)
	if err != nil || len(missing) == 0 {
		return err
	}
	m := missing[0]
	return bad("store edge event", EdgeName(m.From, m.Type, m.To), tune.ErrUnknown, "add the edge first", "there is no such edge")
}

// checkCycle walks depends_on from where the batch adds some: a new circle must pass through there.
func (b Batch) checkCycle(known Known) error {
	added, dropped := map[string][]string{}, map[string][]string{}
	for _, e := range b.Edges {
		if e.Type != tune.DependsOn {
			continue
		}
		// Of the same key twice in one batch, the last one holds.
		added[e.From] = without(added[e.From], e.To)
		dropped[e.From] = append(dropped[e.From], e.To)
		if !e.Retired {
			added[e.From] = append(added[e.From], e.To)
		}
	}
	w := walk{done: map[string]bool{}, next: func(id string) ([]string, error) {
		stored, err := known.DependsOn(id)
		if err != nil {
			return nil, err
		}
		return append(slices.DeleteFunc(stored, func(to string) bool { return slices.Contains(dropped[id], to) }), added[id]...), nil
	}}
	for _, from := range keys(added) {
		if len(added[from]) == 0 {
			continue
		}
		circle, err := w.from(from)
		if err != nil {
			return err
		}
		if circle != nil {
			return bad("store edge", EdgeName(circle[0], tune.DependsOn, circle[1]), tune.ErrInvariant,
				"leave one of these edges out, or retire it first", "depends_on would run in a circle: %s", route(circle))
		}
	}
	return nil
}

// route writes a circle for people; of a long one both ends.
func route(circle []string) string {
	const shown = 4
	if n := len(circle); n > 2*shown+1 {
		circle = slices.Concat(circle[:shown], []string{fmt.Sprintf("... %d more ...", n-2*shown)}, circle[n-shown:])
	}
	return strings.Join(circle, " > ")
}

func without(all []string, one string) []string {
	return slices.DeleteFunc(all, func(s string) bool { return s == one })
}

func keys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// walk is a depth-first search that visits each node once over all its starts. It keeps its own stack:
// a chain may be as long as the graph.
type walk struct {
	next func(id string) ([]string, error)
	done map[string]bool
}

type step struct {
	id   string
	todo []string
}

// from gives the first circle met, its first node repeated at the end, or nil.
func (w *walk) from(start string) ([]string, error) {
	var stack []step
	onPath := map[string]bool{}
	push := func(id string) error {
		todo, err := w.next(id)
		if err != nil {
			return fmt.Errorf("follow depends_on from %q: %w", id, err)
		}
		onPath[id] = true
		stack = append(stack, step{id, todo})
		return nil
	}
	if w.done[start] {
		return nil, nil
	}
	if err := push(start); err != nil {
		return nil, err
	}
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		if len(top.todo) == 0 {
			w.done[top.id], onPath[top.id] = true, false
			stack = stack[:len(stack)-1]
			continue
		}
		to := top.todo[0]
		top.todo = top.todo[1:]
		if onPath[to] {
			return circle(stack, to), nil
		}
		if !w.done[to] {
			if err := push(to); err != nil {
				return nil, err
			}
		}
	}
	return nil, nil
}

func circle(stack []step, to string) []string {
	var out []string
	for _, s := range stack {
		if s.id == to || len(out) > 0 {
			out = append(out, s.id)
		}
	}
	return append(out, to)
}

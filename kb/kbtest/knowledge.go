package kbtest

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"semantos/internal/tune"
	"semantos/kb/validate"
)

func graph(t *testing.T, open opener) {
	s, reopen := open(t)
	ctx := t.Context()
	if nodes, err := s.Nodes(ctx); err != nil || len(nodes) != 0 {
		t.Errorf("an empty store has %v, %v", nodes, err)
	}
	must(t, s.UpsertNodes(ctx, nil))
	must(t, s.UpsertNodes(ctx, []tune.Node{Node("b"), Node("a"), {ID: "workload:oltp", Kind: tune.NodeWorkload}}))
	plain := tune.Edge{From: "b", Type: tune.Affects, To: "a", Sign: -1, Source: "x"}
	ab, conflict := Edge("a", tune.DependsOn, "b", 0.1+0.2), Edge("a", tune.ConflictsWith, "b", 1)
	must(t, s.UpsertEdges(ctx, []tune.Edge{plain, ab, conflict, Edge("a", tune.Affects, "workload:oltp", 0.5)}))
	again := Node("a")
	again.Summary = "said better"
	must(t, s.UpsertNodes(ctx, []tune.Node{again}))
	conflict.Retired, conflict.Documented = true, true
	must(t, s.UpsertEdges(ctx, []tune.Edge{conflict}))
	must(t, s.Close())
	s = reopen()
	defer s.Close()
	nodes, err := s.Nodes(ctx)
	must(t, err)
	same(t, "nodes", []tune.Node{again, Node("b"), {ID: "workload:oltp", Kind: tune.NodeWorkload}}, nodes)
	edges, err := s.Edges(ctx)
	must(t, err)
	same(t, "edges", []tune.Edge{Edge("a", tune.Affects, "workload:oltp", 0.5), conflict, ab, plain}, edges)
	one, err := s.Node(ctx, "a")
	must(t, err)
	same(t, "node", again, one)
	for _, id := range []string{"", "c", "A", "a ", "' OR 1=1 --", "\x00"} {
		if _, err := s.Node(ctx, id); !errors.Is(err, tune.ErrUnknown) || tune.Hint(err) == "" {
			t.Errorf("node %q: %v", id, err)
		}
	}
}

func graphVersion(t *testing.T, open opener) {
	s, reopen := open(t)
	ctx := t.Context()
	last, err := s.GraphVersion(ctx)
	must(t, err)
	step := func(what string, grows bool, err error) {
		t.Helper()
		must(t, err)
		now, err := s.GraphVersion(ctx)
		must(t, err)
		if grows != (now > last) || now < last {
			t.Errorf("%s: from %d to %d", what, last, now)
		}
		last = now
	}
	a, edge := Node("a"), Edge("a", tune.DependsOn, "b", 0.5)
	step("new nodes", true, s.UpsertNodes(ctx, []tune.Node{a, Node("b")}))
	step("the same node", false, s.UpsertNodes(ctx, []tune.Node{a}))
	a.Summary = "other"
	step("a changed node", true, s.UpsertNodes(ctx, []tune.Node{a}))
	step("a new edge", true, s.UpsertEdges(ctx, []tune.Edge{edge}))
	step("the same edge", false, s.UpsertEdges(ctx, []tune.Edge{edge}))
	edge.Retired = true
	step("a retired edge", true, s.UpsertEdges(ctx, []tune.Edge{edge}))
	step("a trace", false, s.SaveTrace(ctx, Trace(1)))
	step("an event", false, s.AppendEdgeEvent(ctx, "a", tune.DependsOn, "b", EdgeEvent(1)))
	must(t, s.Close())
	s = reopen()
	defer s.Close()
	step("reopening", false, nil)
	step("a new node after it", true, s.UpsertNodes(ctx, []tune.Node{Node("c")}))
}

func edgeHistory(t *testing.T, open opener) {
	s, reopen := open(t)
	ctx := t.Context()
	must(t, s.UpsertNodes(ctx, []tune.Node{Node("a"), Node("b")}))
	must(t, s.UpsertEdges(ctx, []tune.Edge{Edge("a", tune.DependsOn, "b", 1), Edge("b", tune.Affects, "a", 1)}))
	add := func(e tune.EdgeEvent) { t.Helper(); must(t, s.AppendEdgeEvent(ctx, "a", tune.DependsOn, "b", e)) }
	twin := EdgeEvent(2)
	twin.Why = "a second one at the same instant"
	add(EdgeEvent(2))
	add(twin)
	add(EdgeEvent(1))
	add(EdgeEvent(2)) // the very same again
	must(t, s.AppendEdgeEvent(ctx, "b", tune.Affects, "a", EdgeEvent(3)))
	must(t, s.Close())
	s = reopen()
	defer s.Close()
	got, err := s.EdgeHistory(ctx, "a", tune.DependsOn, "b")
	must(t, err)
	same(t, "oldest first, arrival within an instant", []tune.EdgeEvent{EdgeEvent(1), EdgeEvent(2), twin}, got)
	got, err = s.EdgeHistory(ctx, "b", tune.DependsOn, "a")
	must(t, err)
	same(t, "of no edge", []tune.EdgeEvent{}, got)
	var all []string
	must(t, s.EachEdgeEvent(ctx, func(e validate.Event) error { all = append(all, e.From+e.Event.Why[:1]); return nil }))
	same(t, "all", []string{"ap", "ap", "aa", "bp"}, all)
}

func traces(t *testing.T, open opener) {
	s, reopen := open(t)
	ctx := t.Context()
	bare := tune.Trace{ID: "bare", Time: start.Add(-time.Hour)}
	for _, tr := range []tune.Trace{Trace(2), bare, Trace(1), Trace(2)} {
		must(t, s.SaveTrace(ctx, tr))
	}
	twin := Trace(1)
	twin.ID = "zz"
	must(t, s.SaveTrace(ctx, twin))
	changed := Trace(2)
	changed.Reason = "said again"
	must(t, s.SaveTrace(ctx, changed))
	must(t, s.Close())
	s = reopen()
	defer s.Close()
	all, err := s.Traces(ctx, 0)
	must(t, err)
	same(t, "newest first", []tune.Trace{changed, twin, Trace(1), bare}, all)
	two, err := s.Traces(ctx, 2)
	must(t, err)
	same(t, "limited", all[:2], two)
	var walked []tune.Trace
	must(t, s.EachTrace(ctx, func(tr tune.Trace) error { walked = append(walked, tr); return nil }))
	same(t, "walked", all, walked)
	stop, calls := errors.New("enough"), 0
	if err := s.EachTrace(ctx, func(tune.Trace) error { calls++; return stop }); !errors.Is(err, stop) || calls != 1 {
		t.Errorf("a walk that was stopped: %v after %d", err, calls)
	}
	one, err := s.Trace(ctx, "zz")
	must(t, err)
	same(t, "one", twin, one)
	if _, err := s.Trace(ctx, "zzz"); !errors.Is(err, tune.ErrUnknown) || tune.Hint(err) == "" {
		t.Errorf("unknown trace: %v", err)
	}
}

// Names are what somebody might call a thing to have it run.
func Names() []string {
	return []string{
		"'; DROP TABLE node; --", `"}) DETACH DELETE n //`, "`) MATCH (n) DETACH DELETE n //", "$id", "{id: 1}", `\`, `\'`, "%s%d",
		"net.ipv4.tcp_rmem", "block/vda/queue/read_ahead_kb", "größe", "名前", "é", "e\u0301", "🐧", " ", "a b", "NULL", "A", "a",
		strings.Repeat("x", validate.MaxID), "\u202eevil", "\ufeff",
	}
}

func namesAreData(t *testing.T, open opener) {
	s, reopen := open(t)
	ctx := t.Context()
	names := Names()
	var b validate.Batch
	for i, n := range names {
		b.Nodes = append(b.Nodes, tune.Node{ID: n, Kind: tune.NodeFact, Summary: n, Source: n})
		e := Edge(n, tune.Affects, names[(i+1)%len(names)], 0.5)
		e.Why, e.Source = n, n
		tr := Trace(i)
		tr.ID, tr.Text = n, n
		b.Edges, b.Traces = append(b.Edges, e), append(b.Traces, tr)
		b.Events = append(b.Events, validate.Event{From: e.From, Type: e.Type, To: e.To, Event: tune.EdgeEvent{At: start, Trace: n, Why: n}})
	}
	must(t, s.Apply(ctx, b))
	must(t, s.Close())
	s = reopen()
	defer s.Close()
	for i, n := range names {
		node, err := s.Node(ctx, n)
		must(t, err)
		same(t, n, b.Nodes[i], node)
		tr, err := s.Trace(ctx, n)
		must(t, err)
		same(t, n, b.Traces[i], tr)
		history, err := s.EdgeHistory(ctx, n, tune.Affects, names[(i+1)%len(names)])
		must(t, err)
		same(t, n, []tune.EdgeEvent{b.Events[i].Event}, history)
	}
	nodes, err := s.Nodes(ctx)
	must(t, err)
	edges, err := s.Edges(ctx)
	must(t, err)
	slices.SortFunc(b.Nodes, func(a, b tune.Node) int { return strings.Compare(a.ID, b.ID) })
	slices.SortFunc(b.Edges, func(a, b tune.Edge) int { return strings.Compare(a.From, b.From) })
	same(t, "nodes, sorted by bytes", b.Nodes, nodes)
	same(t, "edges, sorted by bytes", b.Edges, edges)
}

// refused is one batch no store takes.
type refused struct {
	batch validate.Batch
	is    error
	says  string
}

func refusedBatches() map[string]refused {
	nodes := func(id string, kind tune.NodeKind) validate.Batch {
		return validate.Batch{Nodes: []tune.Node{Node("fine"), {ID: id, Kind: kind}}}
	}
	edge := func(change func(*tune.Edge)) validate.Batch {
		e := Edge("a", tune.Affects, "b", 0.5)
		change(&e)
		return validate.Batch{Nodes: []tune.Node{Node("fine")}, Edges: []tune.Edge{Edge("fine", tune.Affects, "a", 1), e}}
	}
	trace := func(change func(*tune.Trace)) validate.Batch {
		tr := Trace(1)
		change(&tr)
		return validate.Batch{Nodes: []tune.Node{Node("fine")}, Traces: []tune.Trace{tr}}
	}
	event := func(change func(*tune.EdgeEvent)) validate.Batch {
		e := EdgeEvent(1)
		change(&e)
		return validate.Batch{Nodes: []tune.Node{Node("fine")}, Events: []validate.Event{{From: "a", Type: tune.DependsOn, To: "b", Event: e}}}
	}
	depends := func(pairs ...string) (b validate.Batch) {
		for _, p := range pairs {
			b.Edges = append(b.Edges, Edge(p[:1], tune.DependsOn, p[1:], 0.5))
		}
		return b
	}
	rollout := Rollout(Recommendation("a", "1"), start, tune.Committed, "")
	rollout.Effect = &tune.Effect{Ratio: math.NaN()}
	return map[string]refused{
		"empty id":            {nodes("", tune.NodeTunable), tune.ErrUsage, "no id"},
		"long id":             {nodes(strings.Repeat("x", 513), tune.NodeTunable), tune.ErrUsage, "513 bytes"},
		"newline in id":       {nodes("a\nb", tune.NodeTunable), tune.ErrUsage, "U+000A"},
		"NUL in id":           {nodes("a\x00", tune.NodeTunable), tune.ErrUsage, "U+0000"},
		"id that is no UTF-8": {nodes("a\xff", tune.NodeTunable), tune.ErrUsage, "UTF-8"},
		"unknown kind":        {nodes("x", "gizmo"), tune.ErrUnknown, "gizmo"},
		"weight above 1":      {edge(func(e *tune.Edge) { e.Weight = 1.01 }), tune.ErrOutOfRange, "1.01"},
		"weight below 0":      {edge(func(e *tune.Edge) { e.Weight = -0.1 }), tune.ErrOutOfRange, "-0.1"},
		"weight NaN":          {edge(func(e *tune.Edge) { e.Weight = math.NaN() }), tune.ErrOutOfRange, "NaN"},
		"seed NaN":            {edge(func(e *tune.Edge) { e.Seed = math.NaN() }), tune.ErrOutOfRange, "seed"},
		"evidence infinite":   {edge(func(e *tune.Edge) { e.Evidence = math.Inf(1) }), tune.ErrOutOfRange, "evidence"},
		"sign 0":              {edge(func(e *tune.Edge) { e.Sign = 0 }), tune.ErrOutOfRange, "sign is 0"},
		"sign 2":              {edge(func(e *tune.Edge) { e.Sign = 2 }), tune.ErrOutOfRange, "sign is 2"},
		"self-loop":           {edge(func(e *tune.Edge) { e.To = "a" }), tune.ErrInvariant, "itself"},
		"unknown type":        {edge(func(e *tune.Edge) { e.Type = "likes" }), tune.ErrUnknown, "likes"},
		"unknown end":         {edge(func(e *tune.Edge) { e.To = "nowhere" }), tune.ErrUnknown, "nowhere"},
		"year 9999":           {edge(func(e *tune.Edge) { e.Updated = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC) }), tune.ErrOutOfRange, "9999"},
		"cycle of two":        {depends("ba"), tune.ErrInvariant, "b > a > b"},
		"cycle through store": {depends("bc", "ca"), tune.ErrInvariant, "b > c > a > b"},
		"cycle in batch":      {depends("cd", "dc"), tune.ErrInvariant, "c > d > c"},
		"event of no edge":    {validate.Batch{Events: []validate.Event{{From: "b", Type: tune.DependsOn, To: "a", Event: EdgeEvent(1)}}}, tune.ErrUnknown, "no such edge"},
		"event NaN":           {event(func(e *tune.EdgeEvent) { e.Observed = math.NaN() }), tune.ErrOutOfRange, "NaN"},
		"event without time":  {event(func(e *tune.EdgeEvent) { e.At = time.Time{} }), tune.ErrOutOfRange, "time"},
		"trace NaN":           {trace(func(t *tune.Trace) { t.Before["x"] = math.NaN() }), tune.ErrType, "NaN"},
		"trace infinite":      {trace(func(t *tune.Trace) { t.Facts.Num["x"] = math.Inf(-1) }), tune.ErrType, "Inf"},
		"trace effect NaN":    {trace(func(t *tune.Trace) { t.Effect.Ratio = math.NaN() }), tune.ErrType, "NaN"},
		"trace without time":  {trace(func(t *tune.Trace) { t.Time = time.Time{} }), tune.ErrOutOfRange, "time"},
		"trace without id":    {trace(func(t *tune.Trace) { t.ID = "" }), tune.ErrUsage, "no id"},
		"trace too big":       {trace(func(t *tune.Trace) { t.Text = strings.Repeat("x", validate.MaxBody) }), tune.ErrOutOfRange, "bytes"},
		"rollout NaN":         {validate.Batch{Nodes: []tune.Node{Node("fine")}, Rollouts: []tune.Rollout{rollout}}, tune.ErrType, "NaN"},
	}
}

func refusals(t *testing.T, open opener) {
	s, _ := open(t)
	defer s.Close()
	ctx := t.Context()
	must(t, s.UpsertNodes(ctx, []tune.Node{Node("a"), Node("b"), Node("c"), Node("d")}))
	must(t, s.UpsertEdges(ctx, []tune.Edge{Edge("a", tune.DependsOn, "b", 0.5)}))
	before := count(t, s)
	for name, tc := range refusedBatches() {
		err := s.Apply(ctx, tc.batch)
		var known *tune.Error
		if !errors.Is(err, tc.is) || !errors.As(err, &known) || tune.Hint(err) == "" || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: got %v (hint %q)", name, err, tune.Hint(err))
		}
		if strings.ContainsAny(err.Error(), "\n\x00") {
			t.Errorf("%s: control characters in %q", name, err)
		}
	}
	same(t, "nothing was stored", before, count(t, s))
	// What breaks the circle, or retires the edge that closes it, is no circle.
	ab := Edge("a", tune.DependsOn, "b", 0.5)
	ab.Retired = true
	must(t, s.UpsertEdges(ctx, []tune.Edge{ab, Edge("b", tune.DependsOn, "a", 0.5)}))
}

func count(t *testing.T, s Store) map[string]int {
	t.Helper()
	n := map[string]int{}
	ctx := t.Context()
	nodes, err := s.Nodes(ctx)
	must(t, err)
	edges, err := s.Edges(ctx)
	must(t, err)
	traces, err := s.Traces(ctx, 0)
	must(t, err)
	rollouts, err := s.Rollouts(ctx, 0)
	must(t, err)
	must(t, s.EachEdgeEvent(ctx, func(validate.Event) error { n["events"]++; return nil }))
	must(t, s.EachRecommendation(ctx, func(validate.Advice) error { n["recommendations"]++; return nil }))
	n["nodes"], n["edges"], n["traces"], n["rollouts"] = len(nodes), len(edges), len(traces), len(rollouts)
	return n
}

func allOrNothing(t *testing.T, open opener) {
	s, _ := open(t)
	defer s.Close()
	bad := Batch(1)
	bad.Recommendations[0].Recommendation.Score = math.Inf(1)
	if err := s.Apply(t.Context(), bad); !errors.Is(err, tune.ErrType) {
		t.Errorf("got %v", err)
	}
	same(t, "after a refusal", map[string]int{"nodes": 0, "edges": 0, "traces": 0, "rollouts": 0}, count(t, s))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Apply(ctx, Batch(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	same(t, "after a cancel", map[string]int{"nodes": 0, "edges": 0, "traces": 0, "rollouts": 0}, count(t, s))
}

func whole(t *testing.T, open opener) {
	s, reopen := open(t)
	ctx := t.Context()
	must(t, s.Apply(ctx, Batch(1)))
	must(t, s.Apply(ctx, Batch(2)))
	must(t, s.Apply(ctx, Batch(1)))
	must(t, s.Close())
	s = reopen()
	defer s.Close()
	same(t, "each once", map[string]int{"nodes": 6, "edges": 4, "events": 6, "traces": 2, "rollouts": 2, "recommendations": 2}, count(t, s))
	old := Recommendation("old", "7")
	must(t, s.SaveRecommendations(ctx, []tune.Recommendation{old}, start.Add(-time.Hour)))
	must(t, s.SaveRecommendations(ctx, nil, start.Add(90*24*time.Hour-time.Minute)))
	if _, _, err := s.Recommendation(ctx, old.ID); !errors.Is(err, tune.ErrUnknown) {
		t.Errorf("advice of more than 90 days ago: %v", err)
	}
	var ids []string
	must(t, s.EachRecommendation(ctx, func(a validate.Advice) error { ids = append(ids, a.Recommendation.ID); return nil }))
	if len(ids) != 2 || !slices.IsSorted(ids) {
		t.Errorf("recommendations %v", ids)
	}
}

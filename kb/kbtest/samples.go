package kbtest

import (
	"fmt"
	"time"

	"semantos/internal/tune"
	"semantos/kb/validate"
)

// Node makes a tunable of that id.
func Node(id string) tune.Node {
	return tune.Node{ID: id, Kind: tune.NodeTunable, Summary: "what " + id + " does", Source: "kernel documentation"}
}

// Edge makes a complete one with the weight given.
func Edge(from string, typ tune.EdgeType, to string, weight float64) tune.Edge {
	return tune.Edge{From: from, Type: typ, To: to, Sign: 1, Weight: weight, Seed: 0.5, Evidence: 2.25, Learned: 0.7,
		Why: "they share a queue", Source: "ip-sysctl", Updated: start}
}

// EdgeEvent makes one of minute n.
func EdgeEvent(n int) tune.EdgeEvent {
	return tune.EdgeEvent{At: start.Add(time.Duration(n) * time.Minute), Trace: fmt.Sprint("trace-", n), Observed: 1,
		Count: 0.5, Weight: 0.1 + 0.2, Evidence: float64(n), Why: "p95 fell by 40 %"}
}

// Trace makes a complete one of minute n.
func Trace(n int) tune.Trace {
	rec := Recommendation("accept_queue", fmt.Sprint(1024+n))
	return tune.Trace{
		ID: fmt.Sprintf("trace-%06d", n), Time: start.Add(time.Duration(n) * time.Minute), Actor: "uid 0", BootID: "b",
		Facts:    tune.Facts{Num: map[string]float64{"cpus": 2, "mem_bytes": 8 << 30}, Text: map[string]string{"kernel": "6.1"}},
		Workload: "workload:web", Symptoms: []string{"accept_queue"},
		Before: map[string]float64{"tcp.listen_overflows": 120.5}, After: map[string]float64{"tcp.listen_overflows": 0},
		Changes: rec.Changes, Effect: &tune.Effect{Metric: "p95_ms", Better: "lower", Ratio: 0.4, Low: 0.3, High: 0.5},
		Verdict: tune.Pass, State: tune.Committed, Reason: tune.ReasonBetter, U: 0.31, Text: `accept queue of "nginx" overflows – 3×`,
	}
}

// Batch makes one that holds something of every kind; n keeps the ids of two batches apart.
func Batch(n int) validate.Batch {
	id := func(s string) string { return fmt.Sprint(s, n) }
	rec := Recommendation("accept_queue", fmt.Sprint(n))
	return validate.Batch{
		Nodes: []tune.Node{Node(id("b")), Node(id("a")), {ID: id("s"), Kind: tune.NodeSymptom}},
		Edges: []tune.Edge{Edge(id("s"), tune.Relieves, id("a"), 1), Edge(id("a"), tune.DependsOn, id("b"), 0.25)},
		Events: []validate.Event{
			{From: id("s"), Type: tune.Relieves, To: id("a"), Event: EdgeEvent(n + 1)},
			{From: id("s"), Type: tune.Relieves, To: id("a"), Event: EdgeEvent(n)},
			{From: id("a"), Type: tune.DependsOn, To: id("b"), Event: EdgeEvent(n)}},
		Traces:          []tune.Trace{Trace(n)},
		Rollouts:        []tune.Rollout{Rollout(rec, start.Add(time.Duration(n)*time.Second), tune.Committed, tune.ReasonBetter)},
		Recommendations: []validate.Advice{{At: start.Add(time.Duration(n)), Recommendation: rec}},
	}
}

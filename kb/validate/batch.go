package validate

import (
	"time"

	"semantos/internal/tune"
)

// Batch is one write to a store: all of it is stored or nothing. Nodes are stored before the edges that
// name them, edges before their events. The JSON form is what an outbox keeps; it is not the export format.
type Batch struct {
	Nodes           []tune.Node    `json:"nodes,omitempty"`
	Edges           []tune.Edge    `json:"edges,omitempty"`
	Events          []Event        `json:"events,omitempty"`
	Traces          []tune.Trace   `json:"traces,omitempty"`
	Rollouts        []tune.Rollout `json:"rollouts,omitempty"`
	Recommendations []Advice       `json:"recommendations,omitempty"`
	// AdviceBefore forgets recommendations that were last given earlier; zero forgets none.
	AdviceBefore time.Time `json:"advice_before,omitzero"`
}

// Event is one line of the history of the edge that From, Type and To name.
type Event struct {
	From  string         `json:"from"`
	Type  tune.EdgeType  `json:"type"`
	To    string         `json:"to"`
	Event tune.EdgeEvent `json:"event"`
}

// Advice is a recommendation and when it was given last.
type Advice struct {
	At             time.Time           `json:"at"`
	Recommendation tune.Recommendation `json:"recommendation"`
}

// Len counts the things in the batch.
func (b Batch) Len() int {
	return len(b.Nodes) + len(b.Edges) + len(b.Events) + len(b.Traces) + len(b.Rollouts) + len(b.Recommendations)
}

// Empty reports whether storing the batch would do nothing.
func (b Batch) Empty() bool { return b.Len() == 0 && b.AdviceBefore.IsZero() }

// Split cuts the batch into pieces of at most n things each, in an order in which each piece can be
// stored after the ones before it. For one that fits, it is the batch itself.
func (b Batch) Split(n int) []Batch {
	if b.Len() <= n {
		return []Batch{b}
	}
	var out []Batch
	pieces(b.Nodes, n, func(p []tune.Node) { out = append(out, Batch{Nodes: p}) })
	pieces(b.Edges, n, func(p []tune.Edge) { out = append(out, Batch{Edges: p}) })
	pieces(b.Events, n, func(p []Event) { out = append(out, Batch{Events: p}) })
	pieces(b.Traces, n, func(p []tune.Trace) { out = append(out, Batch{Traces: p}) })
	pieces(b.Rollouts, n, func(p []tune.Rollout) { out = append(out, Batch{Rollouts: p}) })
	pieces(b.Recommendations, n, func(p []Advice) { out = append(out, Batch{Recommendations: p}) })
	if !b.AdviceBefore.IsZero() {
		out = append(out, Batch{AdviceBefore: b.AdviceBefore})
	}
	return out
}

func pieces[T any](all []T, n int, emit func([]T)) {
	for len(all) > 0 {
		k := min(n, len(all))
		emit(all[:k:k])
		all = all[k:]
	}
}

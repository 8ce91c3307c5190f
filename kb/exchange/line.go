package exchange

import (
	"time"

	"semantos/internal/tune"
	"semantos/kb/validate"
)

// Version is what the header says; a file of another version is refused.
const Version = 1

// Format is the header's name of it.
const Format = "semantos-knowledge"

// MaxLine bounds one line in bytes, with room beside validate.MaxBody for what stands around a document.
const MaxLine = validate.MaxBody + 64<<10

// kind says what a line holds.
type kind string

// The kinds in the order in which they stand in a file.
const (
	kindNode           kind = "node"
	kindEdge           kind = "edge"
	kindEvent          kind = "edge_event"
	kindTrace          kind = "trace"
	kindRollout        kind = "rollout"
	kindRecommendation kind = "recommendation"
	kindEnd            kind = "end"
)

type header struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
}

// line is one thing: the member named like its kind is there, the others are not.
type line struct {
	Kind           kind                 `json:"kind"`
	Node           *tune.Node           `json:"node,omitempty"`
	Edge           *tune.Edge           `json:"edge,omitempty"`
	Event          *validate.Event      `json:"edge_event,omitempty"`
	Trace          *tune.Trace          `json:"trace,omitempty"`
	Rollout        *tune.Rollout        `json:"rollout,omitempty"`
	At             *time.Time           `json:"at,omitempty"` // of a recommendation: when it was given last
	Recommendation *tune.Recommendation `json:"recommendation,omitempty"`
	Lines          *int                 `json:"lines,omitempty"` // of the end: how many things there were
}

// Counts is what a file held.
type Counts struct {
	Nodes           int `json:"nodes"`
	Edges           int `json:"edges"`
	EdgeEvents      int `json:"edge_events"`
	Traces          int `json:"traces"`
	Rollouts        int `json:"rollouts"`
	Recommendations int `json:"recommendations"`
}

func countsOf(b validate.Batch) Counts {
	return Counts{Nodes: len(b.Nodes), Edges: len(b.Edges), EdgeEvents: len(b.Events), Traces: len(b.Traces),
		Rollouts: len(b.Rollouts), Recommendations: len(b.Recommendations)}
}

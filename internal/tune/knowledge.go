package tune

import "time"

// NodeKind is what a node of the knowledge graph stands for.
type NodeKind string

// The kinds of nodes. Goal and fact are the ends of hints ("goal:latency", "fact:swap").
const (
	NodeTunable   NodeKind = "tunable"
	NodeSymptom   NodeKind = "symptom"
	NodeSignal    NodeKind = "signal"
	NodeSubsystem NodeKind = "subsystem"
	NodeWorkload  NodeKind = "workload"
	NodeGoal      NodeKind = "goal"
	NodeFact      NodeKind = "fact"
)

// Node is one thing the graph knows. ID is unique over all kinds: a tunable's catalogue name, a
// symptom's or signal's name, or a word with a colon ("workload:oltp", "subsystem:net").
type Node struct {
	ID      string   `json:"id"`
	Kind    NodeKind `json:"kind"`
	Summary string   `json:"summary,omitempty"`
	Source  string   `json:"source,omitempty"`
}

// EdgeType is what one thing is to another.
type EdgeType string

// The types of edges: three between tunables, relieves from symptom to tunable, affects from tunable to
// signal or hint, part_of from tunable to subsystem, typical_of from symptom to workload.
const (
	DependsOn      EdgeType = "depends_on"
	ConflictsWith  EdgeType = "conflicts_with"
	SynergizesWith EdgeType = "synergizes_with"
	Relieves       EdgeType = "relieves"
	Affects        EdgeType = "affects"
	PartOf         EdgeType = "part_of"
	TypicalOf      EdgeType = "typical_of"
)

// Edge is one directed, signed, weighted relation. (From, Type, To) is its key.
//
// Seed is the weight the catalogue or a person gave, in [0,1]; Evidence the number of observations
// behind Learned, their mean in [0,1], both as of Updated. Weight is what holds when the edge is read:
// evidence decays by 0.98 a day towards the seed, a documented edge never does.
type Edge struct {
	From       string    `json:"from"`
	Type       EdgeType  `json:"type"`
	To         string    `json:"to"`
	Sign       int       `json:"sign"`   // +1 or -1
	Weight     float64   `json:"weight"` // in [0,1], as of the reading
	Seed       float64   `json:"seed"`
	Evidence   float64   `json:"evidence"`
	Learned    float64   `json:"learned,omitempty"`
	Documented bool      `json:"documented"` // a kernel document is behind it: never decays, vetoes
	Retired    bool      `json:"retired,omitempty"`
	Why        string    `json:"why,omitempty"`
	Source     string    `json:"source"`
	Updated    time.Time `json:"updated,omitzero"`
}

// EdgeEvent is one line of an edge's history: what was observed and what the edge became.
type EdgeEvent struct {
	At       time.Time `json:"at"`
	Trace    string    `json:"trace,omitempty"` // the outcome behind it
	Observed float64   `json:"observed"`        // in [0,1]
	Count    float64   `json:"count"`           // how much it counts
	Weight   float64   `json:"weight"`          // after it
	Evidence float64   `json:"evidence"`        // after it
	Why      string    `json:"why"`
}

// Trace is one past outcome: context, action, effect. Time is when it ended. Before and After are host
// signals around it; a missing signal is absent. Vector is the embedding of its text, of the embedder
// named; it is rebuilt, never exported.
type Trace struct {
	ID       string             `json:"id"` // the rollout's id, or one given from outside
	Time     time.Time          `json:"time"`
	Actor    string             `json:"actor"`
	BootID   string             `json:"boot_id,omitempty"`
	Facts    Facts              `json:"facts"`
	Workload string             `json:"workload,omitempty"` // the recognised kind, "" when unknown
	Symptoms []string           `json:"symptoms"`
	Before   map[string]float64 `json:"before"`
	After    map[string]float64 `json:"after"`
	Changes  []Change           `json:"changes"`
	Effect   *Effect            `json:"effect"` // null: nothing was measured
	Verdict  Verdict            `json:"verdict"`
	State    State              `json:"state"`
	Reason   string             `json:"reason"`
	U        float64            `json:"uncertainty"`
	Text     string             `json:"text"` // what keyword and vector search see
}

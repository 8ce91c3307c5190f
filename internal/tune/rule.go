package tune

// Rule is one symptom of kb/rules/*.yaml and what relieves it; expressions are CEL, compiled by reasoner.
//
// Variables: s (host signals), e (the entity's), label (its labels), facts, text; functions cur(name),
// cur(name, element), curtext(name), dflt(name), dflt(name, element), min, max, clamp, pow2, roundto.
// A missing signal makes the expression "no data": the symptom is neither present nor absent.
type Rule struct {
	Name      string   `json:"name"`
	Resource  string   `json:"resource"`
	For       string   `json:"for,omitempty"` // entity kind, "" for the host
	When      string   `json:"when"`          // bool
	Severity  string   `json:"severity"`      // number, clamped to (0,1]
	Says      string   `json:"says"`          // sentence; {expression} or {label.comm} or {s.name|unit}
	Show      []string `json:"show"`          // signals printed as evidence
	Measure   Measure  `json:"measure"`
	Relief    []Relief `json:"relieved_by"`
	Source    string   `json:"source"`
	TestCases []Case   `json:"tests"`
	Pos       Pos      `json:"-"`
}

// Relief is one bundle that relieves a symptom.
type Relief struct {
	Changes    []ReliefChange `json:"changes"`
	When       string         `json:"when,omitempty"` // extra condition
	Why        string         `json:"why"`            // sentence
	Expect     string         `json:"expect"`         // sentence
	Confidence float64        `json:"confidence"`     // [0,1], of the knowledge
	Weight     float64        `json:"weight"`         // [0,1], rank among the symptom's reliefs
}

// ReliefChange proposes a value. Op says which current values it improves: "raise" (proposed must be
// above current), "lower", or "set" (must differ).
type ReliefChange struct {
	Tunable  string `json:"tunable"` // catalogue name (template where templated)
	Op       string `json:"op"`
	Value    string `json:"value"` // CEL: number, text, or list; an element may be cur(name, i) to keep it
	When     string `json:"when,omitempty"`
	Optional bool   `json:"optional,omitempty"` // the bundle stands without it when absent or unwritable
}

// Case is a rule's test vector.
type Case struct {
	Name     string             `json:"name"`
	Signals  map[string]float64 `json:"s,omitempty"`
	Entity   map[string]float64 `json:"e,omitempty"`
	Labels   map[string]string  `json:"label,omitempty"`
	Facts    map[string]float64 `json:"facts,omitempty"`
	Current  map[string]string  `json:"current,omitempty"`
	Expect   string             `json:"expect"`             // present, absent, no_data
	Proposes map[string]string  `json:"proposes,omitempty"` // tunable -> value in the first bundle
}

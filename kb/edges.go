package kb

import (
	"cmp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"semantos/internal/tune"
)

// EdgeType is what one thing is to another.
type EdgeType string

// The types the catalogue seeds. Relieves comes from rules, and is not among them.
const (
	DependsOn      EdgeType = "depends_on"
	ConflictsWith  EdgeType = "conflicts_with"
	SynergizesWith EdgeType = "synergizes_with"
	AffectsSignal  EdgeType = "affects"
)

// Edge is one seeded relation. From is a tunable; To is a tunable, a signal, or what a word with a
// colon names ("goal:latency", "workload:oltp", "fact:swap").
type Edge struct {
	From   string   `json:"from"`
	Type   EdgeType `json:"type"`
	To     string   `json:"to"`
	Sign   int      `json:"sign"`
	Weight float64  `json:"weight"` // prior in [0,1]
	Why    string   `json:"why,omitempty"`
	Source string   `json:"source"` // the document behind it; such edges never decay
}

// Priors of relations an entry lists without a weight of their own.
const (
	priorDepends    = 0.8
	priorConflict   = 0.6
	priorSynergy    = 0.5
	separatorOfKind = ":"
)

func (l *loader) readEdges(d *document, broken map[string]bool) {
	for _, n := range items(d.root, "edges") {
		if n.Kind != yaml.MappingNode || broken[""] {
			continue
		}
		e := Edge{
			From: scalar(n, "from"), Type: EdgeType(scalar(n, "type")), To: scalar(n, "to"),
			Sign: int(number(n, "sign")), Weight: number(n, "weight"), Why: scalar(n, "why"), Source: scalar(n, "source"),
		}
		for _, field := range []string{"from", "to"} {
			l.pending(d, n, field)
		}
		l.edges = append(l.edges, e)
	}
}

// pending remembers an end of an edge until every file is read.
func (l *loader) pending(d *document, n *yaml.Node, field string) {
	l.ends = append(l.ends, edgeEnd{doc: d, node: n, field: field})
}

type edgeEnd struct {
	doc   *document
	node  *yaml.Node
	field string
}

func (l *loader) checkEdges(known func(string) (*tune.Tunable, bool)) {
	for _, e := range l.ends {
		name := scalar(e.node, e.field)
		if e.field == "to" && strings.Contains(name, separatorOfKind) {
			continue
		}
		if _, ok := known(name); !ok {
			l.fail(e.doc, e.node, e.field, tune.ErrUnknown, "no tunable is called %q", name)
		}
	}
}

// gatherEdges joins the relations of the entries with the weighted ones of the files; a weighted edge
// replaces the same relation an entry lists.
func gatherEdges(entries []*item, weighted []Edge) []Edge {
	type key struct {
		from string
		kind EdgeType
		to   string
	}
	byKey := map[key]Edge{}
	put := func(e Edge) { byKey[key{e.From, e.Type, e.To}] = e }
	for _, it := range entries {
		list := func(kind EdgeType, names []string, sign int, prior float64) {
			for _, n := range names {
				put(Edge{From: it.Name, Type: kind, To: n, Sign: sign, Weight: prior, Source: it.Source})
			}
		}
		list(DependsOn, it.DependsOn, 1, priorDepends)
		list(ConflictsWith, it.Conflicts, -1, priorConflict)
		list(SynergizesWith, it.Synergizes, 1, priorSynergy)
		for _, a := range it.Affects {
			put(Edge{From: it.Name, Type: AffectsSignal, To: a.Signal, Sign: a.Sign, Weight: a.Weight, Source: it.Source})
		}
	}
	for _, e := range weighted {
		put(e)
	}
	out := make([]Edge, 0, len(byKey))
	for _, e := range byKey {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b Edge) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.Type, b.Type), cmp.Compare(a.To, b.To))
	})
	return out
}

// Edges gives the seeded graph: relations between tunables and from tunables to signals, sorted.
func (c *Catalogue) Edges() []Edge { return slices.Clone(c.edges) }

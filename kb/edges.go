package kb

import (
	"cmp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"semantos/internal/tune"
)

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
		e := seeded(scalar(n, "from"), tune.EdgeType(scalar(n, "type")), scalar(n, "to"), int(number(n, "sign")),
			number(n, "weight"), scalar(n, "source"))
		e.Why = scalar(n, "why")
		for _, field := range []string{"from", "to"} {
			l.pending(d, n, field)
		}
		l.edges = append(l.edges, e)
	}
}

// seeded makes an edge as it is before anything was learned. What the kernel's own documents or manual
// pages say never decays.
func seeded(from string, kind tune.EdgeType, to string, sign int, weight float64, source string) tune.Edge {
	return tune.Edge{From: from, Type: kind, To: to, Sign: sign, Weight: weight, Seed: weight, Source: source,
		Documented: strings.HasPrefix(source, "Documentation/") || strings.HasPrefix(source, "man ")}
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
func gatherEdges(entries []*item, weighted []tune.Edge) []tune.Edge {
	type key struct {
		from string
		kind tune.EdgeType
		to   string
	}
	byKey := map[key]tune.Edge{}
	put := func(e tune.Edge) { byKey[key{e.From, e.Type, e.To}] = e }
	for _, it := range entries {
		list := func(kind tune.EdgeType, names []string, sign int, prior float64) {
			for _, n := range names {
				put(seeded(it.Name, kind, n, sign, prior, it.Source))
			}
		}
		list(tune.DependsOn, it.DependsOn, 1, priorDepends)
		list(tune.ConflictsWith, it.Conflicts, -1, priorConflict)
		list(tune.SynergizesWith, it.Synergizes, 1, priorSynergy)
		for _, a := range it.Affects {
			put(seeded(it.Name, tune.Affects, a.Signal, a.Sign, a.Weight, it.Source))
		}
	}
	for _, e := range weighted {
		put(e)
	}
	out := make([]tune.Edge, 0, len(byKey))
	for _, e := range byKey {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b tune.Edge) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.Type, b.Type), cmp.Compare(a.To, b.To))
	})
	return out
}

// Edges gives the seeded graph: relations between tunables and from tunables to signals, sorted.
func (c *Catalogue) Edges() []tune.Edge { return slices.Clone(c.edges) }

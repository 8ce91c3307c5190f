package knowledge

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"semantos/internal/tune"
	"semantos/kb/graph"
	"semantos/kb/validate"
)

// UpsertNode adds or describes a node on a person's word. It is knowledge alone: no node makes anything
// writable. What the catalogue or the rules describe is theirs, and a node keeps its kind: both are
// tune.ErrInvariant. Without a source the person is it.
func (k *Knowledge) UpsertNode(ctx context.Context, n tune.Node, actor string) (tune.Node, error) {
	k.learning.Lock()
	defer k.learning.Unlock()
	if n.Source == "" {
		n.Source = "said by " + actor
	}
	g, err := k.Graph(ctx)
	if err != nil {
		return n, err
	}
	old, known := g.Node(n.ID)
	seeded := slices.ContainsFunc(k.cfg.Nodes, func(s tune.Node) bool { return s.ID == n.ID })
	switch {
	case seeded:
		return n, refused("store node", n.ID, "the catalogue describes it",
			"say what is special about it with an edge; entries of --catalog-dir add tunables")
	case known && old.Kind != n.Kind:
		return n, refused("store node", n.ID, "it is known as a "+string(old.Kind), "choose another name")
	}
	if err := k.cfg.Store.Apply(ctx, validate.Batch{Nodes: []tune.Node{n}}); err != nil {
		return n, err
	}
	return n, nil
}

// UpsertEdge adds an edge on a person's word, or gives one that is known another seed: e.Weight, with
// sign, reason and source; what outcomes taught of it stays, and one that was retired lives again. It is
// documented when its source is a kernel document or a manual page. An edge of the seed is
// tune.ErrInvariant: the catalogue says its weight at every start. Both ends must be known, of the kinds
// the type joins.
func (k *Knowledge) UpsertEdge(ctx context.Context, e tune.Edge, actor string) (tune.Edge, error) {
	k.learning.Lock()
	defer k.learning.Unlock()
	if strings.TrimSpace(e.Source) == "" {
		return e, &tune.Error{Op: "store edge", Subject: validate.EdgeName(e.From, e.Type, e.To),
			Err: fmt.Errorf("%w: it has no source", tune.ErrUsage), Hint: "say where this is known from: a document, a measurement, a name"}
	}
	now := k.cfg.Now()
	e.Seed, e.Evidence, e.Learned, e.Retired, e.Updated = e.Weight, 0, 0, false, now
	e.Documented = strings.HasPrefix(e.Source, "Documentation/") || strings.HasPrefix(e.Source, "man ")
	if err := (validate.Batch{Edges: []tune.Edge{e}}).Check(); err != nil {
		return e, err
	}
	if slices.ContainsFunc(k.cfg.Edges, func(s tune.Edge) bool { return keyOf(s) == keyOf(e) }) {
		return e, refused("store edge", validate.EdgeName(e.From, e.Type, e.To), "the catalogue says its weight",
			"outcomes move it: semantos kb show FROM TYPE TO has its history")
	}
	if err := k.checkEnds(ctx, e); err != nil {
		return e, err
	}
	stored, err := k.cfg.Store.Edges(ctx)
	if err != nil {
		return e, fmt.Errorf("store edge: %w", err)
	}
	for _, old := range stored {
		if keyOf(old) == keyOf(e) {
			e.Evidence, e.Learned = graph.EvidenceAt(old, now), old.Learned
		}
	}
	e.Weight = graph.WeightAt(e, now)
	why := fmt.Sprintf("%s gave it a seed of %.2g, from %s", actor, e.Seed, e.Source)
	if len(why) > validate.MaxText {
		why = fmt.Sprintf("%s gave it a seed of %.2g", actor, e.Seed)
	}
	return e, k.cfg.Store.Apply(ctx, validate.Batch{Edges: []tune.Edge{e}, Events: []validate.Event{{From: e.From, Type: e.Type, To: e.To,
		Event: tune.EdgeEvent{At: now, Observed: e.Seed, Weight: e.Weight, Evidence: e.Evidence, Why: why}}}})
}

// ends are the kinds of node that a type of edge joins; an empty kind takes any.
func ends(t tune.EdgeType) (from, to tune.NodeKind) {
	switch t {
	case tune.DependsOn, tune.ConflictsWith, tune.SynergizesWith:
		return tune.NodeTunable, tune.NodeTunable
	case tune.Relieves:
		return tune.NodeSymptom, tune.NodeTunable
	case tune.Affects:
		return tune.NodeTunable, ""
	case tune.PartOf:
		return tune.NodeTunable, tune.NodeSubsystem
	case tune.TypicalOf:
		return tune.NodeSymptom, tune.NodeWorkload
	}
	return "", ""
}

func (k *Knowledge) checkEnds(ctx context.Context, e tune.Edge) error {
	g, err := k.Graph(ctx)
	if err != nil {
		return err
	}
	from, to := ends(e.Type)
	for _, end := range []struct {
		id   string
		want tune.NodeKind
	}{{e.From, from}, {e.To, to}} {
		n, ok := g.Node(end.id)
		if !ok {
			return &tune.Error{Op: "store edge", Subject: validate.EdgeName(e.From, e.Type, e.To),
				Err:  fmt.Errorf("%w: no node is called %q", tune.ErrUnknown, end.id),
				Hint: "semantos kb search finds names by words; /kb/upsert_tunable adds a tunable"}
		}
		if end.want != "" && n.Kind != end.want {
			return &tune.Error{Op: "store edge", Subject: validate.EdgeName(e.From, e.Type, e.To),
				Err:  fmt.Errorf("%w: %s is a %s, not a %s", tune.ErrType, end.id, n.Kind, end.want),
				Hint: fmt.Sprintf("%s joins a %s to a %s", e.Type, from, to)}
		}
	}
	return nil
}

func refused(op, subject, why, hint string) error {
	return &tune.Error{Op: op, Subject: fmt.Sprintf("%q", subject), Err: fmt.Errorf("%w: %s", tune.ErrInvariant, why), Hint: hint}
}

// Learned gives the stored, live edges that outcomes or sweeps taught something of, as stored.
func (k *Knowledge) Learned(ctx context.Context) ([]tune.Edge, error) {
	if _, err := k.Graph(ctx); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	out := []tune.Edge{}
	for _, e := range k.edges {
		if e.Evidence > 0 && !e.Retired {
			out = append(out, e)
		}
	}
	return out, nil
}

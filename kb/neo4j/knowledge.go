package neo4j

import (
	"context"
	"time"

	"semantos/internal/tune"
	"semantos/kb/validate"
)

// Apply stores a batch, all of it or nothing, durably on this machine, and delivers it in order. While
// the connection is up it returns when Neo4j has it, or after two seconds.
func (s *Store) Apply(ctx context.Context, b validate.Batch) error {
	return s.wrote(ctx, s.spool.Apply(ctx, b))
}

func (s *Store) wrote(ctx context.Context, err error) error {
	if err == nil {
		s.delivered(ctx)
	}
	return err
}

// UpsertNodes stores nodes; the same id again replaces the older one.
func (s *Store) UpsertNodes(ctx context.Context, nodes []tune.Node) error {
	return s.wrote(ctx, s.spool.UpsertNodes(ctx, nodes))
}

// UpsertEdges stores edges between stored nodes.
func (s *Store) UpsertEdges(ctx context.Context, edges []tune.Edge) error {
	return s.wrote(ctx, s.spool.UpsertEdges(ctx, edges))
}

// AppendEdgeEvent adds a line to the history of a stored edge.
func (s *Store) AppendEdgeEvent(ctx context.Context, from string, typ tune.EdgeType, to string, e tune.EdgeEvent) error {
	return s.wrote(ctx, s.spool.AppendEdgeEvent(ctx, from, typ, to, e))
}

// SaveTrace stores an outcome; the same id again replaces it.
func (s *Store) SaveTrace(ctx context.Context, t tune.Trace) error {
	return s.wrote(ctx, s.spool.SaveTrace(ctx, t))
}

// SaveRollout stores a rollout; the same id again replaces it.
func (s *Store) SaveRollout(ctx context.Context, r tune.Rollout) error {
	return s.wrote(ctx, s.spool.SaveRollout(ctx, r))
}

// SaveRecommendations stores what was printed, so that apply can find it by id.
func (s *Store) SaveRecommendations(ctx context.Context, recs []tune.Recommendation, at time.Time) error {
	return s.wrote(ctx, s.spool.SaveRecommendations(ctx, recs, at))
}

// Node finds one node.
func (s *Store) Node(ctx context.Context, id string) (tune.Node, error) {
	s.refresh(ctx)
	return s.spool.Node(ctx, id)
}

// Nodes gives all nodes, sorted by id.
func (s *Store) Nodes(ctx context.Context) ([]tune.Node, error) {
	s.refresh(ctx)
	return s.spool.Nodes(ctx)
}

// Edges gives all edges, retired ones too, sorted by from, type and to.
func (s *Store) Edges(ctx context.Context) ([]tune.Edge, error) {
	s.refresh(ctx)
	return s.spool.Edges(ctx)
}

// EdgeHistory gives the events of an edge, oldest first.
func (s *Store) EdgeHistory(ctx context.Context, from string, typ tune.EdgeType, to string) ([]tune.EdgeEvent, error) {
	s.refresh(ctx)
	return s.spool.EdgeHistory(ctx, from, typ, to)
}

// EachEdgeEvent walks the history of all edges.
func (s *Store) EachEdgeEvent(ctx context.Context, yield func(validate.Event) error) error {
	s.refresh(ctx)
	return s.spool.EachEdgeEvent(ctx, yield)
}

// GraphVersion grows with every change of a node or an edge that this machine knows of, its own and
// those of others. It is this machine's count: two machines show different numbers.
func (s *Store) GraphVersion(ctx context.Context) (int64, error) {
	s.refresh(ctx)
	return s.spool.GraphVersion(ctx)
}

// Trace finds one trace.
func (s *Store) Trace(ctx context.Context, id string) (tune.Trace, error) {
	s.refresh(ctx)
	return s.spool.Trace(ctx, id)
}

// Traces lists the newest traces first; a limit of 0 or less gives all.
func (s *Store) Traces(ctx context.Context, limit int) ([]tune.Trace, error) {
	s.refresh(ctx)
	return s.spool.Traces(ctx, limit)
}

// EachTrace walks all traces, newest first.
func (s *Store) EachTrace(ctx context.Context, yield func(tune.Trace) error) error {
	s.refresh(ctx)
	return s.spool.EachTrace(ctx, yield)
}

// Recommendation finds one by its id and says when it was given last.
func (s *Store) Recommendation(ctx context.Context, id string) (tune.Recommendation, time.Time, error) {
	s.refresh(ctx)
	return s.spool.Recommendation(ctx, id)
}

// EachRecommendation walks all recommendations, sorted by id.
func (s *Store) EachRecommendation(ctx context.Context, yield func(validate.Advice) error) error {
	s.refresh(ctx)
	return s.spool.EachRecommendation(ctx, yield)
}

// Rollout finds one by its own id, else the newest of a recommendation's id.
func (s *Store) Rollout(ctx context.Context, id string) (tune.Rollout, error) {
	s.refresh(ctx)
	return s.spool.Rollout(ctx, id)
}

// Rollouts lists the newest rollouts first; a limit of 0 or less gives all.
func (s *Store) Rollouts(ctx context.Context, limit int) ([]tune.Rollout, error) {
	s.refresh(ctx)
	return s.spool.Rollouts(ctx, limit)
}

// Outcomes gives past trials of a symptom that touched one of the tunables, newest first.
func (s *Store) Outcomes(ctx context.Context, symptom string, tunables []string) ([]tune.Rollout, error) {
	s.refresh(ctx)
	return s.spool.Outcomes(ctx, symptom, tunables)
}

package cli

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"semantos/internal/tune"
	"semantos/kb/neo4j"
	"semantos/kb/sqlite"
	"semantos/kb/validate"
)

// store is where history and knowledge are kept: kb/sqlite in DATA_DIR, or kb/neo4j with NEO4J_URI.
type store interface {
	stories
	graphStore
	Close() error
}

// stories are recommendations and what came of them.
type stories interface {
	SaveRecommendations(ctx context.Context, recs []tune.Recommendation, at time.Time) error
	Recommendation(ctx context.Context, id string) (tune.Recommendation, time.Time, error)
	EachRecommendation(ctx context.Context, yield func(validate.Advice) error) error
	SaveRollout(ctx context.Context, r tune.Rollout) error
	Rollout(ctx context.Context, id string) (tune.Rollout, error)
	Rollouts(ctx context.Context, limit int) ([]tune.Rollout, error)
	Outcomes(ctx context.Context, symptom string, tunables []string) ([]tune.Rollout, error)
	trialStore
}

// trialStore are the trials that run, as they stood.
type trialStore interface {
	SaveTrial(ctx context.Context, t sqlite.Trial) error
	DropTrial(ctx context.Context, rollout string) error
	Trials(ctx context.Context) ([]sqlite.Trial, error)
}

// graphStore is the knowledge.
type graphStore interface {
	Nodes(ctx context.Context) ([]tune.Node, error)
	Edges(ctx context.Context) ([]tune.Edge, error)
	EdgeHistory(ctx context.Context, from string, typ tune.EdgeType, to string) ([]tune.EdgeEvent, error)
	EachEdgeEvent(ctx context.Context, yield func(validate.Event) error) error
	GraphVersion(ctx context.Context) (int64, error)
	Trace(ctx context.Context, id string) (tune.Trace, error)
	EachTrace(ctx context.Context, yield func(tune.Trace) error) error
	Apply(ctx context.Context, b validate.Batch) error
}

// spoolDir is where below DATA_DIR the last known copy and the queue for Neo4j lie.
const spoolDir = "neo4j"

// openStore opens history and knowledge once, creating DATA_DIR.
func (a *app) openStore(ctx context.Context) (store, error) {
	if a.store != nil {
		return a.store, nil
	}
	s, err := a.newStore(ctx)
	if err != nil {
		return nil, err
	}
	a.store = s
	a.onClose(s.Close)
	return s, nil
}

// withStore opens history for one use and closes it again. It leaves a as it is, so that it may go on beside
// the command.
func (a *app) withStore(ctx context.Context, use func(store) error) error {
	s, err := a.newStore(ctx)
	if err != nil {
		return err
	}
	return errors.Join(use(s), s.Close())
}

func (a *app) newStore(ctx context.Context) (store, error) {
	if err := a.cfg.PrepareDataDir(); err != nil {
		return nil, err
	}
	if a.cfg.Neo4jURI != "" {
		return a.openNeo4j(ctx)
	}
	s, err := sqlite.OpenWith(ctx, a.cfg.StoreDir(), a.storeRights())
	if err != nil {
		return nil, err // not s, which would be a store that is nil
	}
	return s, nil
}

// openNeo4j never waits long for the server. serve logs how it fares; a command says once when it works
// without it.
func (a *app) openNeo4j(ctx context.Context) (store, error) {
	log := cmp.Or(a.log, slog.New(slog.DiscardHandler))
	n, err := neo4j.Open(ctx, neo4j.Config{URI: a.cfg.Neo4jURI, User: a.cfg.Neo4jUser, Pass: a.cfg.Neo4jPass,
		Spool: filepath.Join(a.cfg.StoreDir(), spoolDir), Opens: a.storeRights(), Log: log, Now: a.now})
	if err != nil {
		return nil, err
	}
	if reason := awayReason(n); reason != "" && a.log == nil {
		a.say("note: %s; the last known copy answers, and what is written waits for it", reason)
	}
	return n, nil
}

// openHistory opens the store for reading: no store yet is no history, not an error.
func (a *app) openHistory(ctx context.Context) (store, error) {
	if _, err := os.Stat(a.cfg.DataDir); errors.Is(err, os.ErrNotExist) && a.cfg.Neo4jURI == "" {
		return nil, nil
	}
	return a.openStore(ctx)
}

// remote is a store that may be away.
type remote interface{ State() neo4j.State }

// awayReason says in one line why what is kept elsewhere is not reached; "" when it is.
func awayReason(s store) string {
	r, ok := s.(remote)
	if !ok {
		return ""
	}
	st := r.State()
	if st.Status == neo4j.OK {
		return ""
	}
	reason := "Neo4j is " + string(st.Status)
	if st.Reason != "" {
		reason += ": " + st.Reason
	}
	return reason
}

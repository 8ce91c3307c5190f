package kbtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"semantos/internal/tune"
	"semantos/kb/validate"
)

// Advice keeps recommendations.
type Advice interface {
	SaveRecommendations(ctx context.Context, recs []tune.Recommendation, at time.Time) error
	Recommendation(ctx context.Context, id string) (tune.Recommendation, time.Time, error)
}

// Trials keeps rollouts and what they taught.
type Trials interface {
	SaveRollout(ctx context.Context, r tune.Rollout) error
	Rollout(ctx context.Context, id string) (tune.Rollout, error)
	Rollouts(ctx context.Context, limit int) ([]tune.Rollout, error)
	Outcomes(ctx context.Context, symptom string, tunables []string) ([]tune.Rollout, error)
}

// Graph keeps nodes, edges and what edges were learned from.
type Graph interface {
	UpsertNodes(ctx context.Context, nodes []tune.Node) error
	UpsertEdges(ctx context.Context, edges []tune.Edge) error
	Node(ctx context.Context, id string) (tune.Node, error)
	Nodes(ctx context.Context) ([]tune.Node, error)
	Edges(ctx context.Context) ([]tune.Edge, error)
	AppendEdgeEvent(ctx context.Context, from string, typ tune.EdgeType, to string, e tune.EdgeEvent) error
	EdgeHistory(ctx context.Context, from string, typ tune.EdgeType, to string) ([]tune.EdgeEvent, error)
	GraphVersion(ctx context.Context) (int64, error)
}

// Memory keeps traces.
type Memory interface {
	SaveTrace(ctx context.Context, t tune.Trace) error
	Trace(ctx context.Context, id string) (tune.Trace, error)
	Traces(ctx context.Context, limit int) ([]tune.Trace, error)
	EachTrace(ctx context.Context, yield func(tune.Trace) error) error
}

// Whole writes everything at once and walks what only an export lists.
type Whole interface {
	Apply(ctx context.Context, b validate.Batch) error
	EachEdgeEvent(ctx context.Context, yield func(validate.Event) error) error
	EachRecommendation(ctx context.Context, yield func(validate.Advice) error) error
}

// Store is what a backend of kb offers.
type Store interface {
	Advice
	Trials
	Graph
	Memory
	Whole
	Close() error
}

// Run runs the suite; open gives an empty store and reopen the same one again, also before Close.
func Run(t *testing.T, open func(t *testing.T) (store Store, reopen func() Store)) {
	Contents(t, open)
	t.Run("graph version", func(t *testing.T) { graphVersion(t, open) })
}

// Contents is Run for a reopen that may come from another machine, which counts versions by itself.
func Contents(t *testing.T, open func(t *testing.T) (store Store, reopen func() Store)) {
	t.Run("recommendations", func(t *testing.T) { recommendations(t, open) })
	t.Run("rollouts", func(t *testing.T) { rollouts(t, open) })
	t.Run("outcomes", func(t *testing.T) { outcomes(t, open) })
	t.Run("unknown ids", func(t *testing.T) { unknownIDs(t, open) })
	t.Run("concurrent use", func(t *testing.T) { concurrent(t, open) })
	t.Run("cancelled context", func(t *testing.T) { cancelled(t, open) })
	t.Run("graph", func(t *testing.T) { graph(t, open) })
	t.Run("edge history", func(t *testing.T) { edgeHistory(t, open) })
	t.Run("traces", func(t *testing.T) { traces(t, open) })
	t.Run("names are data", func(t *testing.T) { namesAreData(t, open) })
	t.Run("refusals", func(t *testing.T) { refusals(t, open) })
	t.Run("all or nothing", func(t *testing.T) { allOrNothing(t, open) })
	t.Run("whole", func(t *testing.T) { whole(t, open) })
}

type opener = func(t *testing.T) (Store, func() Store)

// Recommendation makes a complete one that proposes value for somaxconn.
func Recommendation(symptom, value string) tune.Recommendation {
	changes := []tune.Change{
		{Tunable: "net.core.somaxconn", Scope: tune.ScopeNetns, Target: "netns:4026531840", Current: "8",
			Proposed: tune.Value(value), TakesEffect: tune.NextListen, Why: "the accept queue is full", Risk: tune.RiskLow},
		{Tunable: "net.ipv4.tcp_rmem", Scope: tune.ScopeNetns, Target: "netns:4026531840", Current: "4096 16384 16384",
			Proposed: "4096 131072 6291456", TakesEffect: tune.NewSockets, Risk: tune.RiskLow},
	}
	return tune.Recommendation{
		ID: tune.RecommendationID(changes), Changes: changes, Rationale: `a queue of 8 "overflows" – 3×`,
		ExpectedImpact: tune.Impact{Signal: "tcp.listen_overflows", Direction: "lower", Summary: "fewer lost connections"},
		Uncertainty:    0.31, Admissible: true, Risk: tune.RiskLow, Score: 0.9,
		Provenance: tune.Provenance{Symptom: symptom, Rule: "net.yaml:1", Source: "kernel documentation",
			Voters:  []tune.Voter{{Name: "rules", Agrees: true, Why: "overflows"}},
			Measure: tune.Measure{Signal: "tcp.listen_overflows", Better: "lower"}},
	}
}

// Rollout makes a finished one of rec.
func Rollout(rec tune.Recommendation, started time.Time, state tune.State, reason string) tune.Rollout {
	effect := &tune.Effect{Metric: "p95_ms", Better: "lower", Ratio: 0.4, Low: 0.3, High: 0.5}
	return tune.Rollout{
		ID: fmt.Sprintf("%s-%x", rec.ID, started.UnixNano()), Recommendation: rec, State: state,
		Stages: []tune.Stage{{Share: 100, Exposed: 100, Mode: "dose", Verdict: tune.Pass, Treated: 5, Compared: 5, Seconds: 20, Effect: effect}},
		Effect: effect, Reason: reason, Actor: "uid 0", Started: started, Ended: started.Add(time.Minute), BootID: "b",
	}
}

var start = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func same(t *testing.T, what string, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func recommendations(t *testing.T, open opener) {
	s, reopen := open(t)
	ctx := t.Context()
	a, b := Recommendation("accept_queue", "4096"), Recommendation("accept_queue", "1024")
	must(t, s.SaveRecommendations(ctx, nil, start))
	must(t, s.SaveRecommendations(ctx, []tune.Recommendation{a, b}, start))
	a.Uncertainty = 0.2
	must(t, s.SaveRecommendations(ctx, []tune.Recommendation{a}, start.Add(time.Hour)))
	must(t, s.Close())
	s = reopen()
	defer s.Close()
	for _, want := range []struct {
		rec tune.Recommendation
		at  time.Time
	}{{a, start.Add(time.Hour)}, {b, start}} {
		got, at, err := s.Recommendation(ctx, want.rec.ID)
		must(t, err)
		same(t, "recommendation", want.rec, got)
		if !at.Equal(want.at) {
			t.Errorf("given at %v, want %v", at, want.at)
		}
	}
}

func rollouts(t *testing.T, open opener) {
	s, reopen := open(t)
	ctx := t.Context()
	rec := Recommendation("accept_queue", "4096")
	first := Rollout(rec, start, tune.RolledBack, tune.ReasonWorse)
	second := Rollout(rec, start.Add(time.Hour), tune.Running, "")
	other := Rollout(Recommendation("other", "64"), start.Add(time.Minute), tune.Vetoed, "u is 0.7")
	other.Effect, other.Stages = nil, nil
	for _, r := range []tune.Rollout{second, first, other} {
		must(t, s.SaveRollout(ctx, r))
	}
	second.State, second.Reason = tune.Committed, tune.ReasonBetter
	must(t, s.SaveRollout(ctx, second))
	must(t, s.Close())
	s = reopen()
	defer s.Close()
	all, err := s.Rollouts(ctx, 0)
	must(t, err)
	same(t, "all, newest first", []tune.Rollout{second, other, first}, all)
	two, err := s.Rollouts(ctx, 2)
	must(t, err)
	same(t, "limited", []tune.Rollout{second, other}, two)
	for id, want := range map[string]tune.Rollout{first.ID: first, rec.ID: second, other.Recommendation.ID: other} {
		got, err := s.Rollout(ctx, id)
		must(t, err)
		same(t, id, want, got)
	}
}

func outcomes(t *testing.T, open opener) {
	s, _ := open(t)
	defer s.Close()
	ctx := t.Context()
	at := func(n int) time.Time { return start.Add(time.Duration(n) * time.Minute) }
	rec := Recommendation("accept_queue", "4096")
	good := Rollout(rec, at(1), tune.Committed, tune.ReasonBetter)
	bad := Rollout(rec, at(2), tune.RolledBack, tune.ReasonWorse)
	for _, r := range []tune.Rollout{good, bad,
		Rollout(rec, at(3), tune.RolledBack, tune.ReasonInterrupted),
		Rollout(rec, at(7), tune.RolledBack, tune.ReasonExpired),
		Rollout(rec, at(4), tune.Vetoed, "u is 0.7"),
		Rollout(rec, at(5), tune.Running, ""),
		Rollout(Recommendation("elsewhere", "4096"), at(6), tune.Committed, tune.ReasonBetter)} {
		must(t, s.SaveRollout(ctx, r))
	}
	for name, tc := range map[string]struct {
		tunables []string
		want     []tune.Rollout
	}{
		"any tunable": {nil, []tune.Rollout{bad, good}},
		"one of two":  {[]string{"vm.swappiness", "net.ipv4.tcp_rmem"}, []tune.Rollout{bad, good}},
		"none":        {[]string{"vm.swappiness"}, []tune.Rollout{}},
	} {
		got, err := s.Outcomes(ctx, "accept_queue", tc.tunables)
		must(t, err)
		same(t, name, tc.want, got)
	}
}

func unknownIDs(t *testing.T, open opener) {
	s, _ := open(t)
	defer s.Close()
	ctx := t.Context()
	rec := Recommendation("accept_queue", "4096")
	must(t, s.SaveRecommendations(ctx, []tune.Recommendation{rec}, start))
	must(t, s.SaveRollout(ctx, Rollout(rec, start, tune.Committed, tune.ReasonBetter)))
	for _, id := range []string{"", "nonsense", rec.ID[:5], "' OR 1=1 --", "\x00"} {
		_, _, err := s.Recommendation(ctx, id)
		if !errors.Is(err, tune.ErrUnknown) || tune.Hint(err) == "" {
			t.Errorf("recommendation %q: %v", id, err)
		}
		_, err = s.Rollout(ctx, id)
		if !errors.Is(err, tune.ErrUnknown) || tune.Hint(err) == "" {
			t.Errorf("rollout %q: %v", id, err)
		}
	}
}

func concurrent(t *testing.T, open opener) {
	s, reopen := open(t)
	defer s.Close()
	second := reopen()
	defer second.Close()
	const writers, each = 4, 10
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			store := []Store{s, second}[w%2]
			for i := range each {
				rec := Recommendation("accept_queue", fmt.Sprint(w*each+i))
				if err := store.SaveRollout(t.Context(), Rollout(rec, start.Add(time.Duration(i)*time.Second), tune.Committed, tune.ReasonBetter)); err != nil {
					t.Errorf("writer %d: %v", w, err)
				}
				if _, err := store.Rollouts(t.Context(), 5); err != nil {
					t.Errorf("reader %d: %v", w, err)
				}
			}
		})
	}
	wg.Wait()
	all, err := second.Rollouts(t.Context(), 0)
	must(t, err)
	if len(all) != writers*each {
		t.Errorf("%d rollouts, want %d", len(all), writers*each)
	}
}

func cancelled(t *testing.T, open opener) {
	s, _ := open(t)
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.SaveRollout(ctx, Rollout(Recommendation("a", "1"), start, tune.Committed, "")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	all, err := s.Rollouts(t.Context(), 0)
	must(t, err)
	if len(all) != 0 {
		t.Errorf("a cancelled save left %d rollouts", len(all))
	}
}

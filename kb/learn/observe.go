package learn

import (
	"fmt"
	"math"
	"slices"
	"time"

	"gonum.org/v1/gonum/stat/distuv"

	"semantos/internal/tune"
	"semantos/kb/graph"
)

// Observation is what one outcome says of one edge: Value in [0,1] (1: it held), counted Count times.
type Observation struct {
	From  string
	Type  tune.EdgeType
	To    string
	Value float64
	Count float64
	Why   string
}

// Observe reads the observations off a trace. Only a measured outcome says something: kept as better
// holds, measured worse or without effect does not, and what was aborted, vetoed or inconclusive is
// silent. Credit is shared between the changes of a bundle, since the trial cannot tell them apart.
func Observe(t tune.Trace, edges []tune.Edge) []Observation {
	held, ok := conclusion(t)
	if !ok || len(t.Changes) == 0 {
		return nil
	}
	share := 1 / float64(len(t.Changes))
	touched := map[string]bool{}
	for _, c := range t.Changes {
		touched[c.Tunable] = true
	}
	var out []Observation
	for _, e := range edges {
		switch {
		case e.Type == tune.Relieves && touched[e.To] && slices.Contains(t.Symptoms, e.From):
			out = append(out, Observation{From: e.From, Type: e.Type, To: e.To, Value: held, Count: share,
				Why: fmt.Sprintf("rollout %s: %s", t.ID, t.Reason)})
		case e.Type == tune.Affects && touched[e.From] && t.Effect != nil && e.To == t.Effect.Metric:
			out = append(out, Observation{From: e.From, Type: e.Type, To: e.To, Value: moved(e, t.Effect), Count: share,
				Why: fmt.Sprintf("rollout %s: ratio %.3g (%.3g to %.3g)", t.ID, t.Effect.Ratio, t.Effect.Low, t.Effect.High)})
		}
	}
	return out
}

func conclusion(t tune.Trace) (held float64, ok bool) {
	switch {
	case t.Effect == nil:
		return 0, false
	case t.State == tune.Committed:
		return 1, true
	case t.State == tune.RolledBack && (t.Verdict == tune.Fail || t.Reason == tune.ReasonNoEffect):
		return 0, true
	}
	return 0, false
}

// moved is 1 when the signal moved as the edge's sign says, its interval leaving out 1.
func moved(e tune.Edge, effect *tune.Effect) float64 {
	if e.Sign > 0 && effect.Low > 1 || e.Sign < 0 && effect.High < 1 {
		return 1
	}
	return 0
}

// Apply moves an edge by an observation at a moment and gives the line of its history. What was known
// decays to the moment first. A value outside [0,1], or a count that is not above 0, is tune.ErrOutOfRange.
func Apply(e tune.Edge, o Observation, trace string, at time.Time) (tune.Edge, tune.EdgeEvent, error) {
	if !(o.Value >= 0 && o.Value <= 1) || !(o.Count > 0) || math.IsInf(o.Count, 0) {
		return e, tune.EdgeEvent{}, fmt.Errorf("observe %s %s %s: value %v counted %v times: %w",
			e.From, e.Type, e.To, o.Value, o.Count, tune.ErrOutOfRange)
	}
	n := graph.EvidenceAt(e, at)
	e.Learned = (n*e.Learned + o.Count*o.Value) / (n + o.Count)
	e.Evidence = n + o.Count
	if at.After(e.Updated) {
		e.Updated = at
	}
	e.Weight = graph.WeightAt(e, at)
	why := o.Why
	if !e.Retired && contradicted(e) {
		e.Retired = true
		why += "; retired: the evidence contradicts it"
	}
	return e, tune.EdgeEvent{At: at, Trace: trace, Observed: o.Value, Count: o.Count, Weight: e.Weight,
		Evidence: e.Evidence, Why: why}, nil
}

// retireBelow is the weight an edge must lie under, with 95 % credibility, to be retired.
const retireBelow = 0.2

// contradicted asks the Beta posterior of the edge (the seed as prior, counting SeedStrength times) for
// its upper bound. Edges with a kernel document behind them stand whatever one host saw.
func contradicted(e tune.Edge) bool {
	if e.Documented {
		return false
	}
	bound := min(retireBelow, e.Seed/2)
	if e.Weight >= bound || bound <= 0 {
		return false
	}
	const least = 0.5 // keeps the prior proper for seeds of 0 and 1
	b := distuv.Beta{
		Alpha: least + graph.SeedStrength*e.Seed + e.Evidence*e.Learned,
		Beta:  least + graph.SeedStrength*(1-e.Seed) + e.Evidence*(1-e.Learned),
	}
	return b.Quantile(0.95) < bound
}

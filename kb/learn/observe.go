package learn

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
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

// Observe reads the observations off a trace. Only a measured outcome says something: confidently better
// holds, confidently worse or without effect does not, and what was kept as not worse, stopped, vetoed or
// inconclusive is silent. Credit is shared between the tunables of a bundle, since the trial cannot tell
// them apart. An edge of negative sign holds where one of positive sign does not.
func Observe(t tune.Trace, edges []tune.Edge) []Observation {
	held, ok := conclusion(t)
	if !ok || len(t.Changes) == 0 {
		return nil
	}
	directions := map[string]int{}
	for _, c := range t.Changes {
		d := direction(c)
		if old, twice := directions[c.Tunable]; twice && old != d {
			d = 0 // one target up, another down
		}
		directions[c.Tunable] = d
	}
	share := 1 / float64(len(directions))
	var out []Observation
	add := func(e tune.Edge, value float64, why string) {
		out = append(out, Observation{From: e.From, Type: e.Type, To: e.To, Value: value, Count: share,
			Why: fmt.Sprintf("rollout %s: %s", t.ID, why)})
	}
	for _, e := range edges {
		switch e.Type {
		case tune.Relieves:
			if _, touched := directions[e.To]; touched && slices.Contains(t.Symptoms, e.From) {
				value := held
				if e.Sign < 0 {
					value = 1 - held
				}
				add(e, value, t.Reason)
			}
		case tune.Affects:
			if d := directions[e.From]; d != 0 && e.To == t.Effect.Metric {
				add(e, moved(e.Sign*d, t.Effect), fmt.Sprintf("ratio %.3g (%.3g to %.3g)", t.Effect.Ratio, t.Effect.Low, t.Effect.High))
			}
		}
	}
	return out
}

// conclusion is 1 for a change that measured better, 0 for one that measured worse or without effect.
func conclusion(t tune.Trace) (held float64, ok bool) {
	if t.Effect == nil {
		return 0, false
	}
	switch t.Reason {
	case tune.ReasonOperator, tune.ReasonInterrupted, tune.ReasonYielded, tune.ReasonFault, tune.ReasonExpired:
		return 0, false // ended for something else than what it did
	}
	switch {
	case t.State == tune.Committed:
		return 1, better(t.Effect)
	case t.State == tune.RolledBack && (t.Verdict == tune.Fail || t.Reason == tune.ReasonNoEffect):
		return 0, true
	}
	return 0, false
}

// better tells whether the whole interval lies on the good side; a metric is better lower unless it says.
func better(e *tune.Effect) bool {
	if e.Better == "higher" {
		return e.Low > 1
	}
	return e.High < 1
}

// direction is +1 for a change that raises a number, -1 for one that lowers it; 0 for what has no order
// (an enum, a vector whose elements differ in direction), of which a sign says nothing.
func direction(c tune.Change) int {
	from, to := c.Current.Fields(), c.Proposed.Fields()
	if len(from) != len(to) {
		return 0
	}
	out := 0
	for i := range from {
		x, err := strconv.ParseFloat(from[i], 64)
		y, wrong := strconv.ParseFloat(to[i], 64)
		if err != nil || wrong != nil {
			return 0
		}
		d := cmp.Compare(y, x)
		if d != 0 && out == -d {
			return 0
		}
		out = cmp.Or(d, out)
	}
	return out
}

// moved is 1 when the signal moved to the side of the sign, its interval leaving out 1.
func moved(sign int, effect *tune.Effect) float64 {
	if sign > 0 && effect.Low > 1 || sign < 0 && effect.High < 1 {
		return 1
	}
	return 0
}

// Apply moves an edge by an observation at a moment and gives the line of its history. What was known
// decays to the moment first; an outcome older than that counts as much as is left of it. A value outside [0,1], or a count that is not above 0, is tune.ErrOutOfRange.
func Apply(e tune.Edge, o Observation, trace string, at time.Time) (tune.Edge, tune.EdgeEvent, error) {
	if !(o.Value >= 0 && o.Value <= 1) || !(o.Count > 0) || math.IsInf(o.Count, 0) {
		return e, tune.EdgeEvent{}, fmt.Errorf("observe %s %s %s: value %v counted %v times: %w",
			e.From, e.Type, e.To, o.Value, o.Count, tune.ErrOutOfRange)
	}
	n := graph.EvidenceAt(e, at)
	e.Retired = graph.Resting(e, at)
	if !e.Documented && at.Before(e.Updated) {
		o.Count = graph.EvidenceAt(tune.Edge{Evidence: o.Count, Updated: at}, e.Updated)
	}
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

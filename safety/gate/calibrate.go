package gate

import (
	"cmp"
	"math"
	"slices"
	"time"

	"semantos/internal/tune"
)

// calibrationWindow is how many labelled outcomes are looked at; calibrationAge after how long one
// expires. Without expiry a threshold that has become too tight would keep away the very outcomes that
// could loosen it.
const (
	calibrationWindow = 400
	calibrationAge    = 30 * 24 * time.Hour
)

// unsafeCost is what one unsafe trial costs, in improvements kept: it hurt for a slot or two at the
// first stage's share, and nothing rests longer than what hurt.
const unsafeCost = 5

// outcome is one finished trial whose label is known. A vetoed, interrupted or inconclusive one has no
// label and is never one of these: unknown is not safe.
type outcome struct {
	At     time.Time
	U      float64
	Unsafe bool
	Better bool    // kept as better: what a veto would have forgone
	Tau    float64 // the threshold it met; +Inf when nobody wrote it down
	Passed bool    // a person went past a veto
	Rec    string  // the recommendation's id
	Back   bool    // judged well, and put back by a person later
}

// labelled gives the outcome of a rollout. Not labelled are: what an operator typed with --set (its u
// says nothing about semantos' own advice, and one could tighten tau at will), what was not judged, and
// what ended for a reason that is not the change's.
func labelled(r tune.Rollout) (outcome, bool) {
	u := r.Recommendation.Uncertainty
	if r.Recommendation.Provenance.Operator || math.IsNaN(u) || u < 0 || u > 1 {
		return outcome{}, false
	}
	o := outcome{At: r.Ended, U: u, Tau: math.Inf(1), Rec: r.Recommendation.ID}
	if o.At.IsZero() {
		o.At = r.Started
	}
	if r.Gate != nil {
		o.Tau, o.Passed = r.Gate.Tau, r.Gate.Passed
	}
	switch {
	case r.State == tune.RolledBack && (r.Reason == tune.ReasonWorse || r.Reason == tune.ReasonLimit):
		o.Unsafe = true
	case r.State == tune.Committed && (r.Reason == tune.ReasonBetter || r.Reason == tune.ReasonNotWorse):
		o.Better = r.Reason == tune.ReasonBetter
	case r.State == tune.RolledBack && r.Reason == tune.ReasonNoEffect:
	case keptThenTakenBack(r): // judged to its end before a person put it back
		o.Back = true
	default:
		return outcome{}, false
	}
	return o, true
}

// keptThenTakenBack is a rollout that passed its last stage and was put back by a person later.
func keptThenTakenBack(r tune.Rollout) bool {
	n := len(r.Stages)
	return r.State == tune.RolledBack && r.Reason == tune.ReasonOperator && n > 0 &&
		r.Stages[n-1].Share >= 100 && r.Stages[n-1].Verdict == tune.Pass && r.Effect != nil
}

// tracker is the adaptive window. It only moves forward: what a cut dropped never comes back when the
// window slides on.
type tracker struct {
	limit float64 // TAU
	alpha float64
	items []outcome
	cuts  []tune.DriftCut
}

// add takes the next outcome, oldest first.
func (t *tracker) add(o outcome) {
	t.items = append(t.items, o)
	if n := len(t.items) - calibrationWindow; n > 0 {
		t.items = t.items[n:]
	}
	t.expire(o.At)
	t.cutDrift(o.At)
}

func (t *tracker) expire(now time.Time) {
	for len(t.items) > 0 && now.Sub(t.items[0].At) > calibrationAge {
		t.items = t.items[1:]
	}
}

// cutDrift looks where every threshold of the window let outcomes be seen, below the lowest of them:
// elsewhere a tighter tau alone would look like a drift.
func (t *tracker) cutDrift(at time.Time) {
	lowest := t.limit
	for _, o := range t.items {
		lowest = min(lowest, o.Tau)
	}
	var index []int
	var scores, labels []float64
	for i, o := range t.items {
		if o.U >= lowest {
			continue
		}
		index, scores = append(index, i), append(scores, o.U)
		labels = append(labels, number01(o.Unsafe))
	}
	stream, cut := "outcomes", driftCut(labels)
	if byScore := driftCut(scores); byScore > cut {
		stream, cut = "scores", byScore
	}
	if cut == 0 {
		return
	}
	t.cuts = append(t.cuts, tune.DriftCut{At: at, Stream: stream, Dropped: index[cut]})
	t.items = t.items[index[cut]:]
}

func number01(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// threshold is what follows from the window. Without a bound, bounded is false and needed says how many
// unsafe outcomes are missing.
type threshold struct {
	tau     float64 // in [0, TAU]
	bound   float64 // tau_conformal, in [0, 1]
	bounded bool
	needed  int
	unsafe  int  // n: the unsafe outcomes the bound rests on
	open    bool // they met TAU itself
}

// fewestUnsafe is the smallest n that bounds anything at alpha: alpha (n+1) must reach 1.
func fewestUnsafe(alpha float64) int {
	// A hair's width keeps 1/0.1 - 1 from being rounded up to ten.
	return int(math.Ceil(1/alpha - 1 - 1e-9))
}

// threshold computes tau. The bound rests on the outcomes that met TAU itself where there are enough of
// them, and else on all: those that met a tighter tau are seen only below it, so that counting them
// would tighten tau again and again. Both keep the guarantee; docs/calibration.md has the argument.
func (t *tracker) threshold(now time.Time) threshold {
	t.expire(now)
	need := fewestUnsafe(t.alpha)
	basis, open := t.open(), true
	seen := unsafeOf(basis)
	if len(seen) < need {
		basis, open = t.items, false
		seen = unsafeOf(basis)
	}
	out := threshold{tau: t.limit, unsafe: len(seen), open: open}
	if len(seen) < need {
		out.needed = need - len(seen)
		return out
	}
	out.bounded, out.bound = true, conformal(seen, t.alpha)
	// The smaller of the two: the larger would lose the guarantee.
	out.tau = cheapest(basis, min(t.limit, out.bound))
	return out
}

// open gives the outcomes that met a threshold no tighter than TAU.
func (t *tracker) open() []outcome {
	var out []outcome
	for _, o := range t.items {
		if o.Tau >= t.limit {
			out = append(out, o)
		}
	}
	return out
}

// unsafeOf gives u of the unsafe outcomes, ascending.
func unsafeOf(from []outcome) []float64 {
	var out []float64
	for _, o := range from {
		if o.Unsafe {
			out = append(out, o.U)
		}
	}
	slices.Sort(out)
	return out
}

// conformal is the largest threshold with (#{u_i < tau} + 1)/(n+1) <= alpha over u of the unsafe, ascending:
// the k-th smallest with k = floor(alpha (n+1)). The risk is an indicator, so this is conformal risk
// control (Angelopoulos, Bates, Fisch, Lei, Schuster, ICLR 2024) and the split conformal quantile at
// once. There must be at least [fewestUnsafe] of them.
func conformal(ascending []float64, alpha float64) float64 {
	const hair = 1e-9 // 0.1 x 10 is not below 1
	return ascending[int(math.Floor(alpha*float64(len(ascending)+1)+hair))-1]
}

// cheapest is the threshold up to bound whose trials would have cost least: each unsafe one admitted
// costs unsafeCost, each kept improvement that a veto would have forgone costs 1. The loosest wins a tie.
func cheapest(from []outcome, bound float64) float64 {
	var below []outcome
	for _, o := range from {
		if o.U < bound {
			below = append(below, o)
		}
	}
	slices.SortFunc(below, func(a, b outcome) int { return cmp.Compare(b.U, a.U) })
	best, cost, least := bound, 0.0, 0.0
	for i, o := range below { // lower the threshold to o.U, which vetoes o and all above it
		switch {
		case o.Unsafe:
			cost -= unsafeCost
		case o.Better:
			cost++
		}
		last := i+1 == len(below) || below[i+1].U != o.U
		if last && cost < least {
			best, least = o.U, cost
		}
	}
	return best
}

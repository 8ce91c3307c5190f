package validate

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"semantos/internal/tune"
)

// Limits of what is stored.
const (
	MaxID   = 512     // bytes of an id
	MaxText = 8 << 10 // bytes of a summary, a source or a reason in the graph
	MaxBody = 1 << 20 // bytes of a trace, a rollout or a recommendation as JSON
)

func bad(op, subject string, sentinel error, hint, format string, args ...any) error {
	if len(subject) > 120 {
		subject = subject[:120] + "..."
	}
	return &tune.Error{Op: op, Subject: fmt.Sprintf("%q", subject), Hint: hint,
		Err: fmt.Errorf("%w: %s", sentinel, fmt.Sprintf(format, args...))}
}

// Check refuses what can be refused without looking into a store. Errors are *tune.Error of
// tune.ErrUsage, tune.ErrOutOfRange, tune.ErrType or tune.ErrInvariant, with a hint.
func (b Batch) Check() error {
	return cmp.Or(
		first(b.Nodes, node), first(b.Edges, edge), first(b.Events, event), first(b.Traces, trace),
		first(b.Rollouts, rollout), first(b.Recommendations, advice))
}

// first gives the first problem: one is enough to act on, and a file may hold a million.
func first[T any](all []T, check func(T) error) error {
	for _, one := range all {
		if err := check(one); err != nil {
			return err
		}
	}
	return nil
}

// ID refuses what cannot be an id; op says what was tried and what names its role ("node", "edge's from").
func ID(op, what, id string) error {
	const hint = "an id is 1 to 512 bytes of UTF-8 text without control characters"
	switch {
	case id == "":
		return bad(op, id, tune.ErrUsage, hint, "the %s has no id", what)
	case len(id) > MaxID:
		return bad(op, id, tune.ErrUsage, hint, "the id of the %s has %d bytes", what, len(id))
	case !utf8.ValidString(id):
		return bad(op, id, tune.ErrUsage, hint, "the id of the %s is not UTF-8", what)
	}
	for _, r := range id {
		if unicode.IsControl(r) {
			return bad(op, id, tune.ErrUsage, hint, "the id of the %s has the control character %U", what, r)
		}
	}
	return nil
}

func text(op, subject, what, s string) error {
	if len(s) > MaxText {
		return bad(op, subject, tune.ErrOutOfRange, fmt.Sprintf("shorten it to %d bytes", MaxText), "its %s has %d bytes", what, len(s))
	}
	if !utf8.ValidString(s) {
		return bad(op, subject, tune.ErrType, "write it as UTF-8 text", "its %s is not UTF-8", what)
	}
	return nil
}

func node(n tune.Node) error {
	const op = "store node"
	if err := ID(op, "node", n.ID); err != nil {
		return err
	}
	kinds := []tune.NodeKind{tune.NodeTunable, tune.NodeSymptom, tune.NodeSignal, tune.NodeSubsystem,
		tune.NodeWorkload, tune.NodeGoal, tune.NodeFact}
	if !slices.Contains(kinds, n.Kind) {
		return bad(op, n.ID, tune.ErrUnknown, fmt.Sprintf("the kinds are %v", kinds), "its kind is %q", n.Kind)
	}
	return cmp.Or(text(op, n.ID, "summary", n.Summary), text(op, n.ID, "source", n.Source))
}

// EdgeName is how an edge is called in errors.
func EdgeName(from string, typ tune.EdgeType, to string) string {
	return fmt.Sprintf("%s %s %s", from, typ, to)
}

func edgeKey(op, from string, typ tune.EdgeType, to string) error {
	if err := ID(op, "edge's beginning", from); err != nil {
		return err
	}
	if err := ID(op, "edge's end", to); err != nil {
		return err
	}
	types := []tune.EdgeType{tune.DependsOn, tune.ConflictsWith, tune.SynergizesWith, tune.Relieves,
		tune.Affects, tune.PartOf, tune.TypicalOf}
	if !slices.Contains(types, typ) {
		return bad(op, EdgeName(from, typ, to), tune.ErrUnknown, fmt.Sprintf("the types are %v", types), "its type is %q", typ)
	}
	if from == to {
		return bad(op, EdgeName(from, typ, to), tune.ErrInvariant, "name two different nodes", "it leads from a node to itself")
	}
	return nil
}

func share(op, subject, what string, v float64) error {
	if !(v >= 0 && v <= 1) {
		return bad(op, subject, tune.ErrOutOfRange, "give a number from 0 to 1", "its %s is %v", what, v)
	}
	return nil
}

func count(op, subject, what string, v float64) error {
	if !(v >= 0) || math.IsInf(v, 0) {
		return bad(op, subject, tune.ErrOutOfRange, "give a number of observations, 0 or more", "its %s is %v", what, v)
	}
	return nil
}

func edge(e tune.Edge) error {
	const op = "store edge"
	if err := edgeKey(op, e.From, e.Type, e.To); err != nil {
		return err
	}
	name := EdgeName(e.From, e.Type, e.To)
	if e.Sign != 1 && e.Sign != -1 {
		return bad(op, name, tune.ErrOutOfRange, "the sign is 1 (helps, rises) or -1 (harms, falls)", "its sign is %d", e.Sign)
	}
	if err := cmp.Or(share(op, name, "weight", e.Weight), share(op, name, "seed", e.Seed),
		share(op, name, "learned weight", e.Learned), count(op, name, "evidence", e.Evidence),
		text(op, name, "reason", e.Why), text(op, name, "source", e.Source)); err != nil {
		return err
	}
	if !e.Updated.IsZero() {
		return when(op, name, e.Updated)
	}
	return nil
}

func event(e Event) error {
	const op = "store edge event"
	if err := edgeKey(op, e.From, e.Type, e.To); err != nil {
		return err
	}
	name := EdgeName(e.From, e.Type, e.To)
	if e.Event.Trace != "" {
		if err := ID(op, "trace behind it", e.Event.Trace); err != nil {
			return err
		}
	}
	return cmp.Or(when(op, name, e.Event.At), share(op, name, "observation", e.Event.Observed),
		share(op, name, "weight", e.Event.Weight), count(op, name, "count", e.Event.Count),
		count(op, name, "evidence", e.Event.Evidence), text(op, name, "reason", e.Event.Why))
}

// when refuses times that nanoseconds in 64 bits do not hold, an absent one among them.
func when(op, subject string, t time.Time) error {
	if y := t.Year(); y < 1970 || y > 2200 {
		return bad(op, subject, tune.ErrOutOfRange, "give the time it happened, of the years 1970 to 2200", "its time is %v", t)
	}
	return nil
}

func trace(t tune.Trace) error {
	const op = "store trace"
	if err := ID(op, "trace", t.ID); err != nil {
		return err
	}
	if err := cmp.Or(when(op, t.ID, t.Time), share(op, t.ID, "uncertainty", t.U)); err != nil {
		return err
	}
	return body(op, t.ID, t)
}

func rollout(r tune.Rollout) error {
	const op = "store rollout"
	if err := ID(op, "rollout", r.ID); err != nil {
		return err
	}
	return body(op, r.ID, r)
}

func advice(a Advice) error {
	const op = "store recommendation"
	if err := ID(op, "recommendation", a.Recommendation.ID); err != nil {
		return err
	}
	return cmp.Or(when(op, a.Recommendation.ID, a.At), body(op, a.Recommendation.ID, a.Recommendation))
}

func body(op, id string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		// NaN and infinities are what JSON cannot carry.
		return bad(op, id, tune.ErrType, "leave missing numbers out: NaN and infinities are not stored", "%v", err)
	}
	if len(data) > MaxBody {
		return bad(op, id, tune.ErrOutOfRange, "store the numbers that matter only", "it has %d bytes, and at most %d are stored", len(data), MaxBody)
	}
	return nil
}

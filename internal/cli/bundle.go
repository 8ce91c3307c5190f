package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"semantos/internal/tune"
)

// bundle turns what an operator typed into a recommendation: every value typed and in range, every
// target resolved, every current value read, no invariant broken. Nothing is written.
func (r *rooms) bundle(settings []setting) (tune.Recommendation, error) {
	rec := tune.Recommendation{Admissible: true, Risk: tune.RiskLow, Rationale: "Chosen by the operator."}
	for _, s := range settings {
		changes, err := r.changesOf(s)
		if err != nil {
			return rec, err
		}
		rec.Changes = append(rec.Changes, changes...)
		for _, c := range changes {
			if riskier(c.Risk, rec.Risk) {
				rec.Risk = c.Risk
			}
		}
	}
	if c, twice := duplicate(rec.Changes); twice {
		return rec, usage("read --set", changeName(c), "give each tunable one value", "it is set twice")
	}
	if c := rec.Changes; len(c) > 0 && !slices.ContainsFunc(c, func(c tune.Change) bool { return c.Current != c.Proposed }) {
		return rec, usage("apply --set", changeName(c[0]), "give another value, or leave it as it is",
			"it is %s already: there is nothing to try", c[0].Current)
	}
	if err := r.invariants(rec.Changes); err != nil {
		return rec, err
	}
	rec.ID = tune.RecommendationID(rec.Changes)
	rec.Provenance = tune.Provenance{
		Operator: true, Source: "operator",
		Voters: []tune.Voter{{Name: "operator", Agrees: true, Why: "typed the values"}},
	}
	// The operator answers for the knowledge; what stays open is that nobody else was asked.
	rec.Uncertainty = tune.Uncertainty(rec.Provenance.Voters, 1)
	return rec, nil
}

func (r *rooms) change(s setting) (tune.Change, error) {
	t, target, err := r.cat.Lookup(s.Name)
	if err != nil {
		return tune.Change{}, err
	}
	if s.Target != "" {
		if target != "" && target != s.Target {
			return tune.Change{}, usage("read --set", s.Name+"@"+s.Target, "leave the @ out, the name holds the target", "name and target disagree")
		}
		target = s.Target
	}
	if target == "" && t.Templated() {
		return tune.Change{}, usage("read --set", s.Name, "name the instance in full, as semantos tunables lists it", "it stands for many tunables")
	}
	if _, err := t.Parse(s.Value); err != nil {
		return tune.Change{}, err
	}
	if target, err = r.host.Resolve(t, target); err != nil {
		return tune.Change{}, err
	}
	return r.changeOf(t, target, s.Value)
}

// changeOf looks at one target: the value typed and in range, the target writable, its current value.
func (r *rooms) changeOf(t *tune.Tunable, target, value string) (tune.Change, error) {
	proposed, err := t.Parse(value)
	if err != nil {
		return tune.Change{}, err
	}
	if err := r.writable([]tune.Change{{Tunable: t.Instance(target), Target: target}}); err != nil {
		return tune.Change{}, err
	}
	current, err := r.host.Read(t, target)
	if err != nil {
		return tune.Change{}, err
	}
	return tune.Change{
		Tunable: t.Instance(target), Scope: t.Scope, Target: target, Current: current, Proposed: proposed,
		TakesEffect: t.TakesEffect, Risk: t.Risk,
	}, nil
}

// invariants joins what the catalogue says against a bundle.
func (r *rooms) invariants(changes []tune.Change) error {
	broken := r.cat.Invariants(changes, r.current)
	if len(broken) == 0 {
		return nil
	}
	err := broken[0]
	if len(broken) > 1 {
		err = errors.Join(broken...)
	}
	return err
}

// fresh compares a stored recommendation with what stands now: apply refuses one that is stale, and
// one whose values the catalogue no longer accepts.
func (r *rooms) fresh(rec tune.Recommendation) error {
	for _, c := range rec.Changes {
		t, err := r.lookup(c.Tunable)
		if err != nil {
			return err
		}
		if _, err := t.Parse(string(c.Proposed)); err != nil {
			return err
		}
		if err := r.writable([]tune.Change{c}); err != nil {
			return err
		}
		live, err := r.host.Read(t, c.Target)
		switch {
		case errors.Is(err, tune.ErrGone):
			return &tune.Error{Op: "apply", Subject: rec.ID, Err: fmt.Errorf("%s is gone: %w", oneLine(c.Target), tune.ErrStale),
				Hint: "run semantos recommend again"}
		case err != nil:
			return err
		case live != c.Current:
			return &tune.Error{Op: "apply", Subject: rec.ID,
				Err:  fmt.Errorf("%s is now %q, not %q as when it was recommended: %w", changeName(c), live, c.Current, tune.ErrStale),
				Hint: "run semantos recommend again and apply the new id"}
		}
	}
	return r.invariants(rec.Changes)
}

func riskier(a, b tune.Risk) bool {
	rank := map[tune.Risk]int{tune.RiskLow: 0, tune.RiskMedium: 1, tune.RiskHigh: 2}
	return rank[a] > rank[b]
}

// showDiff prints what would be written, exactly.
func showDiff(w io.Writer, rec tune.Recommendation) {
	for _, c := range rec.Changes {
		fmt.Fprintf(w, "%s (%s, takes effect %s)\n- %s\n+ %s\n", changeName(c), c.Scope, c.TakesEffect, c.Current, c.Proposed)
	}
}

package reasoner

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"semantos/internal/tune"
)

// votes collects the independent opinions; who has nothing to go by abstains.
func (s *session) votes(c candidate, ev Evidence) []tune.Voter {
	var out []tune.Voter
	if c.relief != fromGraph {
		out = append(out, tune.Voter{Name: "rules", Agrees: true, Why: "rule " + c.rule.Name + " names this relief"})
	}
	if v, ok := graphVote(c); ok {
		out = append(out, v)
	}
	if v, ok := traceVote(c, ev); ok {
		out = append(out, v)
	}
	return out
}

// graphVote adds up the catalogue's edges: from a tunable to the signals that show the symptom, in the
// direction of the change, and between the tunables of the bundle.
func graphVote(c candidate) (tune.Voter, bool) {
	sum, reasons := 0.0, []string(nil)
	seen := map[string]bool{}
	for _, ch := range c.changes {
		if seen[ch.tunable.Name] {
			continue
		}
		seen[ch.tunable.Name] = true
		for _, a := range ch.tunable.Affects {
			effect := a.Sign * ch.direction()
			if effect == 0 || c.rule.better[a.Signal] == "" {
				continue
			}
			if c.rule.better[a.Signal] == "lower" {
				effect = -effect
			}
			sum += float64(effect) * max(a.Weight, 0.1)
			reasons = append(reasons, fmt.Sprintf("%s affects %s", ch.tunable.Name, a.Signal))
		}
		for _, other := range c.changes {
			switch name := other.tunable.Name; {
			case slices.Contains(ch.tunable.DependsOn, name):
				sum += 0.5
				reasons = append(reasons, ch.tunable.Name+" depends on "+name)
			case slices.Contains(ch.tunable.Synergizes, name):
				sum += 0.5
				reasons = append(reasons, ch.tunable.Name+" goes with "+name)
			case slices.Contains(ch.tunable.Conflicts, name):
				sum--
				reasons = append(reasons, ch.tunable.Name+" conflicts with "+name)
			}
		}
	}
	if len(reasons) == 0 || sum == 0 {
		return tune.Voter{}, false
	}
	return tune.Voter{Name: "graph", Agrees: sum > 0, Why: strings.Join(reasons, "; ")}, true
}

// direction is that of the change; for an interval, whether it grows wider.
func (ch improvement) direction() int {
	from, to, ok := ch.widths()
	if ok {
		return cmp.Compare(to, from)
	}
	return direction(ch.Change)
}

// traceVote asks what came of the same tunables, moved the same way, for the same symptom.
func traceVote(c candidate, ev Evidence) (tune.Voter, bool) {
	if ev.Outcomes == nil {
		return tune.Voter{}, false
	}
	var names []string
	for _, ch := range c.changes {
		names = append(names, ch.Tunable)
	}
	kept, undone := 0, 0
	for _, past := range ev.Outcomes(c.symptom.Name, names) {
		if !sameMove(c, past.Recommendation) {
			continue
		}
		switch {
		case past.State == tune.Committed:
			kept++
		case past.State == tune.RolledBack && slices.Contains([]string{tune.ReasonWorse, tune.ReasonNoEffect, tune.ReasonLimit}, past.Reason):
			undone++
		}
	}
	if kept == undone {
		return tune.Voter{}, false
	}
	return tune.Voter{Name: "traces", Agrees: kept > undone,
		Why: fmt.Sprintf("%d past trials kept, %d put back", kept, undone)}, true
}

// sameMove reports whether a past recommendation moved at least one of the tunables, each shared one
// in the same direction.
func sameMove(c candidate, past tune.Recommendation) bool {
	shared := false
	for _, p := range past.Changes {
		for _, ch := range c.changes {
			if p.Tunable != ch.Tunable {
				continue
			}
			if d := direction(ch.Change); d != direction(p) || d == 0 && p.Proposed != ch.Proposed {
				return false
			}
			shared = true
		}
	}
	return shared
}

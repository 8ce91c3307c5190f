package reasoner

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"semantos/internal/tune"
)

// maxChanges bounds a bundle that many entities share.
const maxChanges = 32

// candidate is a recommendation in the making.
type candidate struct {
	rule    *rule
	relief  int // index in the rule; fromGraph when no rule names the tunable
	symptom tune.Symptom
	changes []improvement
	veto    string
	why     string
	expect  string
	conf    float64
	weight  float64
	others  []tune.Symptom // the same symptom on further entities
}

// Recommend proposes bundles for the symptoms, best first. Equal advice has one entry.
func (r *Reasoner) Recommend(symptoms []tune.Symptom, snap tune.Snapshot, cur Current, ev Evidence) []tune.Recommendation {
	s := r.session(&snap, cur)
	ordered := slices.Clone(symptoms)
	slices.SortStableFunc(ordered, func(a, b tune.Symptom) int {
		return cmp.Or(cmp.Compare(b.Severity, a.Severity), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Entity, b.Entity))
	})
	var found []candidate
	for _, sym := range ordered {
		c := r.byName[sym.Name]
		if c == nil {
			continue
		}
		e := s.entity(c.For, func(e *tune.Entity) bool { return e.ID == sym.Entity })
		if c.For != "" && e == nil {
			continue
		}
		for i := range c.reliefs {
			if cand, ok := s.candidate(c, i, sym, e, ev); ok {
				found = append(found, cand)
			}
		}
		if cand, ok := s.stray(c, sym, e, ev); ok {
			found = append(found, cand)
		}
	}
	found = s.mergeEntities(found)
	out := make([]tune.Recommendation, 0, len(found))
	for _, c := range found {
		if c, ok := s.companions(c); ok {
			out = append(out, s.finish(c, ev))
		}
	}
	return rank(out)
}

func (s *session) candidate(c *rule, i int, sym tune.Symptom, e *tune.Entity, ev Evidence) (candidate, bool) {
	rel := c.reliefs[i]
	v := s.vars(e)
	if rel.when != nil {
		if holds, err := rel.when.Bool(v); err != nil || !holds {
			return candidate{}, false
		}
	}
	out := candidate{rule: c, relief: i, symptom: sym, why: rel.why.text(v), expect: rel.expect.text(v),
		conf: rel.Confidence, weight: rel.Weight}
	for _, ch := range rel.changes {
		got, veto, err := s.propose(ch, e, v, ev)
		if err != nil {
			if ch.Optional {
				continue
			}
			return candidate{}, false
		}
		out.changes = append(out.changes, got...)
		if veto != "" && out.veto == "" {
			out.veto = veto
		}
	}
	return out, len(out.changes) > 0
}

// finish votes, scores and words a candidate.
func (s *session) finish(c candidate, ev Evidence) tune.Recommendation {
	voters := s.votes(c, ev)
	u := tune.Uncertainty(voters, c.conf)
	far := 0.0
	for _, ch := range c.changes {
		far = max(far, s.distance(ch))
	}
	rec := tune.Recommendation{
		Rationale:   rationale(c),
		Uncertainty: u, Admissible: c.veto == "", Veto: c.veto, Risk: tune.RiskLow,
		ExpectedImpact: tune.Impact{Signal: c.symptom.Measure.Signal, Direction: c.symptom.Measure.Better, Summary: c.expect},
		Score:          c.symptom.Severity * c.weight * learned(c, ev) * (1 - u) * strength(far),
		Provenance: tune.Provenance{Symptom: c.symptom.Name, Entity: c.symptom.Entity, Rule: c.rule.Pos.String(),
			Source: c.rule.Source, Voters: voters, Measure: c.symptom.Measure},
	}
	for _, ch := range c.changes {
		rec.Changes = append(rec.Changes, ch.Change)
		if riskRank(ch.Risk) > riskRank(rec.Risk) {
			rec.Risk = ch.Risk
		}
	}
	rec.ID = tune.RecommendationID(rec.Changes)
	return rec
}

// learned is the mean over a bundle of what outcomes made of its relieves edges, at most twice the
// seed: experience on one host ranks, it does not invent.
func learned(c candidate, ev Evidence) float64 {
	if ev.Learned == nil || len(c.changes) == 0 {
		return 1
	}
	sum := 0.0
	for _, ch := range c.changes {
		factor, ok := ev.Learned(c.symptom.Name, ch.tunable.Name)
		if !ok {
			factor = 1
		}
		sum += min(2, max(0, factor))
	}
	return sum / float64(len(c.changes))
}

func rationale(c candidate) string {
	text := strings.TrimSpace(c.symptom.Summary + " " + c.why)
	switch n := len(c.others); {
	case n == 1:
		text += " The same holds for " + c.others[0].Entity + "."
	case n > 1:
		text += fmt.Sprintf(" The same holds for %d more, %s among them.", n, c.others[0].Entity)
	}
	return text
}

func riskRank(r tune.Risk) int {
	return slices.Index([]tune.Risk{tune.RiskLow, tune.RiskMedium, tune.RiskHigh}, r)
}

// rank orders by score and folds what says the same: an equal bundle, other values for the same
// tunables, or a part of a better bundle. What is folded away is named in the survivor's rationale.
func rank(recs []tune.Recommendation) []tune.Recommendation {
	slices.SortStableFunc(recs, func(a, b tune.Recommendation) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Provenance.Symptom, b.Provenance.Symptom))
	})
	var out []tune.Recommendation
next:
	for _, rec := range recs {
		for i := range out {
			if covers(out[i], rec) {
				note(&out[i], rec)
				continue next
			}
		}
		out = append(out, rec)
	}
	return out
}

// covers reports whether b changes nothing that a does not change in the same direction.
func covers(a, b tune.Recommendation) bool {
	same := len(a.Changes) == len(b.Changes)
	for _, want := range b.Changes {
		i := slices.IndexFunc(a.Changes, func(c tune.Change) bool { return c.Tunable == want.Tunable && c.Target == want.Target })
		if i < 0 || a.Changes[i].Proposed != want.Proposed && !(same && direction(want) != 0 && direction(a.Changes[i]) == direction(want)) {
			return false
		}
	}
	return true
}

func note(kept *tune.Recommendation, folded tune.Recommendation) {
	if folded.Provenance.Symptom == kept.Provenance.Symptom || folded.Provenance.Measure.Signal == kept.Provenance.Measure.Signal {
		return // the same trouble seen twice
	}
	also := "It also relieves " + strings.ReplaceAll(folded.Provenance.Symptom, "_", " ") + "."
	if !strings.Contains(kept.Rationale, also) {
		kept.Rationale += " " + also
	}
}

// direction is +1 when the elements that differ grow, -1 when they shrink, 0 for words and for a mixture.
func direction(c tune.Change) int {
	from, errA := c.Current.Numbers()
	to, errB := c.Proposed.Numbers()
	if errA != nil || errB != nil || len(from) != len(to) {
		return 0
	}
	way := 0
	for i := range from {
		d := cmp.Compare(to[i], from[i])
		if d != 0 && way != 0 && d != way {
			return 0
		}
		if d != 0 {
			way = d
		}
	}
	return way
}

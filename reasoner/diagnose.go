package reasoner

import (
	"cmp"
	"slices"

	"semantos/internal/expr"
	"semantos/internal/tune"
)

// leastSeverity keeps a symptom that held but computed no severity from vanishing.
const leastSeverity = 0.01

// Diagnose evaluates every rule on the host or on each entity of its kind. Symptoms come worst first.
// A rule that lacks data on an entity is reported as unseen there.
func (r *Reasoner) Diagnose(snap tune.Snapshot, cur Current) ([]tune.Symptom, []Unseen) {
	s := r.session(&snap, cur)
	var symptoms []tune.Symptom
	var unseen []Unseen
	for _, c := range r.rules {
		miss := map[string]int{} // missing key to place in unseen
		s.each(c.For, func(e *tune.Entity) {
			v := s.vars(e)
			symptom, ok, err := s.judge(c, e, v)
			switch {
			case err != nil:
				key := s.missing(c, v)
				if i, ok := miss[key]; ok {
					unseen[i].Entities++
					return
				}
				miss[key] = len(unseen)
				unseen = append(unseen, Unseen{Rule: c.Name, Kind: c.For, Entity: idOf(e), Entities: 1, Missing: key})
			case ok:
				symptoms = append(symptoms, symptom)
			}
		})
	}
	slices.SortFunc(symptoms, func(a, b tune.Symptom) int {
		return cmp.Or(cmp.Compare(b.Severity, a.Severity), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Entity, b.Entity))
	})
	slices.SortFunc(unseen, func(a, b Unseen) int {
		return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Missing, b.Missing))
	})
	return symptoms, unseen
}

// each visits the entities of a kind by id, whatever order the snapshot has them in.
func (s *session) each(kind string, visit func(*tune.Entity)) {
	if kind == "" {
		visit(nil)
		return
	}
	all := s.snap.Entities[kind]
	order := make([]*tune.Entity, len(all))
	for i := range all {
		order[i] = &all[i]
	}
	slices.SortStableFunc(order, func(a, b *tune.Entity) int { return cmp.Compare(a.ID, b.ID) })
	for _, e := range order {
		visit(e)
	}
}

func idOf(e *tune.Entity) string {
	if e == nil {
		return ""
	}
	return e.ID
}

func (s *session) judge(c *rule, e *tune.Entity, v expr.Vars) (tune.Symptom, bool, error) {
	holds, err := c.when.Bool(v)
	if err != nil || !holds {
		return tune.Symptom{}, false, err
	}
	severity, err := c.severity.Number(v)
	if err != nil {
		return tune.Symptom{}, false, err
	}
	out := tune.Symptom{
		Name: c.Name, Resource: c.Resource, Entity: idOf(e), Severity: min(1, max(leastSeverity, severity)),
		Summary: c.says.text(v), Evidence: s.evidence(c, e, v), Measure: s.measure(c, e),
	}
	if e != nil {
		out.Labels = e.Labels
	}
	return out, true, nil
}

func (s *session) evidence(c *rule, e *tune.Entity, v expr.Vars) []tune.Fact {
	var out []tune.Fact
	for _, name := range c.Show {
		kind := c.For
		value, ok := v.E[name]
		if !ok {
			kind = ""
			value, ok = v.S[name]
		}
		if !ok && e != nil {
			value, ok = s.snap.Signals[name]
		}
		if !ok {
			continue
		}
		sig, _ := s.r.lookupSignal(kind, name)
		out = append(out, tune.Fact{Signal: name, Value: value, Unit: sig.Unit})
	}
	return out
}

// measure names the entity the symptom's signal is read from: the symptom's own, or the one of the
// measure's kind that shares its target (a listener's namespace).
func (s *session) measure(c *rule, e *tune.Entity) tune.Measure {
	m := c.Measure
	switch {
	case m.Kind == "" || e == nil:
	case m.Kind == c.For:
		m.Entity = e.ID
	default:
		label := string(scopeOfKind(m.Kind))
		if of := s.entity(m.Kind, func(x *tune.Entity) bool { return x.Labels[label] != "" && x.Labels[label] == e.Labels[label] }); of != nil {
			m.Entity = of.ID
		}
	}
	return m
}

func scopeOfKind(kind string) tune.Scope {
	switch kind {
	case tune.EntityDevice, tune.EntityNetdev:
		return tune.ScopeDevice
	case tune.EntityListener, tune.EntityUDPSocket:
		return tune.ScopeSocket
	}
	return tune.Scope(kind)
}

// missing names the first key a rule reads that is not there. A guarded key (has_s, has_e, has_cur)
// is named only when nothing else is missing.
func (s *session) missing(c *rule, v expr.Vars) string {
	guarded, fallback := map[string]bool{}, ""
	refs := append(slices.Clone(c.when.Refs()), c.severity.Refs()...)
	for _, ref := range refs {
		if ref.Var == "has_s" || ref.Var == "has_e" {
			guarded[ref.Key] = true
		}
	}
	for _, ref := range refs {
		if s.present(ref, v) {
			continue
		}
		if !guarded[ref.Key] {
			return ref.Key
		}
		if fallback == "" {
			fallback = ref.Key
		}
	}
	return fallback
}

func (s *session) present(ref expr.Ref, v expr.Vars) bool {
	var ok bool
	var err error
	switch ref.Var {
	case "s":
		_, ok = v.S[ref.Key]
	case "e":
		_, ok = v.E[ref.Key]
	case "facts":
		_, ok = v.Facts.Num[ref.Key]
	case "cur":
		_, err = v.Current(ref.Key)
		ok = err == nil
	case "dflt":
		_, err = v.Default(ref.Key)
		ok = err == nil
	default:
		ok = true
	}
	return ok
}

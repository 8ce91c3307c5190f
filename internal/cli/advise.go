package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"semantos/internal/tune"
	"semantos/kb/graph"
	"semantos/kb/knowledge"
	"semantos/kb/recall"
	"semantos/reasoner"
	"semantos/safety/gate"
	"semantos/telemetry"
)

// signalTable finds signals by entity kind and name, for the reasoner's check of rules.
func signalTable() reasoner.SignalTable {
	type key struct{ kind, name string }
	byKey := map[key]tune.Signal{}
	for _, s := range telemetry.Signals() {
		byKey[key{s.Entity, s.Name}] = s
		if s.Histogram { // its name alone is delivered by nobody
			delete(byKey, key{s.Entity, s.Name})
			for _, one := range telemetry.Series(s) {
				byKey[key{one.Entity, one.Name}] = one
			}
		}
	}
	return func(kind, name string) (tune.Signal, bool) {
		s, ok := byKey[key{kind, name}]
		return s, ok
	}
}

// adviser joins reasoner, host and history: from a snapshot to advice.
type adviser struct {
	rooms    *rooms
	reasoner *reasoner.Reasoner
	store    store
	gate     *gate.Gate
	asks     *probes              // serve's: what is seen may switch costly probes on; nil asks for none
	know     *knowledge.Knowledge // serve's: past outcomes, other hosts' too; nil remembers none
	graph    func(ctx context.Context) (*graph.Graph, error)
	offers   *offers
}

func newAdviser(r *rooms, store store, gate *gate.Gate, now func() time.Time) (*adviser, error) {
	re, err := reasoner.New(r.rules, r.cat, reasoner.WithSignals(signalTable()))
	if err != nil {
		return nil, err
	}
	return &adviser{rooms: r, reasoner: re, store: store, gate: gate, offers: &offers{store: store, now: now}}, nil
}

// advise diagnoses a snapshot and recommends. A recommendation the gate would refuse, or whose tunable
// cannot be written here, is kept with the reason.
func (ad *adviser) advise(ctx context.Context, snap tune.Snapshot) (advice, []string) {
	current := ad.rooms.current
	symptoms, unseen := ad.reasoner.Diagnose(snap, current)
	ad.asks.ask(symptoms, unseen)
	recs := ad.reasoner.Recommend(symptoms, snap, current, reasoner.Evidence{
		Outcomes:   func(symptom string, tunables []string) []tune.Rollout { return ad.outcomes(ctx, symptom, tunables) },
		Capability: ad.rooms.host.Probe,
		Learned:    ad.learned(ctx),
	})
	var uncertain []*tune.Recommendation
	for i := range recs {
		if ad.admit(ctx, &recs[i]) {
			uncertain = append(uncertain, &recs[i])
		}
	}
	ad.offers.mark(ctx, uncertain)
	doc := advice{Recommendations: recs, Symptoms: symptoms, Snapshot: snap}
	if doc.Recommendations == nil {
		doc.Recommendations = []tune.Recommendation{}
	}
	if doc.Symptoms == nil {
		doc.Symptoms = []tune.Symptom{}
	}
	return doc, unseenNames(unseen)
}

// recalled is how many outcomes of other hosts are asked for per symptom.
const recalled = 20

// outcomes are the trials of this host's history, and what memory holds of hosts alike. What cannot be
// read is missing: then the trace voter abstains.
func (ad *adviser) outcomes(ctx context.Context, symptom string, tunables []string) []tune.Rollout {
	past, err := ad.store.Outcomes(ctx, symptom, tunables)
	if err != nil || ad.know == nil {
		return past
	}
	hits, err := ad.know.Retrieve(ctx, recall.Query{Symptoms: []string{symptom}, Tunables: tunables, Facts: ad.rooms.facts}, recalled)
	if err != nil {
		return past
	}
	for _, h := range hits {
		t := h.Trace
		known := slices.ContainsFunc(past, func(r tune.Rollout) bool { return r.ID == t.ID })
		if known || !slices.Contains(t.Symptoms, symptom) || !taught(t) {
			continue
		}
		past = append(past, tune.Rollout{ID: t.ID, State: t.State, Reason: t.Reason, Effect: t.Effect, Started: t.Time, Ended: t.Time,
			Recommendation: tune.Recommendation{Changes: t.Changes, Provenance: tune.Provenance{Symptom: symptom}}})
	}
	return past
}

// taught leaves out what says nothing about the change, as the store's own outcomes do.
func taught(t tune.Trace) bool {
	switch t.Reason {
	case tune.ReasonInterrupted, tune.ReasonFault, tune.ReasonYielded, tune.ReasonExpired:
		return false
	}
	return t.State == tune.Committed || t.State == tune.RolledBack
}

// learned tells the reasoner what outcomes made of a relief: its weight now over the seed's. Without a
// graph the rules' own weights stand.
func (ad *adviser) learned(ctx context.Context) func(symptom, tunable string) (float64, bool) {
	if ad.graph == nil {
		return nil
	}
	g, err := ad.graph(ctx)
	if err != nil {
		return nil
	}
	return func(symptom, tunable string) (float64, bool) {
		if g.Retired(symptom, tune.Relieves, tunable) {
			return 0, true // its evidence speaks against it: not the same as none
		}
		e, ok := g.Edge(symptom, tune.Relieves, tunable)
		if !ok || e.Seed <= 0 {
			return 0, false
		}
		return e.Weight / e.Seed, true
	}
}

// admit asks, in the order an apply would, what stands in the way; it reports whether that is the
// uncertainty alone.
func (ad *adviser) admit(ctx context.Context, rec *tune.Recommendation) (uncertain bool) {
	if !rec.Admissible {
		return false
	}
	if err := ad.rooms.writable(rec.Changes); err != nil {
		rec.Admissible, rec.Veto = false, err.Error()
		return false
	}
	decision, err := ad.gate.Check(ctx, *rec)
	if err == nil && !decision.Admitted(false) {
		err = errors.New(decision.Reason())
	}
	if err != nil {
		rec.Admissible, rec.Veto = false, err.Error()
	}
	return decision.Uncertain
}

// writable finds the first change that cannot be written here, with the reason.
func (r *rooms) writable(changes []tune.Change) error {
	for _, c := range changes {
		t, err := r.lookup(c.Tunable)
		if err != nil {
			return err
		}
		if t.Protected {
			return &tune.Error{Op: "change", Subject: c.Tunable, Err: wrapf(tune.ErrNotPermitted, "is protected: catalogued and explained, never written")}
		}
		if err := t.Forbidden(c.Target); err != nil {
			return err
		}
		can := r.host.Probe(t, c.Target)
		if !can.Present || !can.Writable {
			return &tune.Error{Op: "change", Subject: c.Tunable, Err: wrapf(incapable(can), "%s", can.Reason)}
		}
	}
	return nil
}

// incapable is the sentinel behind a capability.
func incapable(c tune.Capability) error {
	switch {
	case !c.Present:
		return tune.ErrUnsupported
	case !c.Readable, strings.Contains(c.Reason, tune.ErrNotPermitted.Error()):
		return tune.ErrNotPermitted
	}
	return tune.ErrReadOnly
}

func unseenNames(all []reasoner.Unseen) []string {
	var out []string
	for _, u := range all {
		out = append(out, fmt.Sprintf("%s (no %s)", u.Rule, u.Missing))
	}
	sort.Strings(out)
	return out
}

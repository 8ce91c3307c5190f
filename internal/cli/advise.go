package cli

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"

	"semantos/internal/tune"
	"semantos/kb/sqlite"
	"semantos/reasoner"
	"semantos/safety"
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
	store    *sqlite.Store
	gate     *safety.Gate
	asks     *probes // serve's: what is seen may switch costly probes on; nil asks for none
}

func newAdviser(r *rooms, store *sqlite.Store, gate *safety.Gate) (*adviser, error) {
	re, err := reasoner.New(r.rules, r.cat, reasoner.WithSignals(signalTable()))
	if err != nil {
		return nil, err
	}
	return &adviser{rooms: r, reasoner: re, store: store, gate: gate}, nil
}

// advise diagnoses a snapshot and recommends. A recommendation the gate would refuse, or whose tunable
// cannot be written here, is kept with the reason.
func (ad *adviser) advise(ctx context.Context, snap tune.Snapshot) (advice, []string) {
	current := ad.rooms.current
	symptoms, unseen := ad.reasoner.Diagnose(snap, current)
	ad.asks.ask(symptoms, unseen)
	recs := ad.reasoner.Recommend(symptoms, snap, current, reasoner.Evidence{
		Outcomes: func(symptom string, tunables []string) []tune.Rollout {
			past, err := ad.store.Outcomes(ctx, symptom, tunables)
			if err != nil {
				return nil // the trace voter abstains
			}
			return past
		},
		Capability: ad.rooms.host.Probe,
	})
	for i := range recs {
		ad.admit(ctx, &recs[i])
	}
	doc := advice{Recommendations: recs, Symptoms: symptoms, Snapshot: snap}
	if doc.Recommendations == nil {
		doc.Recommendations = []tune.Recommendation{}
	}
	if doc.Symptoms == nil {
		doc.Symptoms = []tune.Symptom{}
	}
	return doc, unseenNames(unseen)
}

// admit asks, in the order an apply would, what stands in the way.
func (ad *adviser) admit(ctx context.Context, rec *tune.Recommendation) {
	if !rec.Admissible {
		return
	}
	if err := ad.rooms.writable(rec.Changes); err != nil {
		rec.Admissible, rec.Veto = false, err.Error()
		return
	}
	decision, err := ad.gate.Check(ctx, *rec)
	if err == nil && !decision.Admitted(false) {
		err = errors.New(decision.Reason())
	}
	if err != nil {
		rec.Admissible, rec.Veto = false, err.Error()
	}
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

package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"semantos/internal/tune"
	"semantos/kb/sqlite"
	"semantos/kb/validate"
)

// remember stores rollouts that ended as given, one a minute, the newest now; u rises from 0.2 in steps of 0.02.
func (m *machine) remember(t *testing.T, n int, reason string) {
	t.Helper()
	s, err := sqlite.Open(t.Context(), m.data)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range n {
		at := time.Now().Add(-time.Duration(n-i) * time.Minute)
		id := fmt.Sprintf("%012x", i+1)
		if err := s.SaveRollout(t.Context(), tune.Rollout{ID: id + "-a", State: tune.RolledBack, Reason: reason, Started: at, Ended: at,
			Stages: []tune.Stage{}, Actor: "serve", Recommendation: tune.Recommendation{ID: id, Uncertainty: 0.2 + 0.02*float64(i)}}); err != nil {
			t.Fatal(err)
		}
	}
}

func contains(text string, all ...string) bool {
	text = strings.Join(strings.Fields(text), " ") // lines are folded
	for _, one := range all {
		if !strings.Contains(text, one) {
			return false
		}
	}
	return true
}

// TestCalibrate: from no history, through too little, to a bound; and status and apply go by it.
func TestCalibrate(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	var doc tune.Calibration
	m.run(t, "calibrate", "--json").decode(t, &doc)
	if doc.Calibrated || doc.Needed != 9 || doc.Tau != 0.55 || doc.TauConformal != nil || doc.Previous != nil {
		t.Errorf("no history: %+v", doc)
	}
	if got := m.run(t, "calibrate"); got.exit != 0 || !contains(got.stdout, "uncalibrated, 9 more needed", "0 of them unsafe", "precision not known") {
		t.Errorf("for people: exit %d\n%s%s", got.exit, got.stdout, got.stderr)
	}
	m.remember(t, 8, tune.ReasonWorse)
	m.run(t, "calibrate", "--json").decode(t, &doc)
	if doc.Calibrated || doc.Needed != 1 || doc.Unsafe != 8 {
		t.Errorf("eight unsafe: %+v", doc)
	}
	m.remember(t, 9, tune.ReasonLimit)
	m.run(t, "calibrate", "--json").decode(t, &doc)
	if !doc.Calibrated || doc.Needed != 0 || doc.Tau != 0.2 || *doc.TauConformal != 0.2 {
		t.Errorf("nine unsafe: %+v", doc)
	}
	var status statusDocument
	m.run(t, "status", "--json").decode(t, &status)
	if !status.Calibration.Calibrated || status.Calibration.Tau != 0.2 {
		t.Errorf("status: %+v", status.Calibration)
	}
	if got := m.run(t, "status"); !contains(got.stdout, "Gate: at most 10 % of unsafe", "vetoes: precision not known") {
		t.Errorf("status for people:\n%s", got.stdout)
	}
	// What an operator types has u 0.23, which the bound vetoes now, and TAU alone would not.
	var dry dryRunDocument
	m.run(t, "apply", "--dry-run", "--set", "vm.swappiness=30", "--json").decode(t, &dry)
	if dry.Admissible || !contains(dry.Veto, "is not below 0.20") {
		t.Errorf("dry run: %+v", dry)
	}
	m.run(t, "calibrate", "--alpha", "0.2", "--json").decode(t, &doc)
	if doc.Tau != 0.2 || *doc.TauConformal != 0.22 { // nothing better lies between, and one unsafe does
		t.Errorf("at ALPHA 0.2: %+v", doc)
	}
}

// TestCalibrateInServe: what serve learns of takes effect at once.
func TestCalibrateInServe(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	m.remember(t, 8, tune.ReasonWorse)
	m.serving(t)
	m.ready(t)
	m.remember(t, 9, tune.ReasonWorse)
	var doc tune.Calibration
	m.run(t, "calibrate", "--json").decode(t, &doc)
	if !doc.Calibrated || doc.Tau != 0.2 || doc.Previous == nil || *doc.Previous != 0.55 {
		t.Errorf("serve answers %+v", doc)
	}
	var status statusDocument
	m.run(t, "status", "--json").decode(t, &status)
	if !status.Calibration.Calibrated || status.Calibration.Tau != 0.2 {
		t.Errorf("status of serve: %+v", status.Calibration)
	}
}

// adviceStore holds what was recommended.
type adviceStore struct {
	store
	kept []validate.Advice
	err  error
}

func (s *adviceStore) EachRecommendation(_ context.Context, yield func(validate.Advice) error) error {
	for _, a := range s.kept {
		if err := yield(a); err != nil {
			return err
		}
	}
	return s.err
}

// TestOneOfferADay: the least uncertain is offered, keeps its mark for a day, and a new process knows it.
func TestOneOfferADay(t *testing.T) {
	t.Parallel()
	now, s := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC), &adviceStore{}
	mark := func(o *offers, us ...float64) (offered []int) {
		var recs []*tune.Recommendation
		for i, u := range us {
			recs = append(recs, &tune.Recommendation{ID: fmt.Sprint("r", i), Uncertainty: u})
		}
		o.mark(t.Context(), recs)
		for i, r := range recs {
			if !r.Offered.IsZero() {
				offered = append(offered, i)
				s.kept = []validate.Advice{{At: now, Recommendation: *r}}
			}
		}
		return offered
	}
	want := func(step string, got []int, only int) {
		t.Helper()
		if only < 0 && len(got) != 0 || only >= 0 && (len(got) != 1 || got[0] != only) {
			t.Errorf("%s: offered %v, want %d", step, got, only)
		}
	}
	o := &offers{store: s, now: func() time.Time { return now }}
	want("nothing vetoed", mark(o), -1)
	want("least uncertain", mark(o, 0.8, 0.6, 0.7), 1)
	now = now.Add(23 * time.Hour)
	want("keeps its mark", mark(o, 0.8, 0.6, 0.1), 1)
	want("no second one that day", mark(o, 0.8), -1)
	again := &offers{store: s, now: func() time.Time { return now }}
	want("after a restart", mark(again, 0.8, 0.6), 1)
	now = now.Add(2 * time.Hour)
	want("the next day", mark(o, 0.5, 0.6), 0)
	s.err = errors.New("unreadable")
	want("unreadable", mark(&offers{store: s, now: func() time.Time { return now }}, 0.5), -1)
}

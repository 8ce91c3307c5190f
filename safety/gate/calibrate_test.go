package gate

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"semantos/internal/tune"
)

var calNoon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// pastRollout is a finished rollout of a recommendation with uncertainty u, at minutes before noon.
func pastRollout(id string, minutes int, u float64, state tune.State, reason string) tune.Rollout {
	at := calNoon.Add(-time.Duration(minutes) * time.Minute)
	return tune.Rollout{ID: id, State: state, Reason: reason, Started: at.Add(-time.Minute), Ended: at,
		Recommendation: tune.Recommendation{ID: id, Uncertainty: u}}
}

func TestLabels(t *testing.T) {
	t.Parallel()
	operator := pastRollout("a", 1, 0.3, tune.RolledBack, tune.ReasonWorse)
	operator.Recommendation.Provenance.Operator = true
	back := pastRollout("a", 1, 0.3, tune.RolledBack, tune.ReasonOperator)
	back.Effect, back.Stages = &tune.Effect{Ratio: 0.5}, []tune.Stage{{Share: 100, Verdict: tune.Pass}}
	for _, tc := range []struct {
		name                     string
		r                        tune.Rollout
		labelled, unsafe, better bool
	}{
		{"worse", pastRollout("a", 1, 0.3, tune.RolledBack, tune.ReasonWorse), true, true, false},
		{"limit", pastRollout("a", 1, 0.3, tune.RolledBack, tune.ReasonLimit), true, true, false},
		{"better", pastRollout("a", 1, 0.3, tune.Committed, tune.ReasonBetter), true, false, true},
		{"not worse", pastRollout("a", 1, 0.3, tune.Committed, tune.ReasonNotWorse), true, false, false},
		{"no effect", pastRollout("a", 1, 0.3, tune.RolledBack, tune.ReasonNoEffect), true, false, false},
		{"kept, then taken back", back, true, false, false},
		{"stopped half-way", pastRollout("a", 1, 0.3, tune.RolledBack, tune.ReasonOperator), false, false, false},
		{"vetoed", pastRollout("a", 1, 0.7, tune.Vetoed, "uncertainty"), false, false, false},
		{"unmeasured", pastRollout("a", 1, 0.3, tune.Committed, tune.ReasonUnmeasured), false, false, false},
		{"inconclusive", pastRollout("a", 1, 0.3, tune.RolledBack, tune.ReasonInconclusive), false, false, false},
		{"fault", pastRollout("a", 1, 0.3, tune.RolledBack, tune.ReasonFault), false, false, false},
		{"running", pastRollout("a", 1, 0.3, tune.Running, ""), false, false, false},
		{"typed by an operator", operator, false, false, false},
		{"not a number", pastRollout("a", 1, math.NaN(), tune.RolledBack, tune.ReasonWorse), false, false, false},
	} {
		o, ok := labelled(tc.r)
		if ok != tc.labelled || o.Unsafe != tc.unsafe || o.Better != tc.better {
			t.Errorf("%s: %+v, %v", tc.name, o, ok)
		}
	}
}

func TestConformalRank(t *testing.T) {
	t.Parallel()
	for alpha, want := range map[float64]int{0.1: 9, 0.05: 19, 0.3: 3, 0.5: 1, 0.2: 4} {
		if got := fewestUnsafe(alpha); got != want {
			t.Errorf("at %v %d unsafe outcomes are needed, want %d", alpha, got, want)
		}
	}
	u := make([]float64, 39)
	for i := range u {
		u[i] = float64(i) / 100
	}
	for n, want := range map[int]float64{9: 0, 18: 0, 19: 0.01, 28: 0.01, 29: 0.02, 39: 0.03} {
		if got := conformal(u[:n], 0.1); got != want {
			t.Errorf("n=%d: %v, want %v", n, got, want)
		}
	}
}

func TestCheapestIsNeverLooser(t *testing.T) {
	t.Parallel()
	bad := func(u float64) outcome { return outcome{U: u, Unsafe: true} }
	good := func(u float64) outcome { return outcome{U: u, Better: true} }
	plain := func(u float64) outcome { return outcome{U: u} }
	for _, tc := range []struct {
		name string
		from []outcome
		want float64
	}{
		{"nothing known", nil, 0.5},
		{"nothing harmful", []outcome{good(0.2), plain(0.4)}, 0.5},
		{"harm above all good", []outcome{good(0.1), good(0.2), bad(0.4), plain(0.45)}, 0.4},
		{"worth its harm", []outcome{bad(0.2), good(0.3), good(0.3), good(0.31), good(0.4), good(0.45), good(0.46)}, 0.5},
		{"not worth it", []outcome{bad(0.2), good(0.3), good(0.31)}, 0.2},
		{"equal u falls together", []outcome{good(0.3), good(0.3), bad(0.3), good(0.1)}, 0.3},
		{"what lies above is not looked at", []outcome{bad(0.7), good(0.9)}, 0.5},
	} {
		if got := cheapest(tc.from, 0.5); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

// TestDriftCut: the mean's change is found near where it is, and next to never where there is none.
func TestDriftCut(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 9))
	falseAlarms, found, off := 0, 0, 0.0
	const tries = 400
	for range tries {
		values := make([]float64, 300)
		for i := range values {
			values[i] = number01(r.Float64() < 0.3)
		}
		if driftCut(values) != 0 {
			falseAlarms++
		}
		for i := 200; i < len(values); i++ {
			values[i] = number01(r.Float64() < 0.8)
		}
		if at := driftCut(values); at != 0 {
			found++
			off += math.Abs(float64(at - 200))
		}
	}
	if falseAlarms > 2 || found < tries*9/10 || off/float64(found) > 8 {
		t.Errorf("%d of %d false alarms, %d found, %.1f values off", falseAlarms, tries, found, off/float64(found))
	}
	if driftCut([]float64{0, 0, 0, 0, 1, 1, 1, 1}) != 0 || driftCut(nil) != 0 {
		t.Error("a handful of values is cut")
	}
}

// memoryHistory is newest first; err makes it unreadable.
type memoryHistory struct {
	rollouts []tune.Rollout
	err      error
	asked    int
}

func (h *memoryHistory) Rollouts(_ context.Context, limit int) ([]tune.Rollout, error) {
	h.asked++
	return h.rollouts[:min(limit, len(h.rollouts))], h.err
}

func calibrator(h *memoryHistory, now *time.Time) *Calibrator {
	return NewCalibrator(CalibratorConfig{History: h, Tau: 0.55, Alpha: 0.1, Now: func() time.Time { return *now }})
}

func TestCalibratorFollowsHistory(t *testing.T) {
	t.Parallel()
	now, h := calNoon, &memoryHistory{}
	c := calibrator(h, &now)
	if got := c.Standing(t.Context()); !got.Known || got.Calibrated || got.Tau != 0.55 || got.Needed != 9 || got.TauConformal != nil ||
		!strings.Contains(got.Note, "uncalibrated, 9 more needed") || got.Cuts == nil {
		t.Errorf("no outcomes: %+v", got)
	}
	for i := range 9 {
		h.rollouts = append(h.rollouts, pastRollout(string(rune('a'+i)), 100+i, 0.3+0.02*float64(i), tune.RolledBack, tune.ReasonWorse))
	}
	if got := c.Standing(t.Context()); got.Calibrated || h.asked != 1 {
		t.Errorf("read again within a minute: %+v", got)
	}
	got, err := c.Calibrate(t.Context()) // at once, when it is asked for
	if err != nil || !got.Calibrated || got.Tau != 0.3 || *got.TauConformal != 0.3 || got.Unsafe != 9 || got.BasisKind != "open" || *got.Previous != 0.55 {
		t.Errorf("nine unsafe: %+v, %v", got, err)
	}
	// What met a tighter threshold does not tighten it again while enough met TAU itself.
	tight := pastRollout("z", 1, 0.05, tune.RolledBack, tune.ReasonWorse)
	tight.Gate = &tune.Admission{Tau: 0.3, Calibrated: true}
	h.rollouts = append([]tune.Rollout{tight}, h.rollouts...)
	if got, _ = c.Calibrate(t.Context()); got.Tau != 0.3 || got.Unsafe != 10 || got.Basis != 9 {
		t.Errorf("tightened twice: %+v", got)
	}
	now = now.Add(calibrationAge + time.Hour)
	if got = c.Standing(t.Context()); got.Calibrated || got.Tau != 0.55 || got.Outcomes != 0 {
		t.Errorf("nothing expires: %+v", got)
	}
}

// TestUnreadableHistoryNeverLoosens: the last threshold stands; where none was known, that is said.
func TestUnreadableHistoryNeverLoosens(t *testing.T) {
	t.Parallel()
	now, h := calNoon, &memoryHistory{err: errors.New("the disk is away")}
	c := calibrator(h, &now)
	if got := c.Standing(t.Context()); got.Known || got.Calibrated || got.Tau != 0.55 || !strings.Contains(got.Note, "the disk is away") {
		t.Errorf("never read: %+v", got)
	}
	if d, _ := New(Config{Tau: 0.55, Live: fakeLive(nil), Calibration: c}).Check(t.Context(), tune.Recommendation{}); !strings.Contains(d.Note, "the disk is away") {
		t.Errorf("the gate says %q", d.Note)
	}
	h.err = nil
	for i := range 9 {
		h.rollouts = append(h.rollouts, pastRollout("a", 100+i, 0.2, tune.RolledBack, tune.ReasonLimit))
	}
	now = now.Add(time.Minute)
	if got := c.Standing(t.Context()); !got.Calibrated || got.Tau != 0.2 || got.Fault != "" {
		t.Errorf("readable again: %+v", got)
	}
	h.err, h.rollouts = errors.New("the disk is away"), nil
	now = now.Add(40 * 24 * time.Hour) // even past what expires
	got, err := c.Calibrate(t.Context())
	if err == nil || got.Tau != 0.2 || !got.Calibrated || !strings.Contains(got.Fault, "the disk is away") {
		t.Errorf("unreadable: %+v, %v", got, err)
	}
}

func TestAccuracy(t *testing.T) {
	t.Parallel()
	passed := func(u float64, unsafe bool) outcome {
		return outcome{U: u, Tau: 0.4, Passed: true, Unsafe: unsafe}
	}
	v, r := accuracy([]outcome{
		passed(0.6, true), passed(0.5, true), passed(0.7, false),
		passed(0.2, true),                                              // passed a safe range, not the threshold
		{Rec: "a", Unsafe: true}, {Rec: "a", Unsafe: true}, {Rec: "a"}, // confirmed, then refuted
		{Rec: "b"}, {Rec: "b", Unsafe: true}, // kept at first: missed
		{Rec: "c", Back: true}, // a person took it back: missed
	})
	if v.Checked != 3 || *v.Precision != 2.0/3 || *v.Recall != 2.0/6 {
		t.Errorf("vetoes %v %v %d", *v.Precision, *v.Recall, v.Checked)
	}
	if r.Checked != 2 || *r.Precision != 0.5 || *r.Recall != 6.0/8 {
		t.Errorf("rollbacks %v %v %d", *r.Precision, *r.Recall, r.Checked)
	}
	if v, r := accuracy(nil); v.Precision != nil || v.Recall != nil || r.Precision != nil || r.Recall != nil {
		t.Error("nothing known is a number")
	}
}

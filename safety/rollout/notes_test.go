package rollout

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"semantos/internal/tune"
	"semantos/safety/audit"
)

// minutes keeps what was noted, and may refuse or never answer.
type minutes struct {
	entries []audit.Entry
	err     error
	hangs   bool
}

func (m *minutes) Note(ctx context.Context, e audit.Entry) error {
	m.entries = append(m.entries, e)
	if m.hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return m.err
}

func (m *minutes) said() []string {
	out := make([]string, len(m.entries))
	for i, e := range m.entries {
		out[i] = strings.TrimSuffix(fmt.Sprintf("%s %s", e.Kind, e.Reason), " ")
	}
	return out
}

func TestEveryDecisionIsNoted(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		p95  float64
		set  func(r *trialRun, cancel func())
		want []string
	}{
		{"kept", 6, nil, []string{"chosen advice", "gate admitted", "stage pass", "stage pass", "stage pass", "ended committed"}},
		{"worse", 30, nil, []string{"chosen advice", "gate admitted", "stage fail", "ended rolled_back"}},
		{"vetoed", 6, func(r *trialRun, _ func()) { r.req.Recommendation.Uncertainty = 0.9 },
			[]string{"chosen advice", "gate vetoed", "ended vetoed"}},
		{"passed", 30, func(r *trialRun, _ func()) { r.req.Recommendation.Uncertainty, r.req.Yes, r.req.Set = 0.9, true, true },
			[]string{"chosen operator", "gate passed", "stage fail", "ended rolled_back"}},
		{"refused", 6, func(r *trialRun, _ func()) { r.req.Recommendation.Changes[0].Tunable = "vm.none" },
			[]string{"chosen advice", "gate refused", "ended vetoed"}},
		{"stopped", 6, func(r *trialRun, _ func()) {
			c := make(chan Command, 1)
			r.req.Commands = c
			time.AfterFunc(2500*time.Millisecond, func() { c <- Command{Kind: KindAbort, Actor: "uid 7"} })
		}, []string{"chosen advice", "gate admitted", "aborted operator", "stage inconclusive", "ended rolled_back"}},
		{"held and advanced", 6, func(r *trialRun, _ func()) {
			c := make(chan Command, 1)
			r.req.Hold, r.req.Commands = true, c
			time.AfterFunc(time.Minute, func() { c <- Command{Kind: KindAdvance, Actor: "uid 7"} })
		}, []string{"chosen advice", "gate admitted", "stage pass", "stage pass", "advanced", "stage pass", "ended committed"}},
		{"interrupted", 6, func(_ *trialRun, cancel func()) { time.AfterFunc(3*time.Second, cancel) },
			[]string{"chosen advice", "gate admitted", "aborted interrupted", "stage inconclusive", "ended rolled_back"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, m := newTrialRun(tc.p95), &minutes{}
				r.cfg.Audit = m
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if tc.set != nil {
					tc.set(r, cancel)
				}
				out, _ := r.run(ctx)
				if got := m.said(); !slices.Equal(got, tc.want) {
					t.Errorf("noted %q, want %q", got, tc.want)
				}
				for _, e := range m.entries {
					if err := e.Check(); err != nil || e.Rollout != out.ID || e.Recommendation != out.Recommendation.ID {
						t.Errorf("%+v: %v", e, err)
					}
					if named := e.Kind == audit.Advanced || e.Kind == audit.Aborted && e.Reason == tune.ReasonOperator; (e.Actor == "uid 7") != named {
						t.Errorf("%s is said to be by %q", e.Kind, e.Actor)
					}
				}
			})
		})
	}
}

// TestNotesHaveTheNumbers: a verdict without what it rests on cannot be audited.
func TestNotesHaveTheNumbers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, m := newTrialRun(30), &minutes{}
		r.cfg.Audit = m
		if _, err := r.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		gate, stage, end := m.entries[1].Numbers, m.entries[2].Numbers, m.entries[3].Numbers
		if *gate.U != 0.2 || *gate.Tau != 0.55 || *gate.Calibrated {
			t.Errorf("gate %+v", gate)
		}
		for _, n := range []*audit.Numbers{stage, end} {
			if n.Metric != "p95_ms" || n.Ratio == nil || *n.Ratio < 2 || n.Low == nil || n.High == nil || n.Treated < 1 || n.Untreated < 1 {
				t.Errorf("%+v", n)
			}
		}
		if c := m.entries[0].Changes; len(c) != 1 || c[0].Tunable != "vm.swappiness" || c[0].New != "10" {
			t.Errorf("changes %+v", c)
		}
	})
}

// TestNotesNeverHoldUpARestore: a log that refuses or hangs changes neither the end nor much of its time.
func TestNotesNeverHoldUpARestore(t *testing.T) {
	for name, m := range map[string]*minutes{"refuses": {err: tune.ErrStorage}, "hangs": {hangs: true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				plain, r := newTrialRun(30), newTrialRun(30)
				r.cfg.Audit = m
				start := time.Now()
				if _, err := plain.run(t.Context()); err != nil {
					t.Fatal(err)
				}
				alone := time.Since(start)
				start = time.Now()
				out, err := r.run(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				r.want(t, out, tune.RolledBack, tune.ReasonWorse, "60")
				if extra := time.Since(start) - alone; extra > time.Duration(len(m.entries))*noteTime {
					t.Errorf("notes took %s", extra)
				}
			})
		})
	}
}

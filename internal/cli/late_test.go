package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"semantos/console"
	"semantos/internal/config"
	"semantos/internal/tune"
	"semantos/kb/sqlite"
)

// The maintenance window ends a person's trial too, however long it is held, unless --yes passed it. The budget
// ends only what serve began.
func TestWindowEndsAPersonsTrial(t *testing.T) {
	t.Parallel()
	w, err := config.ParseWindow("11:00-12:30")
	if err != nil {
		t.Fatal(err)
	}
	tr := &trials{budget: newBudget(config.Config{ExposureBudget: time.Minute, MaintenanceWindow: w}), now: func() time.Time { return midday }}
	for name, c := range map[string]struct {
		req     trialRequest
		at, had time.Duration
		said    string
	}{
		"inside":         {trialRequest{}, 29 * time.Minute, time.Second, ""},
		"outside":        {trialRequest{}, 31 * time.Minute, time.Second, "11:00-12:30 has ended"},
		"passed":         {trialRequest{yes: true}, 31 * time.Minute, time.Second, ""},
		"alone":          {trialRequest{alone: true, yes: true}, 31 * time.Minute, time.Second, "11:00-12:30 has ended"},
		"over budget":    {trialRequest{}, 0, time.Hour, ""},
		"alone and over": {trialRequest{alone: true}, 0, time.Hour, "used up"},
	} {
		got := ""
		if may := tr.allowanceOf(c.req); may != nil {
			got = may(midday.Add(c.at), c.had)
		}
		if (got == "") != (c.said == "") || !strings.Contains(got, c.said) {
			t.Errorf("%s: %q, want %q", name, got, c.said)
		}
	}
}

// An abort that comes after the commit says so, and fails: the change stands.
func TestAbortThatCameTooLate(t *testing.T) {
	t.Parallel()
	for state, want := range map[tune.State]int{tune.Committed: exitFailed, tune.RolledBack: exitDone} {
		var out bytes.Buffer
		a := &app{stdout: &out}
		got := exitOf(a.tellAborted(tune.Rollout{ID: "r-1", State: state, Reason: "x", Detail: "y"}))
		if got != want || state == tune.Committed && !strings.Contains(out.String(), "semantos rollback r-1") {
			t.Errorf("%s: exit %d\n%s", state, got, out.String())
		}
	}
}

// A rollout whose whole exposure has begun has nothing left to wait before: it is not said to wait.
func TestNothingIsHeldThatHasNothingToWaitFor(t *testing.T) {
	t.Parallel()
	s := &server{live: &live{}}
	trial, end := s.begin(tune.Rollout{ID: "r-1", Stages: []tune.Stage{{Share: 50}, {Share: 100}}}, nil)
	defer end()
	if _, err := s.Hold(t.Context(), console.HoldRequest{ID: "r-1", Hold: true}); exitOf(err) != exitVetoed || !strings.Contains(err.Error(), "whole exposure has begun") {
		t.Errorf("hold: %v", err)
	}
	if len(trial.commands) != 0 {
		t.Error("it was told to wait")
	}
}

// What is aborted while no serve runs has an end in history, whatever became of it.
func TestAbortedWithoutServeHasAnEnd(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	a := &app{uid: 0, now: time.Now}
	a.cfg.DataDir = m.data
	store, err := a.openStore(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := tune.Rollout{ID: "0123456789ab-1", State: tune.Running, Stages: []tune.Stage{}, Started: time.Now().Add(-time.Minute), BootID: "another boot",
		Recommendation: tune.Recommendation{ID: "0123456789ab", Changes: []tune.Change{{Tunable: "vm.swappiness", Scope: tune.ScopeHost, Target: "host"}}}}
	if err := store.SaveRollout(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if err := store.SaveTrial(t.Context(), sqlite.Trial{Rollout: r.ID, At: time.Now(), Body: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	if got := m.run(t, "abort", r.ID); got.exit != 0 {
		t.Fatalf("exit %d %s", got.exit, got.stderr)
	}
	if h := m.history(t); len(h) != 1 || h[0].Ended.IsZero() || h[0].State != tune.RolledBack {
		t.Errorf("history %+v", h)
	}
}

// A reason nobody could read is refused before anything is frozen.
func TestFreezeWithAnEndlessReason(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	if got := m.run(t, "freeze", "--why", strings.Repeat("x", 2000)); got.exit != exitUsage || !strings.Contains(got.stderr, "shorter --why") {
		t.Errorf("exit %d %s", got.exit, got.stderr)
	}
	if got := m.run(t, "status"); strings.Contains(got.stdout, "rozen") {
		t.Errorf("frozen:\n%s", got.stdout)
	}
}

// AUTO_POLL=off makes each stage of what serve starts by itself wait; nothing of it passes a veto.
func TestAutoPollOffWaits(t *testing.T) {
	t.Parallel()
	for _, on := range []bool{true, false} {
		s := &server{app: &app{now: time.Now}}
		s.app.cfg.AutoPoll = on
		trial, end := s.begin(tune.Rollout{ID: "r-1"}, nil)
		req := unattended{s}.request(tune.Recommendation{ID: "r"}, trial)
		if end(); req.gates == on || !req.alone || req.yes || req.actor != byServe || req.commands == nil {
			t.Errorf("AUTO_POLL %v: %+v", on, req)
		}
	}
}

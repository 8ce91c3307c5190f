package rollout

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"semantos/internal/tune"
)

// memoryKeeper keeps the newest state of one trial, as bytes.
type memoryKeeper struct {
	mu    sync.Mutex
	data  []byte
	saves int
	err   error
	hangs chan struct{}
}

func (k *memoryKeeper) SaveTrial(_ context.Context, s Saved) error {
	if k.hangs != nil {
		<-k.hangs
	}
	data, err := s.Encode()
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil && k.err == nil {
		k.data = data
		k.saves++
	}
	return errors.Join(err, k.err)
}

func (k *memoryKeeper) saved(t *testing.T) Saved {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	s, err := DecodeSaved(k.data)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ended runs a trial until serve ends after some time, and gives how it was left.
func (r *trialRun) ended(t *testing.T, k Keeper, after time.Duration) (tune.Rollout, error) {
	t.Helper()
	ending := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r.req.Keeper, r.req.Ending = k, ending
	time.AfterFunc(after, func() { close(ending); cancel() })
	return r.run(ctx)
}

func (r *trialRun) resume(ctx context.Context, s Saved) (tune.Rollout, error) {
	req := r.req
	req.Recommendation, req.StageTime, req.Ending = tune.Recommendation{}, 0, nil // what is saved counts
	return NewRunner(r.cfg).Resume(ctx, s, req, func(e Event) { r.events = append(r.events, e) })
}

func TestRunnerEndsAndGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, k := newTrialRun(6), &memoryKeeper{}
		left, err := r.ended(t, k, 8*time.Second)
		if err != nil || left.State != tune.Running || !left.Ended.IsZero() || r.writer.live != "60" || !strings.Contains(left.Detail, "goes on") {
			t.Fatalf("left %+v, value %s, %v", left, r.writer.live, err)
		}
		s := k.saved(t)
		stage, readings := len(s.Trial.Stages), len(s.Trial.readings)
		if stage == 0 || readings == 0 || s.Rollout.ID != left.ID {
			t.Fatalf("saved %+v", s)
		}
		time.Sleep(time.Hour)
		out, err := r.resume(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		r.want(t, out, tune.Committed, tune.ReasonBetter, "10")
		if out.ID != left.ID || out.Resumed != 1 || !out.Started.Equal(left.Started) || !slices.Contains(r.writer.log, "reopen") {
			t.Errorf("went on as %+v, log %v", out, r.writer.log)
		}
		for _, st := range out.Stages {
			if st.Seconds > 120 {
				t.Errorf("a stage lasted %.0f s: the hour without serve counts", st.Seconds)
			}
		}
	})
}

// A killed process says nothing: the newest state saved is what goes on.
func TestRunnerGoesOnAfterAKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, k := newTrialRun(6), &memoryKeeper{}
		r.req.Keeper, r.req.Hold = k, true
		c := make(chan Command, 1)
		r.req.Commands = c
		ctx, kill := context.WithCancel(t.Context())
		over := make(chan struct{})
		go func() { defer close(over); _, _ = r.run(ctx) }()
		time.Sleep(time.Minute)
		s := k.saved(t) // as it was at the moment of the kill
		kill()
		<-over
		if s.Trial.State != tune.Held {
			t.Fatalf("saved while %s", s.Trial.State)
		}
		time.AfterFunc(time.Minute, func() { c <- Command{Kind: KindAdvance} })
		r.events = nil
		out, err := r.resume(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		r.want(t, out, tune.Committed, tune.ReasonBetter, "10")
		if !slices.ContainsFunc(r.events, func(e Event) bool { return e.Rollout.State == tune.Held }) {
			t.Error("it was not held again")
		}
	})
}

func TestRunnerDoesNotGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, k := newTrialRun(6), &memoryKeeper{}
		if _, err := r.ended(t, k, 8*time.Second); err != nil {
			t.Fatal(err)
		}
		s := k.saved(t)
		for name, set := range map[string]func(*trialRun, *Saved){
			"the guard refuses": func(r *trialRun, _ *Saved) { r.writer.fail["reopen"] = tune.ErrDrifted },
			"the gate refuses":  func(_ *trialRun, s *Saved) { s.Rollout.Recommendation.Uncertainty = 0.9 },
		} {
			r := newTrialRun(6)
			now := s
			set(r, &now)
			out, _ := r.resume(t.Context(), now)
			if out.State != tune.RolledBack || out.Reason != tune.ReasonInterrupted || out.Ended.IsZero() || slices.Contains(r.writer.log, "apply") {
				t.Errorf("%s: %s %s %s, log %v", name, out.State, out.Reason, out.Detail, r.writer.log)
			}
		}
		// Something else took the value over while serve ended: it is not left to the next one.
		r = newTrialRun(6)
		r.writer.fail["rollback"] = tune.ErrNotPermitted
		if out, err := r.ended(t, k, 8*time.Second); err == nil || out.State != tune.RolledBack {
			t.Errorf("%s %s, %v", out.State, out.Reason, err)
		}
	})
}

// A disk that fails or hangs stops no step and no restore, and is said.
func TestRunnerWithoutADiskToSaveOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, k := newTrialRun(30), &memoryKeeper{err: tune.ErrStorage}
		r.req.Keeper = k
		out, err := r.run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		r.want(t, out, tune.RolledBack, tune.ReasonWorse, "60")
		said := 0
		for _, e := range r.events {
			if strings.Contains(e.Text, "not saved") {
				said++
			}
		}
		if said != 1 {
			t.Errorf("said %d times that it is not saved", said)
		}
		r, k = newTrialRun(30), &memoryKeeper{hangs: make(chan struct{})}
		r.req.Keeper = k
		start := time.Now()
		out, err = r.run(t.Context())
		close(k.hangs)
		if err != nil {
			t.Fatal(err)
		}
		r.want(t, out, tune.RolledBack, tune.ReasonWorse, "60")
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("took %s beside a disk that hangs", took)
		}
	})
}

// A freeze from outside ends a trial at its next write, whatever that is: put back, and no fault.
func TestRunnerObeysAFreeze(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"apply", "revert", "commit"} {
		synctest.Test(t, func(t *testing.T) {
			r := newTrialRun(6)
			frozen := tune.Freeze{By: "uid 7", Why: "release day"}
			time.AfterFunc(3*time.Second, func() { r.writer.refuse(verb, frozen) })
			out, err := r.run(t.Context())
			if err != nil {
				t.Fatal(verb, err)
			}
			r.want(t, out, tune.RolledBack, tune.ReasonInterrupted, "60")
			if !strings.Contains(out.Detail, "release day") {
				t.Errorf("%s: %s", verb, out.Detail)
			}
		})
	}
}

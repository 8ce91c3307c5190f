package cli

import (
	"math"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"semantos/internal/tune"
)

// exposureWitness looks every few milliseconds, on its own, whether one of several like targets has a change.
type exposureWitness struct {
	name string
	read func() string // the kernel's value now

	original string
	mu       sync.Mutex
	changes  []turn
}

type turn struct {
	at      time.Time
	treated bool
}

// fileWitness looks at a file.
func fileWitness(name, path string) *exposureWitness {
	return &exposureWitness{name: name, read: func() string {
		b, err := os.ReadFile(path)
		if err != nil {
			return err.Error()
		}
		return strings.TrimSpace(string(b))
	}}
}

// watchAll has every witness look until stop is called, or the test ends.
func watchAll(t *testing.T, changed string, all []*exposureWitness) (stop func()) {
	t.Helper()
	end := make(chan struct{})
	var watching sync.WaitGroup
	for _, w := range all {
		w.original, w.changes = w.read(), nil
		if w.original == changed {
			t.Fatalf("%s has %s already", w.name, changed)
		}
		watching.Go(func() { w.watch(end, changed) })
	}
	stop = sync.OnceFunc(func() { close(end); watching.Wait() })
	t.Cleanup(stop)
	return stop
}

func (w *exposureWitness) watch(stop <-chan struct{}, changed string) {
	last := false
	for {
		select {
		case <-stop:
			return
		case <-time.After(5 * time.Millisecond):
		}
		if now := w.read() == changed; now != last {
			w.mu.Lock()
			w.changes = append(w.changes, turn{time.Now(), now})
			w.mu.Unlock()
			last = now
		}
	}
}

// treated is how long the target had the change between two moments.
func (w *exposureWitness) treated(from, to time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	var sum time.Duration
	on, since := false, from
	for _, c := range append(w.changes, turn{to, false}) {
		at := c.at
		if at.Before(from) {
			on, since = c.treated, from
			continue
		}
		if at.After(to) {
			at = to
		}
		if on {
			sum += at.Sub(since)
		}
		on, since = c.treated, at
		if !c.at.Before(to) {
			break
		}
	}
	return sum
}

// exposedAsSaid holds each partial stage against what its witnesses integrate: the share that it names and the
// one that it reports, each within what one target has in one slot and the way of a write. slot is a
// slot's length, untreated the slots before the first treated one.
func exposedAsSaid(t *testing.T, r tune.Rollout, all []*exposureWitness, slot time.Duration, untreated int) {
	t.Helper()
	n := float64(len(all))
	from := r.Started
	for i, st := range r.Stages {
		if st.Mode != "targets" {
			t.Fatalf("stage %d is by %s: %s", i, st.Mode, st.Reason)
		}
		to := from.Add(time.Duration(st.Seconds * float64(time.Second)))
		length := to.Sub(from)
		sum := time.Duration(0)
		for _, w := range all {
			sum += w.treated(from, to)
		}
		from = to
		if st.Share == 100 {
			continue // its end alternates with untreated targets
		}
		if i == 0 {
			length -= time.Duration(untreated) * slot
		}
		share := 100 * sum.Seconds() / (n * length.Seconds())
		one := 100 * slot.Seconds() / (n * length.Seconds())
		if allowed := one + st.Share/10 + 1; math.Abs(share-st.Share) > allowed || math.Abs(share-st.Exposed) > allowed {
			t.Errorf("stage of %.0f %%: the witnesses saw %.1f %% (reported %.1f), %.1f either way allowed", st.Share, share, st.Exposed, allowed)
		}
		t.Logf("stage of %.0f %%: witnesses %.1f %%, reported %.1f %%, %.1f s, %s", st.Share, share, st.Exposed, st.Seconds, st.Reason)
	}
	t.Logf("%s (%s): %s", r.State, r.Reason, r.Detail)
}

// asBefore checks that every target has what it had.
func asBefore(t *testing.T, all []*exposureWitness) {
	t.Helper()
	for _, w := range all {
		if now := w.read(); now != w.original {
			t.Errorf("%s is left at %s, was %s", w.name, now, w.original)
		}
	}
}

// endedHarmless checks how a change that does nothing ended: never as harm.
func endedHarmless(t *testing.T, got result, r tune.Rollout) {
	t.Helper()
	if len(r.Stages) < 2 {
		if got.exit == exitNotPermitted && strings.Contains(got.stderr, "ebpf") {
			t.Skip("probes cannot be loaded here: " + got.stderr)
		}
		t.Fatalf("exit %d, %s: %s\n%s", got.exit, r.State, r.Detail, got.stderr)
	}
	if r.State != tune.Committed && r.Reason != tune.ReasonInconclusive {
		t.Errorf("a harmless change: %s (%s) %s", r.State, r.Reason, r.Detail)
	}
}

// endedAsHarm checks that a harmful change was put back as such, before all had it, after little exposure.
func endedAsHarm(t *testing.T, got result, r tune.Rollout, all []*exposureWitness, slot time.Duration) {
	t.Helper()
	if len(r.Stages) == 0 {
		t.Fatalf("exit %d, %s: %s\n%s", got.exit, r.State, r.Detail, got.stderr)
	}
	if r.State != tune.RolledBack || r.Reason != tune.ReasonWorse && r.Reason != tune.ReasonLimit || len(r.Stages) > 2 || r.Stages[0].Mode != "targets" {
		t.Errorf("a harmful change: %s (%s) %s after %d stages", r.State, r.Reason, r.Detail, len(r.Stages))
	}
	end := time.Now()
	sum := time.Duration(0)
	for _, w := range all {
		sum += w.treated(r.Started, end)
	}
	// Two treated slots of one target undo it; amid the noise of a busy machine some more, two or three at a time.
	if sum == 0 || sum > 10*slot {
		t.Errorf("targets had it for %.1f s in all, a slot is %.1f s", sum.Seconds(), slot.Seconds())
	}
	t.Logf("undone after %.1f s, all targets together: %s", sum.Seconds(), r.Detail)
}

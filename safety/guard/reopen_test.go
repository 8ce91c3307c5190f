package guard

import (
	"errors"
	"testing"

	"semantos/internal/tune"
)

// A rollout whose command died is put back by its guard, and goes on under its name with originals taken
// anew; another death in the middle restores those.
func TestReopenedRolloutGoesOn(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx := t.Context()
	b.apply(t, "r1", "q.plain=50")
	if err := b.guard.reopen(ctx, "r1"); !errors.Is(err, tune.ErrUsage) {
		t.Errorf("reopened one that is under way: %v", err)
	}
	b.start() // its guard died: the next one restores
	b.untouched(t)
	if _, err := b.guard.apply(ctx, "r1", changes("q.plain=50"), ""); !errors.Is(err, ErrEnded) {
		t.Errorf("an ended rollout wrote without being reopened: %v", err)
	}
	if err := b.guard.reopen(ctx, "r1"); err != nil {
		t.Fatal(err)
	}
	b.apply(t, "r0", "q.round=8192") // younger by its first write, older than the one reopened
	if err := b.guard.commit(ctx, "r0"); err != nil {
		t.Fatal(err)
	}
	b.apply(t, "r1", "q.plain=70")
	b.start()
	b.expect(t, map[string]string{"q.plain@host": "5", "q.round@host": "8192"})
	if err := b.guard.reopen(ctx, "r1"); err != nil {
		t.Fatal(err)
	}
	b.apply(t, "r1", "q.plain=80")
	if err := b.guard.commit(ctx, "r1"); err != nil {
		t.Fatal(err)
	}
	b.start()
	b.expect(t, map[string]string{"q.plain@host": "80"})
	if m := b.guard.state.Managed(b.boot, true); len(m) != 2 || m[1].Rollout != "r1" || m[1].Original != "5" {
		t.Errorf("managed %+v", m)
	}
	for _, id := range []string{"r1", "r0"} {
		if _, err := b.guard.rollback(t.Context(), id, ""); err != nil {
			t.Fatal(err)
		}
	}
	b.untouched(t)
	if err := b.guard.reopen(ctx, "r1"); !errors.Is(err, tune.ErrUsage) {
		t.Errorf("reopened one that a person put back: %v", err)
	}
	if err := b.guard.reopen(ctx, "r9"); !errors.Is(err, tune.ErrUnknown) {
		t.Errorf("reopened one that never was: %v", err)
	}
}

func TestReopenRefusesWhatIsNotOursAnyMore(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.apply(t, "r1", "q.plain=50")
	b.kernel.values["q.plain@host"] = "33" // somebody else's
	b.start()
	if err := b.guard.reopen(t.Context(), "r1"); !errors.Is(err, tune.ErrDrifted) {
		t.Errorf("reopened what was yielded: %v", err)
	}
	b.expect(t, map[string]string{"q.plain@host": "33"})
	b = newBench(t)
	b.apply(t, "r1", "q.plain=50")
	b.start()
	b.boot = "another"
	b.start()
	if err := b.guard.reopen(t.Context(), "r1"); !errors.Is(err, tune.ErrStale) {
		t.Errorf("reopened one of an earlier boot: %v", err)
	}
}

package guard

import (
	"errors"
	"testing"

	"semantos/internal/tune"
)

// TestForeignWriteBetweenRollouts: what somebody else set between two stacked rollouts is the younger one's
// original, whichever ends first.
func TestForeignWriteBetweenRollouts(t *testing.T) {
	t.Parallel()
	for _, order := range [][]string{{"r1", "r2"}, {"r2", "r1"}} {
		b := newBench(t)
		held(t, b, "r1", "q.plain=50", "n.vec@netns:1=4 5 6")
		b.kernel.values["q.plain@host"], b.kernel.values["n.vec@netns:1"] = "77", "7 7 7"
		held(t, b, "r2", "q.plain=60", "n.vec@netns:1=8 8 8")
		for _, id := range order {
			if _, err := b.guard.rollback(t.Context(), id, ""); err != nil {
				t.Fatal(err)
			}
			b.start()
		}
		b.expect(t, map[string]string{"q.plain@host": "77", "n.vec@netns:1": "7 7 7"})
	}
}

func held(t *testing.T, b *bench, rollout string, specs ...string) {
	t.Helper()
	b.apply(t, rollout, specs...)
	if err := b.guard.commit(t.Context(), rollout); err != nil {
		t.Fatal(err)
	}
}

// TestHandedOnWithNeighbours: of two rollouts that hold the same value, the younger one gets the originals
// of the tunable and of what the kernel moved with it.
func TestHandedOnWithNeighbours(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	held(t, b, "r1", "m.mode=on")
	held(t, b, "r2", "m.mode=on")
	for _, id := range []string{"r1", "r2"} {
		if _, err := b.guard.rollback(t.Context(), id, ""); err != nil {
			t.Fatal(err)
		}
		b.start()
	}
	b.untouched(t)
}

// TestHandedOnWhileTheJournalIsFull: the copies alone know that an original was handed on.
func TestHandedOnWhileTheJournalIsFull(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	held(t, b, "r1", "q.plain=50")
	held(t, b, "r2", "q.plain=60")
	b.disk.Full = "/data"
	if _, err := b.guard.rollback(t.Context(), "r1", ""); err != nil {
		t.Fatal(err)
	}
	b.disk.Full = ""
	b.start()
	b.start()
	if _, err := b.guard.rollback(t.Context(), "r2", ""); err != nil {
		t.Fatal(err)
	}
	b.untouched(t)
}

// TestOneRolloutNeverHoldsBothOfAPair: the second member would be taken for changed by somebody else.
func TestOneRolloutNeverHoldsBothOfAPair(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.apply(t, "r1", "p.bytes=8192")
	_, err := b.guard.apply(t.Context(), "r1", changes("p.ratio=15"), "")
	if !errors.Is(err, tune.ErrInvariant) || tune.Hint(err) == "" {
		t.Errorf("both of a pair: %v", err)
	}
	if _, err := b.guard.rollback(t.Context(), "r1", ""); err != nil {
		t.Fatal(err)
	}
	b.untouched(t)
}

// TestForeignWriteOfAPairBetweenRollouts: of a pair, a zero that the younger one found beside another
// counterpart is somebody else's.
func TestForeignWriteOfAPairBetweenRollouts(t *testing.T) {
	t.Parallel()
	for _, order := range [][]string{{"r1", "r2"}, {"r2", "r1"}} {
		for _, second := range []string{"p.ratio=15", "p.bytes=4096"} {
			b := newBench(t)
			held(t, b, "r1", "p.bytes=8192")
			b.kernel.values["p.bytes@host"], b.kernel.values["p.ratio@host"] = "0", "44"
			held(t, b, "r2", second)
			for _, id := range order {
				if _, err := b.guard.rollback(t.Context(), id, ""); err != nil {
					t.Fatal(err)
				}
				b.start()
			}
			b.expect(t, map[string]string{"p.bytes@host": "0", "p.ratio@host": "44"})
		}
	}
}

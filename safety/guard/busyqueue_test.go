package guard

import (
	"errors"
	"testing"
	"time"

	"semantos/internal/tune"
	"semantos/safety/journal"
)

// TestDamagedJournalTakesNothingFromABusyQueue: the queue cannot say what is wrong with the journal while it
// writes (a log of decisions, just after the start). The change that comes then is refused all the same.
func TestDamagedJournalTakesNothingFromABusyQueue(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.apply(t, "r0", "q.round=8192")
	b.disk.Files[journal.Path("/data")][20] ^= 1
	b.start()
	bk, found := journal.OpenBook(b.disk, "/data", "/run")
	q := newQueue(bk)
	defer q.stop(t.Context())
	if found.BadAt < 0 || !errors.Is(q.Usable(), tune.ErrCorrupt) {
		t.Fatalf("the journal is not damaged: %v", q.Usable())
	}
	b.guard.log = q
	q.mu.Lock()
	time.AfterFunc(20*time.Millisecond, q.mu.Unlock)
	if _, err := b.guard.apply(t.Context(), "r1", changes("q.plain=50"), ""); !errors.Is(err, tune.ErrCorrupt) {
		t.Errorf("a change on a damaged journal: %v", err)
	}
	b.untouched(t)
}

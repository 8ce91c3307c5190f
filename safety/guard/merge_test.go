package guard

import (
	"bytes"
	"strings"
	"testing"

	"semantos/safety/journal"
)

// lose takes the last record out of the journal, as a file system does that fails before it was synced.
func (b *bench) lose(t *testing.T, kind journal.Kind) {
	t.Helper()
	path := journal.Path("/data")
	data := b.disk.Files[path]
	last := bytes.LastIndexByte(data[:len(data)-1], '\n') + 1
	if !strings.Contains(string(data[last:]), `"kind":"`+string(kind)+`"`) {
		t.Fatalf("the last record is %s", data[last:])
	}
	b.disk.Files[path] = data[:last]
}

// harm damages the newest record of a kind in the journal.
func (b *bench) harm(t *testing.T, kind journal.Kind) {
	t.Helper()
	data := b.disk.Files[journal.Path("/data")]
	at := bytes.LastIndex(data, []byte(`"kind":"`+string(kind)+`"`))
	if at < 0 {
		t.Fatalf("no record %s", kind)
	}
	data[at] ^= 1
}

// TestCopyGoesOnWhereTheJournalLost: a value that is tried again is not synced. When the journal's file system
// loses that record, the copy still tells that it stands.
func TestCopyGoesOnWhereTheJournalLost(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.apply(t, "r1", "q.plain=50")
	if _, err := b.guard.revert("r1"); err != nil {
		t.Fatal(err)
	}
	b.apply(t, "r1", "q.plain=50")
	b.lose(t, journal.Again)
	b.start()
	b.untouched(t)
}

// TestDoneIsKnownFromTheCopy: damage that takes a read-back from the journal leaves no doubt about the write, so
// that what somebody else sets is seen as theirs.
func TestDoneIsKnownFromTheCopy(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.apply(t, "r1", "q.plain=50")
	b.kernel.values["q.plain@host"] = "901"
	b.harm(t, journal.Done)
	b.start()
	b.expect(t, map[string]string{"q.plain@host": "901"})
}

// TestEndsAreSaidAgain: what only the copy knew about a rollout that ended on a full disk is in the journal
// after the next start, entry by entry.
func TestEndsAreSaidAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.kernel.fault = func(bool) error { b.disk.Full = "/data"; return nil } // what was written is not recorded
	if _, err := b.guard.apply(t.Context(), "r1", changes("q.plain=50"), ""); err == nil {
		t.Fatal("applied on a full disk")
	}
	b.kernel.fault, b.disk.Full = nil, ""
	b.untouched(t)
	b.start()
	b.kernel.values["q.plain@host"] = "901"
	b.harm(t, journal.Closed)
	b.start()
	b.expect(t, map[string]string{"q.plain@host": "901"})
}

// TestReopenedAfterAFullDisk: the end of a rollout reached only the copy, then the rollout went on. What the copy
// says of its first end does not end it again.
func TestReopenedAfterAFullDisk(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.apply(t, "r1", "q.plain=50")
	b.disk.Full = "/data"
	if _, err := b.guard.rollback(t.Context(), "r1", ""); err != nil {
		t.Fatal(err)
	}
	b.disk.Full = ""
	if err := b.guard.reopen(t.Context(), "r1"); err != nil {
		t.Fatal(err)
	}
	b.apply(t, "r1", "q.plain=50")
	b.start()
	b.untouched(t)
}

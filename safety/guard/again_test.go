package guard

import (
	"testing"

	"semantos/safety/journal"
)

// TestARevertOfNothingWritesNothing: puts back are not counted, so one that finds everything in place leaves no
// trace: whoever asks for it for ever would fill the journal's disk.
func TestARevertOfNothingWritesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.apply(t, "a-1", "q.low=12", "p.bytes=4096")
	if _, err := b.guard.revert("a-1"); err != nil {
		t.Fatal(err)
	}
	before := len(b.disk.Files[journal.Path("/data")]) + len(b.disk.Files[journal.CopyPath("/run", "/data", "a-1")])
	for range 3 {
		out, err := b.guard.revert("a-1")
		if err != nil || len(out) != 2 || out[0].Outcome != Already {
			t.Fatalf("%+v, %v", out, err)
		}
	}
	if after := len(b.disk.Files[journal.Path("/data")]) + len(b.disk.Files[journal.CopyPath("/run", "/data", "a-1")]); after != before {
		t.Errorf("three reverts of nothing wrote %d bytes", after-before)
	}
	b.untouched(t)
}

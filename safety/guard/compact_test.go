package guard

import (
	"fmt"
	"strings"
	"testing"

	"semantos/safety/journal"
)

func TestCompaction(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.apply(t, "keep", "q.plain=50")
	if err := b.guard.commit(t.Context(), "keep"); err != nil {
		t.Fatal(err)
	}
	bk := b.guard.log.(*journal.Book)
	note := strings.Repeat("n", 60_000)
	for i := 0; len(b.disk.Files[journal.Path("/data")]) < 4<<20; i++ {
		id := fmt.Sprintf("r%d", i)
		if _, err := b.guard.apply(t.Context(), id, changes("q.round=8192"), note); err != nil {
			t.Fatal(err)
		}
		if _, err := b.guard.rollback(t.Context(), id, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := bk.Prepare(b.guard.state); err != nil {
		t.Fatal(err)
	}
	if n := len(b.disk.Files[journal.Path("/data")]); n > 4096 {
		t.Errorf("still %d bytes", n)
	}
	b.apply(t, "later", "q.round=12288")
	b.start()
	if s := journal.Scan(b.disk.Files[journal.Path("/data")]); s.BadAt >= 0 {
		t.Error(s.Bad)
	}
	b.expect(t, map[string]string{"q.plain@host": "50", "q.round@host": "4096"})
	if _, err := b.guard.rollback(t.Context(), "keep", ""); err != nil {
		t.Fatal(err)
	}
	b.untouched(t)
}

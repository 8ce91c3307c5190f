package sqlite

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"semantos/internal/tune"
)

// TestNothingIsOpenedByNameLater: once a connection is open, the store works through the files it has. Whatever
// stands under their names by then is neither opened nor made.
func TestNothingIsOpenedByNameLater(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	opened := 0
	rights := func(open func() error) error {
		opened++
		return open()
	}
	for round := range 2 { // a store that is made, and one that is there
		s, err := OpenWith(t.Context(), dir, rights)
		if err != nil {
			t.Fatal(err)
		}
		before := opened
		if err := os.Rename(dir, dir+".away"); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for range 200 { // 20 KiB each: more than one checkpoint
			r := tune.Rollout{ID: "r-1", State: tune.Committed, Detail: strings.Repeat("x", 20<<10)}
			if err := s.SaveRollout(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Rollout(t.Context(), "r-1"); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if made, err := os.ReadDir(dir); err != nil || len(made) > 0 || opened != before {
			t.Errorf("round %d: made %v, opened %d times more, %v", round, made, opened-before, err)
		}
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(dir+".away", dir); err != nil {
			t.Fatal(err)
		}
	}
}

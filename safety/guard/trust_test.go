package guard

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"semantos/internal/tune"
	"semantos/safety/journal"
)

// forge lays a journal that says swappiness was 1 and is held, which a trusting guard would write.
func forge(t *testing.T) (dataDir string) {
	t.Helper()
	dataDir = t.TempDir()
	j, _ := journal.Open(journal.HostDisk{}, journal.Path(dataDir), t.TempDir())
	h := journal.How{Name: "vm.swappiness", Scope: tune.ScopeHost, Method: tune.MethodSysctl, Path: "vm/swappiness", Kind: tune.KindInteger}
	if err := j.Append(true, journal.Record{Kind: journal.Intent, Rollout: "r1", Tunable: "vm.swappiness", Target: "host", How: &h, Old: "1", New: "60", Boot: "b"}); err != nil {
		t.Fatal(err)
	}
	j.Close()
	return dataDir
}

// TestAForgedJournalIsNotBelieved: whoever could have written it, its originals are not restored and no
// change is accepted on it; root's own is believed.
func TestAForgedJournalIsNotBelieved(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: gives files to another user")
	}
	const stranger = 61100
	for _, c := range []struct {
		name  string
		spoil func(dir string) error
		good  bool
	}{
		{"root's own", func(string) error { return nil }, true},
		{"a sticky folder above", func(d string) error { return os.Chmod(d, 0o1770|os.ModeSticky) }, true},
		{"the file is another's", func(d string) error { return os.Chown(journal.Path(d), stranger, stranger) }, false},
		{"the folder is another's", func(d string) error { return os.Chown(filepath.Dir(journal.Path(d)), stranger, stranger) }, false},
		{"the data folder is another's", func(d string) error { return os.Chown(d, stranger, stranger) }, false},
		{"a group may write the file", func(d string) error { return os.Chmod(journal.Path(d), 0o660) }, false},
		{"all may write the folder", func(d string) error { return os.Chmod(filepath.Dir(journal.Path(d)), 0o777) }, false},
		{"the data folder is a group's", func(d string) error { return os.Chmod(d, 0o770) }, false},
		{"the file is a link", func(d string) error {
			other := filepath.Join(d, "other")
			return errors.Join(os.Rename(journal.Path(d), other), os.Symlink(other, journal.Path(d)))
		}, false},
		{"the folder is a link", func(d string) error {
			other := filepath.Join(d, "other")
			return errors.Join(os.Rename(filepath.Dir(journal.Path(d)), other), os.Symlink(other, filepath.Dir(journal.Path(d))))
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := forge(t)
			if err := c.spoil(dir); err != nil {
				t.Fatal(err)
			}
			j, s := journal.Open(journal.HostDisk{}, journal.Path(dir), t.TempDir())
			defer j.Close()
			if got := len(s.Records) == 1 && j.Usable() == nil; got != c.good {
				t.Errorf("%d records, usable %v", len(s.Records), j.Usable())
			}
			if !c.good && (!errors.Is(j.Usable(), tune.ErrCorrupt) || tune.Hint(j.Usable()) == "") {
				t.Errorf("it says %v", j.Usable())
			}
			state, err := readState(dir, t.TempDir())
			if got := len(state.Rollouts) == 1 && err == nil; got != c.good {
				t.Errorf("shown: %d rollouts, %v", len(state.Rollouts), err)
			}
		})
	}
}

// TestTheGuardBoundsItsWrites: applies beyond the pace are refused with a reason; what puts back is not.
func TestTheGuardBoundsItsWrites(t *testing.T) {
	b := newBench(t)
	now := time.Unix(1000, 0)
	s := &guardServer{cfg: Config{Now: func() time.Time { return now }}, engine: b.guard, pace: Config{}.pace()}
	do := func(v verb) error {
		q := wireRequest{Verb: v, Rollout: "r1"}
		if v == verbApply {
			q.Changes = changes("q.plain=6")
		}
		var r wireReply
		return s.perform(t.Context(), q, &r)
	}
	tooFast := 0
	for i := range 200 {
		err := do(verbApply)
		switch {
		case errors.Is(err, errTooFast):
			tooFast++
		case err != nil:
			t.Fatalf("apply %d: %v", i, err)
		case tooFast > 0:
			t.Fatalf("apply %d was taken after %d had been refused", i, tooFast)
		}
		if err := do(verbRevert); err != nil {
			t.Fatalf("revert %d: %v", i, err)
		}
		b.expect(t, map[string]string{"q.plain@host": "5"})
	}
	if tooFast != 140 {
		t.Errorf("%d of 200 at once were refused, want 140", tooFast)
	}
	now = now.Add(time.Second)
	if err := do(verbApply); err != nil {
		t.Errorf("a second later: %v", err)
	}
	if err := do(verbRollback); err != nil {
		t.Errorf("rollback: %v", err)
	}
}

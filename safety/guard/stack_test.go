package guard

import (
	"errors"
	"strings"
	"testing"

	"semantos/internal/tune"
)

// TestStackedOnACounterpart: of a pair, the second rollout writes the other member, which zeroes the
// first's. Whichever ends first, both originals stand at the end.
func TestStackedOnACounterpart(t *testing.T) {
	t.Parallel()
	for _, order := range []string{"r1 r2 r3", "r1 r3 r2", "r2 r1 r3", "r2 r3 r1", "r3 r1 r2", "r3 r2 r1"} {
		t.Run(order, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			for _, spec := range []string{"r1 p.bytes=8192", "r2 p.ratio=15", "r3 p.bytes=4096"} {
				id, change, _ := strings.Cut(spec, " ")
				b.apply(t, id, change)
				if err := b.guard.commit(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			}
			for _, id := range strings.Fields(order) {
				if _, err := b.guard.rollback(t.Context(), id, ""); err != nil {
					t.Fatal(err)
				}
				b.start()
			}
			b.untouched(t)
		})
	}
}

// TestStackedOnANeighbour: the kernel moves m.side with m.mode; a younger rollout holds m.side.
func TestStackedOnANeighbour(t *testing.T) {
	t.Parallel()
	for _, order := range []string{"r1 r2", "r2 r1"} {
		b := newBench(t)
		for _, spec := range []string{"r1 m.mode=on", "r2 m.side=77"} {
			id, change, _ := strings.Cut(spec, " ")
			b.apply(t, id, change)
			if err := b.guard.commit(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		for _, id := range strings.Fields(order) {
			if _, err := b.guard.rollback(t.Context(), id, ""); err != nil {
				t.Fatal(err)
			}
			if order == "r1 r2" && id == "r1" {
				b.expect(t, map[string]string{"m.mode@host": "off", "m.side@host": "77"})
			}
			b.start()
		}
		b.untouched(t)
	}
}

// TestNameOfAnEarlierTarget: a namespace that took the number of one that is gone is not handed the
// other's original.
func TestNameOfAnEarlierTarget(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.apply(t, "r1", "n.vec@netns:1=4 5 6")
	if err := b.guard.commit(t.Context(), "r1"); err != nil {
		t.Fatal(err)
	}
	b.kernel.ids["netns:1"], b.kernel.values["n.vec@netns:1"] = "later", "7 7 7"
	b.apply(t, "r2", "n.vec@netns:1=8 8 8")
	if err := b.guard.commit(t.Context(), "r2"); err != nil {
		t.Fatal(err)
	}
	if got, err := b.guard.rollback(t.Context(), "r1", ""); err != nil || got[0].Outcome != Gone {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := b.guard.rollback(t.Context(), "r2", ""); err != nil {
		t.Fatal(err)
	}
	b.expect(t, map[string]string{"n.vec@netns:1": "7 7 7"})
}

// TestForeignWriteBetweenSlots: after a revert every value but the original is somebody else's, also
// the very one that was tried, and a pair's other member.
func TestForeignWriteBetweenSlots(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ apply, key, foreign string }{
		{"q.plain=50", "q.plain@host", "50"},
		{"p.bytes=8192", "p.ratio@host", "33"},
	} {
		for _, end := range []string{"apply", "rollback", "guard dies"} {
			b := newBench(t)
			b.apply(t, "r1", c.apply)
			if _, err := b.guard.revert("r1"); err != nil {
				t.Fatal(err)
			}
			b.kernel.values[c.key] = tune.Value(c.foreign)
			switch end {
			case "apply":
				if _, err := b.guard.apply(t.Context(), "r1", changes(c.apply), ""); !errors.Is(err, tune.ErrDrifted) {
					t.Errorf("%s: %v", c.apply, err)
				}
			case "rollback":
				if got, err := b.guard.rollback(t.Context(), "r1", ""); err != nil || got[0].Outcome != Yielded {
					t.Errorf("%s: %+v, %v", c.apply, got, err)
				}
			}
			b.start()
			b.expect(t, map[string]string{c.key: c.foreign})
		}
	}
}

// TestFileThatStaysIsHeld: values are back, but the next boot would set them again. Until the file is
// gone the rollout is open, and a later rollback of everything finds it.
func TestFileThatStaysIsHeld(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.apply(t, "r1", "q.plain=50")
	if err := b.guard.commit(t.Context(), "r1"); err != nil {
		t.Fatal(err)
	}
	files, err := b.guard.persist(t.Context(), "r1")
	if err != nil {
		t.Fatal(err)
	}
	b.disk.Stuck = files[0]
	if got, err := b.guard.rollback(t.Context(), "r1", ""); !errors.Is(err, tune.ErrStorage) || len(got) != 1 || got[0].Outcome != PutBack {
		t.Fatalf("rollback: %+v, %v", got, err)
	}
	b.untouched(t)
	b.start()
	m := b.guard.state.Managed(b.boot, true)
	if len(m) != 1 || m[0].State != "persisted" || m[0].Current != "5" {
		t.Errorf("managed %+v", m)
	}
	b.disk.Stuck = ""
	if _, err := b.guard.rollback(t.Context(), "r1", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := b.disk.ReadFile(files[0]); err == nil || len(b.guard.state.Managed(b.boot, true)) != 0 {
		t.Error("file or record stays")
	}
}

// TestAnotherDataFolderHolds: two journals that do not know of each other cannot stack.
func TestAnotherDataFolderHolds(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.apply(t, "r1", "q.plain=50", "p.bytes=8192")
	if err := b.guard.commit(t.Context(), "r1"); err != nil {
		t.Fatal(err)
	}
	b.data = "/elsewhere"
	b.start()
	for _, spec := range []string{"q.plain=60", "p.ratio=15"} {
		_, err := b.guard.apply(t.Context(), "r2", changes(spec), "")
		if !errors.Is(err, tune.ErrConflict) || !strings.Contains(tune.Hint(err), "rollback r1 --data-dir /data") {
			t.Errorf("%s: %v", spec, err)
		}
	}
	b.expect(t, map[string]string{"q.plain@host": "50", "p.bytes@host": "8192"})
	b.apply(t, "r3", "q.round=8192")       // nobody's
	b.kernel.values["q.plain@host"] = "70" // something else's now
	b.apply(t, "r4", "q.plain=60")
	for _, id := range []string{"r4", "r3"} {
		if _, err := b.guard.rollback(t.Context(), id, ""); err != nil {
			t.Fatal(err)
		}
	}
	b.data = "/data"
	b.start()
	b.apply(t, "r5", "q.plain=80") // stacking in its own folder goes on
	for _, id := range []string{"r5", "r1"} {
		if _, err := b.guard.rollback(t.Context(), id, ""); err != nil {
			t.Fatal(err)
		}
	}
	b.expect(t, map[string]string{"q.plain@host": "70", "p.bytes@host": "0", "p.ratio@host": "20"})
}

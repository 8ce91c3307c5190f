package guard

import (
	"errors"
	"math"
	"testing"

	"semantos/internal/tune"
)

// TestOperatorsProtection: the guard refuses what its own configuration protects, and what would move it,
// whatever its parent asks for; what was written before the protection is still put back.
func TestOperatorsProtection(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.apply(t, "a-1", "q.low=12", "m.mode=on")
	cat := b.guard.cat.(fakeCatalogue)
	for _, name := range []string{"q.low", "p.ratio", "m.side", "n.vec"} {
		if !cat[name].Shield(name) {
			t.Fatal(name)
		}
	}
	for _, spec := range []string{"q.low=13", "p.ratio=30", "p.bytes=4096", "m.mode=on", "n.vec@netns:1=4 5 6"} {
		if _, err := b.guard.apply(t.Context(), "b-1", changes(spec), "uid 0"); !errors.Is(err, tune.ErrDenied) {
			t.Errorf("%s: %v", spec, err)
		}
	}
	if _, err := b.guard.apply(t.Context(), "a-1", changes("q.low=13"), "uid 0"); !errors.Is(err, tune.ErrDenied) {
		t.Errorf("another dose: %v", err)
	}
	b.expect(t, map[string]string{"q.low@host": "12", "m.mode@host": "on"})
	if _, err := b.guard.rollback(t.Context(), "a-1", "uid 0"); err != nil {
		t.Error(err)
	}
	b.untouched(t)
}

func TestOperatorsLimit(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.apply(t, "a-1", "q.low=15")
	if err := b.guard.cat.(fakeCatalogue)["q.low"].Narrow(tune.Range{Min: 12, Max: math.Inf(1)}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.guard.apply(t.Context(), "a-1", changes("q.low=11"), "uid 0"); !errors.Is(err, tune.ErrOutOfRange) {
		t.Errorf("below the limit: %v", err)
	}
	b.apply(t, "a-1", "q.low=12")
	if _, err := b.guard.rollback(t.Context(), "a-1", "uid 0"); err != nil { // the original lies below it
		t.Error(err)
	}
	b.untouched(t)
}

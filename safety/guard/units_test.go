package guard

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"semantos/internal/tune"
)

// manyNamespaces gives a bench n like namespaces, and the changes of all of them.
func manyNamespaces(t *testing.T, n int, to string) (*bench, []string) {
	t.Helper()
	b := newBench(t)
	var specs []string
	for i := 10; i < 10+n; i++ {
		target := fmt.Sprintf("netns:%d", i)
		b.kernel.ids[target] = target
		b.kernel.values["n.vec@"+target] = "1 2 3"
		specs = append(specs, "n.vec@"+target+"="+to)
	}
	return b, specs
}

func away(b *bench) (targets []string) {
	for key, v := range b.kernel.values {
		if name, target, _ := strings.Cut(key, "@"); name == "n.vec" && v != "1 2 3" {
			targets = append(targets, target)
		}
	}
	slices.Sort(targets)
	return targets
}

// More like targets than one bundle may have tunables: each drawn set stands, and no other.
func TestManyUnits(t *testing.T) {
	t.Parallel()
	b, specs := manyNamespaces(t, 64, "4 5 6")
	b.apply(t, "r1", specs[3], specs[7])
	if got := away(b); !slices.Equal(got, []string{"netns:13", "netns:17"}) {
		t.Fatalf("treated %v", got)
	}
	b.apply(t, "r1", specs[7], specs[40])
	got, err := b.guard.revert("r1", "netns:13")
	if err != nil || len(got) != 1 || got[0].Target != "netns:13" || got[0].Outcome != PutBack {
		t.Fatalf("revert of one: %+v, %v", got, err)
	}
	if got := away(b); !slices.Equal(got, []string{"netns:17", "netns:50"}) {
		t.Fatalf("treated %v", got)
	}
	b.apply(t, "r1", specs...)
	if err := b.guard.commit(t.Context(), "r1"); err != nil || len(away(b)) != 64 {
		t.Fatalf("commit: %v, %d away", err, len(away(b)))
	}
	if _, err := b.guard.rollback(t.Context(), "r1", "uid 0"); err != nil || len(away(b)) != 0 {
		t.Fatalf("rollback: %v, %v away", err, away(b))
	}
}

func TestTooManyOnOneTarget(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	q := wireRequest{Verb: verbApply, Rollout: "r1"}
	for i := range maxChanges + 1 {
		q.Changes = append(q.Changes, change(fmt.Sprintf("n.vec@netns:%d=1 2 3", i)))
	}
	if err := q.check(); !errors.Is(err, tune.ErrUsage) {
		t.Errorf("%d changes: %v", len(q.Changes), err)
	}
	if err := (wireRequest{Verb: verbCommit, Rollout: "r1", Targets: []string{"netns:1"}}).check(); !errors.Is(err, errProtocol) {
		t.Errorf("targets with commit: %v", err)
	}
	if _, err := b.guard.parts(make([]item, maxBundle+1)); !errors.Is(err, tune.ErrUsage) {
		t.Errorf("%d on one target: %v", maxBundle+1, err)
	}
	b.untouched(t)
}

// A namespace that refuses takes the others back with it.
func TestOneUnitFailsAllAreBack(t *testing.T) {
	t.Parallel()
	b, specs := manyNamespaces(t, 20, "4 5 6")
	delete(b.kernel.ids, "netns:25") // gone before it is identified
	if _, err := b.guard.apply(t.Context(), "r1", changes(specs...), "test"); !errors.Is(err, tune.ErrGone) {
		t.Fatalf("apply: %v", err)
	}
	if got := away(b); len(got) != 0 {
		t.Errorf("left treated: %v", got)
	}
}

// One that vanishes in the middle is let go, and the others can be kept.
func TestUnitThatVanishes(t *testing.T) {
	t.Parallel()
	b, specs := manyNamespaces(t, 4, "4 5 6")
	b.apply(t, "r1", specs...)
	delete(b.kernel.ids, "netns:11")
	delete(b.kernel.values, "n.vec@netns:11")
	got, err := b.guard.revert("r1")
	if err != nil || !slices.ContainsFunc(got, func(r Restored) bool { return r.Target == "netns:11" && r.Outcome == Gone }) {
		t.Fatalf("revert: %+v, %v", got, err)
	}
	b.apply(t, "r1", specs[0], specs[2], specs[3])
	if err := b.guard.commit(t.Context(), "r1"); err != nil {
		t.Fatal(err)
	}
	if got := away(b); !slices.Equal(got, []string{"netns:10", "netns:12", "netns:13"}) {
		t.Errorf("kept %v", got)
	}
}

// Killed at any moment between drawn sets, everything is committed or as before.
func TestCrashBetweenDrawnSets(t *testing.T) {
	t.Parallel()
	for effects := 0; ; effects++ {
		b, specs := manyNamespaces(t, 3, "4 5 6")
		committed := false
		died := b.mayDie(effects, func() {
			b.apply(t, "r1", specs[1])
			b.apply(t, "r1", specs[0], specs[1])
			if _, err := b.guard.revert("r1", "netns:11"); err != nil {
				t.Fatal(err)
			}
			b.apply(t, "r1", specs...)
			if err := b.guard.commit(t.Context(), "r1"); err != nil {
				t.Fatal(err)
			}
			committed = true
		})
		b.start()
		if b.err != nil {
			t.Fatalf("effect %d: %v", effects, b.err)
		}
		ro := b.guard.state.Rollouts["r1"]
		kept := ro != nil && ro.Committed
		if n := len(away(b)); kept && n != 3 || !kept && n != 0 || committed && !kept {
			t.Fatalf("died at effect %d: %d away, committed %v, told %v", effects, n, kept, committed)
		}
		if !died {
			if effects < 40 {
				t.Fatalf("only %d effects: the story is not told", effects)
			}
			return
		}
	}
}

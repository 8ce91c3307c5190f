package guard

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"semantos/internal/tune"
	"semantos/safety/journal"
)

func named(names ...string) []tune.Change {
	out := make([]tune.Change, len(names))
	for i, n := range names {
		name, target, ok := strings.Cut(n, "@")
		if !ok {
			target = "host"
		}
		out[i] = tune.Change{Tunable: name, Target: target}
	}
	return out
}

// kept makes a committed rollout, persisted where asked.
func kept(t *testing.T, b *bench, id string, persist bool, specs ...string) {
	t.Helper()
	b.apply(t, id, specs...)
	if err := b.guard.commit(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if persist {
		if _, err := b.guard.persist(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
}

// One tunable goes back to its original, also over a restart of the guard; the rest stays, in the kernel, in
// the list and in what the next boot reads, and a rollback ends it.
func TestReleaseKeepsTheRest(t *testing.T) {
	t.Parallel()
	for _, persist := range []bool{false, true} {
		b := newBench(t)
		kept(t, b, "r1", persist, "q.plain=50", "q.round=8192", "p.bytes=8192")
		got, err := b.guard.release(t.Context(), "r1", named("q.plain", "p.bytes"), "uid 0")
		if err != nil || len(got) != 2 || got[0].Outcome != PutBack {
			t.Fatalf("persisted %v: %+v, %v", persist, got, err)
		}
		for range 2 {
			b.expect(t, map[string]string{"q.plain@host": "5", "q.round@host": "8192", "p.bytes@host": "0", "p.ratio@host": "20"})
			m := b.guard.state.Managed(b.boot, false)
			if len(m) != 1 || m[0].Tunable != "q.round" || m[0].State != map[bool]string{false: "committed", true: "persisted"}[persist] {
				t.Errorf("persisted %v: managed %+v", persist, m)
			}
			boot := ""
			for path, text := range b.disk.Files {
				if strings.Contains(path, "/etc/") {
					boot += string(text)
				}
			}
			if strings.Contains(boot, "plain") || persist != strings.Contains(boot, "round = 8192") {
				t.Errorf("persisted %v: the next boot reads %s", persist, boot)
			}
			b.start()
		}
		if _, err := b.guard.rollback(t.Context(), "r1", ""); err != nil {
			t.Fatal(err)
		}
		b.untouched(t)
		for path := range b.disk.Files {
			if strings.Contains(path, "/etc/") {
				t.Errorf("%s stays", path)
			}
		}
	}
}

func TestReleaseRefuses(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	kept(t, b, "r1", false, "q.plain=50", "q.round=8192")
	b.apply(t, "r2", "q.low=7", "q.plain=60")
	withValue := named("q.plain")
	withValue[0].Proposed = "5"
	for what, c := range map[string]struct {
		rollout string
		named   []tune.Change
		want    error
	}{
		"a trial": {"r2", named("q.low"), tune.ErrUsage}, "no rollout": {"r9", named("q.low"), tune.ErrUnknown},
		"not its own": {"r1", named("q.low"), tune.ErrUnknown}, "all of it": {"r1", named("q.plain", "q.round"), tune.ErrUsage},
		"twice": {"r1", named("q.plain", "q.plain"), tune.ErrUnknown}, "a value": {"r1", withValue, tune.ErrUsage},
		"what a trial stands on": {"r1", named("q.plain"), tune.ErrConflict},
	} {
		if _, err := b.guard.release(t.Context(), c.rollout, c.named, ""); !errors.Is(err, c.want) || tune.Hint(err) == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
	b.expect(t, map[string]string{"q.plain@host": "60", "q.round@host": "8192"})
	b.disk.Full = "/data"
	if _, err := b.guard.release(t.Context(), "r1", named("q.round"), ""); !errors.Is(err, tune.ErrStorage) {
		t.Errorf("on a full disk: %v", err)
	}
	b.disk.Full = ""
	b.start()
	b.expect(t, map[string]string{"q.plain@host": "50", "q.round@host": "8192"})
}

// A value that something else set is yielded, and is no longer the rollout's.
func TestReleaseYields(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	kept(t, b, "r1", false, "q.plain=50", "q.round=8192")
	b.kernel.values["q.plain@host"] = "99"
	got, err := b.guard.release(t.Context(), "r1", named("q.plain"), "")
	if err != nil || got[0].Outcome != Yielded {
		t.Fatalf("%+v, %v", got, err)
	}
	b.start()
	b.expect(t, map[string]string{"q.plain@host": "99", "q.round@host": "8192"})
}

// TestReleaseCrashes dies at each effect of a release in turn: it has not begun, or the next guard carries it
// through; a value is never away from both, and the files of the next boot agree with it.
func TestReleaseCrashes(t *testing.T) {
	t.Parallel()
	begun := 0
	for effects := 0; ; effects++ {
		b := newBench(t)
		kept(t, b, "r1", true, "q.plain=50", "q.round=8192", "m.mode=on")
		died := b.mayDie(effects, func() {
			if _, err := b.guard.release(t.Context(), "r1", named("q.plain", "m.mode"), ""); err != nil {
				t.Fatal(err)
			}
		})
		b.start()
		if b.err != nil {
			t.Fatalf("effect %d: %v", effects, b.err)
		}
		ro := b.guard.state.Rollouts["r1"]
		inFile := false
		for path, text := range b.disk.Files {
			inFile = inFile || strings.Contains(path, "/etc/") && strings.Contains(string(text), "plain")
		}
		if released := slices.ContainsFunc(ro.Entries, func(en *journal.Entry) bool { return en.Released }); released {
			begun++
			b.expect(t, map[string]string{"q.plain@host": "5", "m.mode@host": "off", "m.side@host": "67", "q.round@host": "8192"})
			if inFile {
				t.Errorf("effect %d: the next boot would set it again", effects)
			}
		} else {
			b.expect(t, map[string]string{"q.plain@host": "50", "m.mode@host": "on", "q.round@host": "8192"})
			if !inFile {
				t.Errorf("effect %d: the next boot would not set it", effects)
			}
		}
		if t.Failed() {
			t.Fatalf("died at effect %d", effects)
		}
		if _, err := b.guard.rollback(t.Context(), "r1", ""); err != nil {
			t.Fatal(err)
		}
		b.untouched(t)
		if !died {
			if effects < 8 || begun < 4 || begun > effects {
				t.Fatalf("%d effects, %d after it began: the story is not told", effects, begun)
			}
			return
		}
	}
}

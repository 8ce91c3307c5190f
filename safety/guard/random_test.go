package guard

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"semantos/internal/tune"
	"semantos/safety/journal"
)

// model is what must be true of the fake machine, told without looking at the journal.
type model struct {
	base map[string]tune.Value // originals
	held []*modelRollout       // committed, oldest first
	open *modelRollout         // the trial
	next int
}

type modelRollout struct {
	id    string
	after map[string]tune.Value // by "name@target"
}

// settled is the value every tunable must have when no trial is open.
func (m *model) settled() map[string]tune.Value {
	out := maps.Clone(m.base)
	for _, r := range m.held {
		maps.Copy(out, r.after)
	}
	// The kernel's own consequences of what is held.
	if v := out["p.bytes@host"]; v != "0" {
		out["p.ratio@host"] = "0"
	}
	if out["m.mode@host"] == "on" {
		out["m.side@host"] = "90"
	}
	return out
}

func (m *model) without(id string) *model {
	c := *m
	c.held = slices.DeleteFunc(slices.Clone(m.held), func(r *modelRollout) bool { return r.id == id })
	return &c
}

func (m *model) with(r *modelRollout) *model {
	c := *m
	c.held = append(slices.Clone(m.held), r)
	return &c
}

// bundles are drawn from: each keeps the invariant and overlaps with others.
func bundles() [][]string {
	return [][]string{
		{"q.plain=50"}, {"q.plain=60", "q.round=9000"}, {"n.vec@netns:1=4 5 6", "q.plain=70"}, {"n.vec@netns:1=7 5 9"},
		{"q.low=100", "q.high=200"}, {"q.high=40", "q.low=30"}, {"p.bytes=8192"}, {"m.mode=on", "q.round=20000"},
		{"q.low=1", "p.bytes=4096", "n.vec@netns:2=0 0 1"},
	}
}

// TestRandomCrashes: whatever is asked, refused, failed or killed between any two effects, every
// tunable ends committed or exactly as before.
func TestRandomCrashes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		b := newBench(rt)
		m := &model{base: maps.Clone(b.kernel.values)}
		for range rapid.IntRange(1, 14).Draw(rt, "steps") {
			step(rt, b, m)
		}
		b.disk.Full, b.disk.Dead = "", ""
		b.start()
		compare(rt, b, m)
		for i := len(m.held) - 1; i >= 0; i-- {
			if _, err := b.guard.rollback(rt.Context(), m.held[i].id, ""); err != nil {
				rt.Fatalf("last rollback: %v", err)
			}
		}
		m.held = nil
		b.start()
		compare(rt, b, m)
	})
}

func compare(rt *rapid.T, b *bench, allowed ...*model) {
	rt.Helper()
	if b.err != nil {
		rt.Fatalf("recovery: %v", b.err)
	}
	for _, m := range allowed {
		if maps.Equal(m.settled(), b.kernel.values) {
			return
		}
	}
	for key, v := range allowed[0].settled() {
		if b.kernel.values[key] != v {
			rt.Errorf("%s is %q, want %q", key, b.kernel.values[key], v)
		}
	}
	rt.Fatalf("held %d, open %v", len(allowed[0].held), allowed[0].open)
}

// step does one thing, and may die in it.
func step(rt *rapid.T, b *bench, m *model) {
	op := rapid.SampledFrom([]string{"apply", "apply", "again", "revert", "commit", "commit", "rollback", "release", "kill", "full", "repair"}).Draw(rt, "op")
	budget := rapid.IntRange(-40, 40).Draw(rt, "effects before the crash") // most often none
	if budget < 0 {
		budget = 1 << 30
	}
	switch op {
	case "kill":
		m.open = nil
		restart(rt, b)
		compare(rt, b, m)
		return
	case "full":
		b.disk.Full = "/data"
		return
	case "repair":
		b.disk.Full = ""
		return
	}
	died := b.mayDie(budget, func() { b.act(rt, m, op) })
	if !died {
		return
	}
	restart(rt, b)
	settle(rt, b, m, op)
}

// act performs op on guard and model; the model moves only after the guard answered.
func (b *bench) act(rt *rapid.T, m *model, op string) {
	ctx := rt.Context()
	switch op {
	case "apply", "again":
		r := m.open
		if r == nil {
			m.next++
			r = &modelRollout{id: fmt.Sprintf("r%d", m.next), after: map[string]tune.Value{}}
		}
		specs := rapid.SampledFrom(bundles()).Draw(rt, "bundle")
		m.open = r // from here on it may exist
		got, err := b.guard.apply(ctx, r.id, changes(specs...), "")
		if err != nil {
			m.open, r.after = nil, nil
			if _, err := b.guard.rollback(rt.Context(), r.id, ""); err != nil && !errors.Is(err, tune.ErrUnknown) {
				rt.Fatalf("rollback after a failed apply: %v", err)
			}
			compare(rt, b, m)
			return
		}
		for _, a := range got {
			r.after[a.Change.Tunable+"@"+a.Change.Target] = a.ReadBack
		}
	case "revert":
		if m.open != nil {
			if _, err := b.guard.revert(m.open.id); err != nil && b.disk.Full == "" {
				rt.Fatalf("revert: %v", err)
			}
			compare(rt, b, m)
		}
	case "commit":
		if m.open != nil && b.guard.commit(ctx, m.open.id) == nil {
			m.held, m.open = append(m.held, m.open), nil
			compare(rt, b, m)
		}
	case "release":
		if r := releasable(m); r != nil && m.open == nil && b.disk.Full == "" {
			key := rapid.SampledFrom(slices.Sorted(maps.Keys(r.after))).Draw(rt, "let go")
			if _, err := b.guard.release(ctx, r.id, named(key), ""); err != nil {
				rt.Fatalf("release: %v", err)
			}
			delete(r.after, key)
			compare(rt, b, m)
		}
	case "rollback":
		if m.open != nil {
			if _, err := b.guard.rollback(rt.Context(), m.open.id, ""); err != nil {
				rt.Fatalf("rollback: %v", err)
			}
			m.open = nil
			compare(rt, b, m)
		} else if len(m.held) > 0 && b.disk.Full == "" {
			r := rapid.SampledFrom(m.held).Draw(rt, "held")
			if _, err := b.guard.rollback(rt.Context(), r.id, ""); err != nil {
				rt.Fatalf("rollback: %v", err)
			}
			*m = *m.without(r.id)
			compare(rt, b, m)
		}
	}
}

// settle says what may be true after a death in op, and makes the model follow what is.
func settle(rt *rapid.T, b *bench, m *model, op string) {
	open := m.open
	m.open = nil
	switch {
	case op == "commit" && open != nil:
		if ro := b.guard.state.Rollouts[open.id]; ro != nil && ro.Committed {
			*m = *m.with(open)
		}
	case op == "release":
		for _, r := range m.held {
			for _, en := range b.guard.state.Rollouts[r.id].Entries {
				if en.Released {
					delete(r.after, en.Tunable+"@"+en.Target)
				}
			}
		}
	case op == "rollback" && open == nil:
		for _, r := range slices.Clone(m.held) {
			ro := b.guard.state.Rollouts[r.id]
			if ro != nil && ro.Closed {
				*m = *m.without(r.id)
				continue
			}
			// Killed in the middle, some of it may be back: asked again, all of it is.
			if halfBack(b, ro) {
				if _, err := b.guard.rollback(rt.Context(), r.id, ""); err != nil {
					rt.Fatalf("rollback again: %v", err)
				}
				*m = *m.without(r.id)
			}
		}
	}
	compare(rt, b, m)
}

// releasable is the oldest rollout that holds more than one tunable.
func releasable(m *model) *modelRollout {
	for _, r := range m.held {
		if len(r.after) > 1 {
			return r
		}
	}
	return nil
}

func halfBack(b *bench, ro *journal.Rollout) bool {
	for _, en := range ro.Entries {
		if b.guard.state.Above(en) == nil && b.kernel.values[en.Tunable+"@"+en.Target] != en.Last {
			return true
		}
	}
	return false
}

// mayDie runs fn and kills it after so many effects.
func (b *bench) mayDie(effects int, fn func()) (died bool) {
	hook := func() {
		if effects--; effects < 0 {
			panic(crash{})
		}
	}
	b.kernel.hook, b.disk.Hook = hook, hook
	defer func() {
		b.kernel.hook, b.disk.Hook = func() {}, func() {}
		switch r := recover(); r {
		case nil:
		case crash{}:
			died = true
		default:
			panic(r)
		}
	}()
	fn()
	return false
}

// restart starts guards that may die while they recover, and at last one that does not.
func restart(rt *rapid.T, b *bench) {
	for range rapid.IntRange(0, 2).Draw(rt, "deaths while recovering") {
		b.mayDie(rapid.IntRange(0, 20).Draw(rt, "effects of recovery"), b.start)
	}
	b.start()
}

// TestCrashAtEveryEffect walks one whole story and dies at each of its effects in turn.
func TestCrashAtEveryEffect(t *testing.T) {
	t.Parallel()
	for effects := 0; ; effects++ {
		b := newBench(t)
		committed := false
		died := b.mayDie(effects, func() {
			for _, dose := range []string{"20", "35", "50"} {
				b.apply(t, "r1", "q.plain="+dose, "p.bytes=8192", "m.mode=on", "n.vec@netns:1=4 5 6")
				if _, err := b.guard.revert("r1"); err != nil {
					t.Fatal(err)
				}
			}
			b.apply(t, "r1", "q.plain=50", "p.bytes=8192", "m.mode=on", "n.vec@netns:1=4 5 6")
			if err := b.guard.commit(t.Context(), "r1"); err != nil {
				t.Fatal(err)
			}
			committed = true
		})
		b.start()
		if b.err != nil {
			t.Fatalf("effect %d: %v", effects, b.err)
		}
		if ro := b.guard.state.Rollouts["r1"]; ro != nil && ro.Committed {
			b.expect(t, map[string]string{"q.plain@host": "50", "p.bytes@host": "8192", "m.mode@host": "on", "n.vec@netns:1": "4 5 6"})
		} else if committed {
			t.Fatalf("effect %d: the commit was forgotten", effects)
		} else {
			b.untouched(t)
		}
		if t.Failed() {
			t.Fatalf("died at effect %d", effects)
		}
		if !died {
			if effects < 60 {
				t.Fatalf("only %d effects: the story is not told", effects)
			}
			return
		}
	}
}

// TestRandomBytesInJournal: damage anywhere never makes a restore impossible while the run folder's
// copy stands, and never passes unseen for new changes.
func TestRandomBytesInJournal(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 5))
	for range 300 {
		b := newBench(t)
		b.apply(t, "r0", "q.round=8192")
		if err := b.guard.commit(t.Context(), "r0"); err != nil {
			t.Fatal(err)
		}
		b.apply(t, "r1", "q.plain=50", "n.vec@netns:1=4 5 6", "m.mode=on")
		path := journal.Path("/data")
		data := b.disk.Files[path]
		at := rng.IntN(len(data))
		data[at] ^= byte(1 + rng.IntN(255))
		b.start()
		b.expect(t, map[string]string{"q.plain@host": "5", "n.vec@netns:1": "1 2 3", "m.mode@host": "off", "m.side@host": "67", "q.round@host": "8192"})
		_, err := b.guard.apply(t.Context(), "r2", changes("q.plain=60"), "")
		if at == len(data)-1 { // the last line end: an unfinished record, as a crash leaves it
			continue
		}
		if !errors.Is(err, tune.ErrCorrupt) || tune.Hint(err) == "" {
			t.Fatalf("byte %d: apply on a damaged journal: %v", at, err)
		}
		if _, err := b.guard.rollback(t.Context(), "r0", ""); err != nil {
			t.Fatalf("byte %d: %v", at, err)
		}
		b.untouched(t)
	}
}

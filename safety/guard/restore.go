package guard

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"semantos/internal/tune"
	"semantos/safety/journal"
)

// putBackAll compares and restores every entry of a rollout, newest first, in an order that keeps the
// invariants where there is one. What fails is tried again after the others: it may have needed them.
// kind is what a success is recorded as.
func (g *engine) putBackAll(ro *journal.Rollout, kind journal.Kind, targets ...string) ([]Restored, []journal.Record) {
	var todo []*journal.Entry
	for _, en := range ro.Entries {
		if en.End == "" && (len(targets) == 0 || slices.Contains(targets, en.Target)) {
			todo = append(todo, en)
		}
	}
	return g.putBackSome(todo, kind)
}

func (g *engine) putBackSome(todo []*journal.Entry, kind journal.Kind) ([]Restored, []journal.Record) {
	slices.Reverse(todo)
	todo = g.restoreOrder(todo)
	results := map[*journal.Entry]Restored{}
	for pending := todo; len(pending) > 0; {
		var failed []*journal.Entry
		for _, en := range pending {
			r := g.putBack(en, kind == journal.Restored)
			results[en] = r
			if r.Outcome == Failed {
				failed = append(failed, en)
			}
		}
		if len(failed) == len(pending) {
			break
		}
		pending = failed
	}
	out := make([]Restored, 0, len(todo))
	for _, en := range todo {
		out = append(out, results[en])
	}
	g.answer(out) // after all is back: who wrote may take a moment to find out
	var recs []journal.Record
	for i, en := range todo {
		r := out[i]
		if kind == journal.Reverted && r.Outcome == Already && !en.Away && !en.InDoubt() {
			continue // it was reverted before: asked again and again it must not fill the disk, nor push the log out of its retention
		}
		g.sayPutBack(r, kind)
		rec := journal.Record{Kind: kind, Rollout: en.Rollout, Tunable: en.Tunable, Target: en.Target, ReadBack: r.Value, Reason: r.Detail}
		switch r.Outcome {
		case Failed:
			continue
		case Yielded:
			rec.Kind = journal.Yielded
		case Gone:
			rec.Kind = journal.Gone
		case HandedOn:
			recs = append(recs, rebase(en, g.state.Above(en)))
		case PutBack:
			if kind == journal.Restored {
				recs = append(recs, g.rebaseBeside(en)...)
			}
		}
		recs = append(recs, rec)
	}
	return out, recs
}

// rebase gives a younger rollout the original of the older one below it. Where the younger one wrote the
// counterpart, the pair's two originals change places.
func rebase(en, up *journal.Entry) journal.Record {
	r := journal.Record{Kind: journal.Rebased, Rollout: up.Rollout, Tunable: up.Tunable, Target: up.Target, Old: en.Old, Pair: en.Pair}
	if up.Tunable != en.Tunable {
		r.Old, r.Pair = en.Pair.Value, &journal.Beside{Tunable: en.Tunable, Target: en.Target, How: en.How, Value: en.Old}
		return r
	}
	for _, a := range en.Also { // what our write had moved was no original either
		if b := up.AlsoOf(a); b != nil && b.Value == en.After[a.Tunable] {
			r.Also = append(r.Also, a)
		}
	}
	return r
}

// takenFrom is what a younger entry found in our place, and whether we can have left it.
func takenFrom(en, up *journal.Entry) (tune.Value, bool) {
	if en.Pair == nil || up.Pair == nil {
		return up.Old, aggregate(en) || en.Ours(up.Old)
	}
	taken, beside := up.Old, up.Pair.Value
	if up.Tunable != en.Tunable {
		taken, beside = beside, taken
	}
	if taken == en.Old { // of a pair also the other member tells
		return taken, beside == en.Pair.Value
	}
	return taken, en.Ours(taken) && zero(beside)
}

// rebaseBeside does the same for a neighbour that a younger rollout holds: what it took for the original
// was moved there by the value that has just gone.
func (g *engine) rebaseBeside(en *journal.Entry) []journal.Record {
	var recs []journal.Record
	for _, a := range en.Also {
		up := g.holder(a.Tunable, a.Target, en)
		if up != nil && up.Old == en.After[a.Tunable] && up.Old != a.Value {
			recs = append(recs, journal.Record{Kind: journal.Rebased, Rollout: up.Rollout, Tunable: up.Tunable, Target: up.Target, Old: a.Value})
		}
	}
	return recs
}

// putBack restores one entry if it is still ours.
func (g *engine) putBack(en *journal.Entry, final bool) Restored {
	r := Restored{Tunable: en.Tunable, Scope: en.How.Scope, Target: en.Target, Rollout: en.Rollout}
	fail := func(err error) Restored {
		r.Outcome, r.Detail = Failed, err.Error()
		if missing(err) {
			r.Outcome = Gone
		}
		return r
	}
	if up := g.state.Above(en); final && up != nil {
		r.Outcome, r.Found, r.Detail = HandedOn, up.Last, "held by rollout "+up.Rollout
		if up.Tunable != en.Tunable {
			r.Found, r.Detail = "0", fmt.Sprintf("its counterpart %s is held by rollout %s", up.Tunable, up.Rollout)
		}
		r.Value = r.Found
		if taken, ours := takenFrom(en, up); !ours {
			r.Outcome = Yielded
			r.Detail = fmt.Sprintf("something else set it to %q before rollout %s took it; it was left at %q, before that %q", taken, up.Rollout, en.Last, en.Old)
			g.ask(&r, en, taken, "", true)
		}
		return r
	}
	if err := g.same(en); err != nil {
		return fail(err)
	}
	t := g.tunable(en.Tunable, en.How)
	live, err := g.act.Read(t, en.Target)
	if err != nil {
		return fail(err)
	}
	r.Found, r.Value = live, live
	pairLive, err := g.pairLive(en)
	if err != nil {
		return fail(err)
	}
	atOld := live == en.Old && (en.Pair == nil || pairLive == en.Pair.Value)
	inDoubt := en.InDoubt()
	switch {
	case atOld && !inDoubt && !en.Away:
		r.Outcome = Already
		return r
	case !atOld && !inDoubt && !aggregate(en) && !g.left(en, live, pairLive):
		r.Outcome = Yielded
		r.Detail = fmt.Sprintf("something else set it to %q; it was left at %q, before that %q", live, en.Last, en.Old)
		if !en.Away {
			r.Detail = fmt.Sprintf("something else set it to %q after it was put back to %q", live, en.Old)
		}
		g.ask(&r, en, live, pairLive, false)
		return r
	}
	also := g.readAlso(en)
	if !atOld || aggregate(en) {
		if err := patiently(func() error { return g.restoreOne(en, t) }); err != nil {
			return fail(err)
		}
	}
	r.Outcome, r.Value = PutBack, en.Old
	if atOld && !aggregate(en) {
		r.Outcome = Already
	}
	if err := g.restoreAlso(en, also, atOld); err != nil {
		r.Outcome, r.Detail = Failed, err.Error()
	}
	return r
}

// left reports whether the live value is one of ours; writing one member of a pair zeroes the other, so
// a pair's original beside another counterpart is somebody else's. So is everything but the original once
// that was put back, even the value we had tried.
func (g *engine) left(en *journal.Entry, live, pairLive tune.Value) bool {
	if !en.Ours(live) || !en.Away && !en.InDoubt() && live != en.Old {
		return false
	}
	return en.Pair == nil || live != en.Old || pairLive == en.Pair.Value
}

// same checks that the target is the one that was written, not a later one of its name. Over a boot
// identities change and only what is persisted is still held.
func (g *engine) same(en *journal.Entry) error {
	if en.Boot != g.boot {
		return nil
	}
	id, err := g.act.Identity(en.How.Scope, en.Target)
	if err != nil {
		return err
	}
	if !id.Equal(en.Identity) {
		return fmt.Errorf("%s is not the one that was changed: %w", en.Target, tune.ErrGone)
	}
	return nil
}

func (g *engine) pairLive(en *journal.Entry) (tune.Value, error) {
	if en.Pair == nil {
		return "", nil
	}
	return g.act.Read(g.tunable(en.Pair.Tunable, en.Pair.How), en.Pair.Target)
}

// aggregate reports that what reads is the strictest of several requests, of which ours is one: it
// cannot be compared, and our own request is dropped without touching another's.
func aggregate(en *journal.Entry) bool { return en.How.Method == tune.MethodDMALatency }

// pairRestorer restores both members of a pair at once; internal/host can.
type pairRestorer interface {
	RestorePair(t *tune.Tunable, target string, original, counterpart tune.Value) (tune.Value, error)
}

// A block device's queue answers EBUSY while its scheduler is being switched: some milliseconds.
const busyTries, busyPause = 8, 4 * time.Millisecond

// patiently tries again what is busy for a moment, so that an original does not have to wait for the next
// command.
func patiently(do func() error) error {
	for try := 1; ; try++ {
		err := do()
		if !errors.Is(err, syscall.EBUSY) || try == busyTries {
			return err
		}
		time.Sleep(busyPause)
	}
}

// restoreOne writes the original: of a pair, the member that was active, which zeroes the other.
func (g *engine) restoreOne(en *journal.Entry, t *tune.Tunable) error {
	var err error
	if both, ok := g.act.(pairRestorer); ok && en.Pair != nil && t.Counterpart != "" {
		_, err = both.RestorePair(t, en.Target, en.Old, en.Pair.Value)
	} else if en.Pair != nil && zero(en.Old) && !zero(en.Pair.Value) {
		_, err = g.act.Restore(g.tunable(en.Pair.Tunable, en.Pair.How), en.Pair.Target, en.Pair.Value)
	} else {
		_, err = g.act.Restore(t, en.Target, en.Old)
	}
	if err != nil || aggregate(en) {
		return err
	}
	back, err := g.act.Read(t, en.Target)
	if err != nil {
		return err
	}
	if back != en.Old {
		return fmt.Errorf("reads %q after restoring %q: %w", back, en.Old, tune.ErrDrifted)
	}
	return nil
}

func (g *engine) readAlso(en *journal.Entry) []tune.Value {
	out := make([]tune.Value, len(en.Also))
	for i, a := range en.Also {
		out[i], _ = g.act.Read(g.tunable(a.Tunable, a.How), a.Target) // "" leaves it alone
	}
	return out
}

// restoreAlso puts back what the kernel moved beside our write; a neighbour that something else set
// meanwhile keeps that value even where our own restore made the kernel move it again. Where our value
// was put back already (a guard may have died right after), the kernel has moved it a second time: it
// cannot be compared then, and gets its original.
func (g *engine) restoreAlso(en *journal.Entry, before []tune.Value, again bool) error {
	var errs []error
	for i, a := range en.Also {
		want := a.Value
		after, known := en.After[a.Tunable]
		if g.holder(a.Tunable, a.Target, en) != nil {
			if again || before[i] == "" {
				continue
			}
			after, known = "", true // another rollout's: our restore may have made the kernel move it
		}
		// What was absent while our value stood (a scheduler's own files) nobody else can have set; our
		// restore brings it back with the kernel's default, not with its original.
		if !again && known && before[i] != "" && before[i] != after && before[i] != a.Value {
			want = before[i]
		}
		t := g.tunable(a.Tunable, a.How)
		now, err := g.act.Read(t, a.Target)
		if err == nil && now != want {
			_, err = g.act.Restore(t, a.Target, want)
		}
		if err != nil && !missing(err) {
			errs = append(errs, fmt.Errorf("put %s back to %q: %w", a.Tunable, want, err))
		}
	}
	return errors.Join(errs...)
}

// holder finds another rollout's entry that stands on this tunable.
func (g *engine) holder(tunable, target string, but *journal.Entry) *journal.Entry {
	for _, ro := range g.state.Open() {
		if en := ro.Entry(tunable, target); en != nil && en != but && ro.ID != but.Rollout && en.End == "" && en.Away {
			return en
		}
	}
	return nil
}

// restoreOrder finds an order in which no step breaks an invariant, for each of several like targets by
// itself; without one the given order stands, for a restore is never refused.
func (g *engine) restoreOrder(todo []*journal.Entry) []*journal.Entry {
	changes := make([]tune.Change, len(todo))
	for i, en := range todo {
		changes[i] = tune.Change{Tunable: en.Tunable, Scope: en.How.Scope, Target: en.Target}
	}
	var out []*journal.Entry
	for _, group := range groups(changes) {
		some := make([]*journal.Entry, len(group))
		for i, k := range group {
			some[i] = todo[k]
		}
		out = append(out, g.restoreOrderOf(some)...)
	}
	return out
}

func (g *engine) restoreOrderOf(todo []*journal.Entry) []*journal.Entry {
	if len(todo) < 2 || len(todo) > maxBundle {
		return todo
	}
	steps := make([]writeStep, len(todo))
	for i, en := range todo {
		live, err := g.act.Read(g.tunable(en.Tunable, en.How), en.Target)
		if err != nil {
			return todo
		}
		steps[i] = writeStep{t: g.tunable(en.Tunable, en.How), change: tune.Change{Tunable: en.Tunable, Scope: en.How.Scope, Target: en.Target,
			Current: live, Proposed: en.Old}}
	}
	finder := newOrderFinder(g, steps)
	out := make([]*journal.Entry, 0, len(todo))
	for done := uint(0); len(out) < len(todo); {
		i, ok := finder.next(done)
		if !ok {
			return todo
		}
		done |= 1 << i
		out = append(out, todo[i])
	}
	return out
}

func zero(v tune.Value) bool { return v == "0" || v == "" }

// missing says that the target is not there any more, so there is nothing to restore.
func missing(err error) bool {
	return errors.Is(err, tune.ErrGone) || errors.Is(err, tune.ErrUnsupported)
}

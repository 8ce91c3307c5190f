package safety

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"semantos/internal/tune"
)

// item is one change on its way: checked, and with what the journal will say.
type item struct {
	writeStep
	intent *record // nil when this value was journaled before
}

// apply makes all changes of a bundle or none. The first apply of a rollout fixes the originals; later
// ones (another dose, another slot) start from wherever the rollout left the values.
func (g *engine) apply(ctx context.Context, rollout string, changes []tune.Change, actor string) ([]Applied, error) {
	if err := g.log.usable(); err != nil {
		return nil, err
	}
	ro := g.state.rollouts[rollout]
	switch {
	case ro != nil && ro.Closed:
		return nil, endedError(ro)
	case ro != nil && ro.Committed:
		return nil, &tune.Error{Op: "apply", Subject: rollout, Err: tune.ErrUsage, Hint: "it is committed: start a new rollout"}
	}
	items, err := g.prepare(rollout, changes, actor)
	if err != nil {
		return nil, err
	}
	finder, items, err := g.ordered(items)
	if err != nil {
		return nil, err
	}
	out, err := g.journalAndWrite(ctx, rollout, items, finder)
	if err == nil {
		return out, nil
	}
	return nil, errors.Join(err, g.undoApply(rollout, ro == nil, err))
}

// undoApply puts back whatever a failed apply wrote. A rollout that never stood is closed with it.
func (g *engine) undoApply(rollout string, first bool, cause error) error {
	now := g.state.rollouts[rollout]
	if now == nil {
		return nil // nothing was even journaled
	}
	if first {
		_, recs, err := g.finish(now, "apply failed: "+cause.Error())
		_ = g.tell(true, recs...) // the values are back already
		return err
	}
	_, err := g.revert(rollout)
	return err
}

// prepare validates every change against the catalogue and the machine before anything is journaled.
func (g *engine) prepare(rollout string, changes []tune.Change, actor string) ([]item, error) {
	items := make([]item, 0, len(changes))
	for _, c := range changes {
		s, err := g.validate(c)
		if err != nil {
			return nil, err
		}
		for _, other := range items {
			if other.change.Tunable == s.change.Tunable && other.change.Target == s.change.Target {
				return nil, &tune.Error{Op: "apply", Subject: s.change.Tunable, Err: fmt.Errorf("%w: named twice", tune.ErrUsage),
					Hint: "give each tunable once"}
			}
			if s.t.Counterpart != "" && s.t.Counterpart == other.t.Name && other.change.Target == s.change.Target {
				return nil, &tune.Error{Op: "apply", Subject: s.change.Tunable,
					Err: fmt.Errorf("%w: it and %s zero each other", tune.ErrInvariant, other.t.Name), Hint: "give one of the two"}
			}
		}
		it := item{writeStep: s}
		if err := g.inspect(rollout, actor, &it); err != nil {
			return nil, err
		}
		items = append(items, it)
	}
	return items, nil
}

// validate checks one change against the catalogue and spells it out in full.
func (g *engine) validate(c tune.Change) (writeStep, error) {
	t, target, err := g.cat.Lookup(c.Tunable)
	if err != nil {
		return writeStep{}, err
	}
	switch {
	case t.Protected:
		return writeStep{}, &tune.Error{Op: "apply", Subject: c.Tunable, Err: fmt.Errorf("%w: it is protected", tune.ErrDenied),
			Hint: "it is catalogued to be explained, never to be written"}
	case c.Scope != "" && c.Scope != t.Scope:
		return writeStep{}, &tune.Error{Op: "apply", Subject: c.Tunable, Err: fmt.Errorf("%w: scope is %s, not %s", tune.ErrUsage, t.Scope, c.Scope),
			Hint: "ask for recommendations again"}
	case target != "" && c.Target != "" && c.Target != target:
		return writeStep{}, &tune.Error{Op: "apply", Subject: c.Tunable, Err: fmt.Errorf("%w: target %s beside the name of %s", tune.ErrUsage, c.Target, target),
			Hint: "give one target"}
	case target == "" && c.Target == "" && t.Scope == tune.ScopeHost:
		target = "host"
	case target == "":
		target = c.Target
	}
	if target == "" {
		return writeStep{}, &tune.Error{Op: "apply", Subject: c.Tunable, Err: fmt.Errorf("%w: no target", tune.ErrUsage),
			Hint: fmt.Sprintf("say on which %s: NAME@TARGET=VALUE", t.Scope)}
	}
	v, err := t.Parse(string(c.Proposed))
	if err != nil {
		return writeStep{}, err
	}
	c.Tunable, c.Scope, c.Target, c.Proposed = t.Instance(target), t.Scope, target, v
	return writeStep{t: t, change: c}, nil
}

// inspect looks at the machine: who holds the tunable, whether it is the one meant, where it stands.
func (g *engine) inspect(rollout, actor string, it *item) error {
	c := &it.change
	if err := g.free(rollout, it.writeStep); err != nil {
		return err
	}
	id, err := g.act.Identity(c.Scope, c.Target)
	if err != nil {
		return fmt.Errorf("apply %s: %w", c.Tunable, err)
	}
	live, err := g.act.Read(it.t, c.Target)
	if err != nil {
		return fmt.Errorf("apply %s: %w", c.Tunable, err)
	}
	var en *heldEntry
	if ro := g.state.rollouts[rollout]; ro != nil {
		en = ro.entry(c.Tunable, c.Target)
	}
	if en == nil {
		if want := tune.Canonical(string(c.Current)); want != "" && want != live {
			return &tune.Error{Op: "apply", Subject: c.Tunable + " on " + c.Target,
				Err: fmt.Errorf("%w: expected %q, is %q", tune.ErrStale, want, live), Hint: "run 'semantos recommend' again"}
		}
		c.Current = live
		it.intent, err = g.firstIntent(rollout, actor, it, id)
		return err
	}
	if en.End != "" || (!en.ours(live) && !aggregate(en)) {
		return driftError("apply", en, live)
	}
	if !id.Equal(en.Identity) {
		return fmt.Errorf("apply %s on %s: %w", c.Tunable, c.Target, tune.ErrGone)
	}
	c.Current = live
	if !slices.Contains(en.Wrote, c.Proposed) || en.Pending[c.Proposed] {
		it.intent = &record{Kind: kindIntent, Rollout: rollout, Tunable: c.Tunable, Target: c.Target, How: &en.How,
			Identity: en.Identity, Old: en.Old, New: c.Proposed, Pair: en.Pair, Also: en.Also, Boot: g.boot, Actor: actor}
	}
	return nil
}

// free refuses what another rollout is trying right now, itself or through a counterpart.
func (g *engine) free(rollout string, s writeStep) error {
	for _, ro := range g.state.open() {
		if ro.ID == rollout || ro.Committed {
			continue
		}
		for _, en := range ro.Entries {
			same := en.Tunable == s.change.Tunable || en.How.Name == s.t.Counterpart
			if same && en.Target == s.change.Target && en.End == "" {
				return &tune.Error{Op: "apply", Subject: s.change.Tunable, Err: fmt.Errorf("%w: rollout %s tries %s", tune.ErrConflict, ro.ID, en.Tunable),
					Hint: fmt.Sprintf("wait for it to end, or 'semantos rollback %s'", ro.ID)}
			}
		}
	}
	return nil
}

// firstIntent gathers the originals: the tunable's own, its counterpart's, and those of what the kernel
// changes with it.
func (g *engine) firstIntent(rollout, actor string, it *item, id tune.Identity) (*record, error) {
	h := howOf(it.t)
	c := it.change
	r := &record{Kind: kindIntent, Rollout: rollout, Tunable: c.Tunable, Target: c.Target, How: &h, Identity: id,
		Old: c.Current, New: c.Proposed, Boot: g.boot, Actor: actor}
	if it.t.Counterpart != "" {
		b, err := g.beside(it.t.Counterpart, c.Target)
		if err != nil {
			return nil, fmt.Errorf("apply %s: read its counterpart: %w", c.Tunable, err)
		}
		r.Pair = &b
	}
	for _, name := range it.t.AlsoChanges {
		b, err := g.beside(name, c.Target)
		if missing(err) || errors.Is(err, tune.ErrNoData) || errors.Is(err, tune.ErrUnknown) {
			continue // this kernel has no such neighbour
		}
		if err != nil {
			return nil, fmt.Errorf("apply %s: read %s, which it also changes: %w", c.Tunable, name, err)
		}
		r.Also = append(r.Also, b)
	}
	return r, nil
}

func (g *engine) beside(name, target string) (beside, error) {
	t, own, err := g.cat.Lookup(name)
	if err != nil {
		return beside{}, err
	}
	on := targetFor(t, own, target)
	v, err := g.act.Read(t, on)
	return beside{Tunable: t.Instance(on), Target: on, How: howOf(t), Value: v}, err
}

// ordered checks the end state, and puts the items into an order of writes.
func (g *engine) ordered(items []item) (*orderFinder, []item, error) {
	steps := make([]writeStep, len(items))
	for i, it := range items {
		steps[i] = it.writeStep
	}
	finder := newOrderFinder(g, steps)
	all := uint(1)<<len(steps) - 1
	if broken := finder.broken(all); len(broken) > 0 {
		return nil, nil, errors.Join(broken...)
	}
	finder.good[all] = true
	if _, ok := finder.next(0); !ok {
		return nil, nil, noOrderError(items)
	}
	return finder, items, nil
}

func noOrderError(items []item) error {
	return &tune.Error{Op: "apply", Subject: items[0].change.Tunable,
		Err:  fmt.Errorf("%w: in every order of writing the bundle, a step on the way does", tune.ErrInvariant),
		Hint: "apply the tunables one after the other, with values that fit on the way"}
}

// journalAndWrite journals every distinct value of the bundle, then writes in order.
func (g *engine) journalAndWrite(ctx context.Context, rollout string, items []item, finder *orderFinder) ([]Applied, error) {
	var intents, again []record
	for _, i := range finder.path() {
		if it := items[i]; it.intent != nil {
			intents = append(intents, *it.intent)
		} else {
			again = append(again, record{Kind: kindAgain, Rollout: rollout, Tunable: it.change.Tunable, Target: it.change.Target, ReadBack: it.change.Proposed})
		}
	}
	if len(intents) > 0 {
		if err := g.promise(ctx, true, intents...); err != nil {
			return nil, err
		}
	}
	if len(again) > 0 {
		if err := g.promise(ctx, false, again...); err != nil {
			return nil, err
		}
	}
	applied := make([]Applied, len(items))
	var refusal error
	for done := uint(0); done != uint(1)<<len(items)-1; {
		i, ok := finder.next(done)
		if !ok {
			return nil, errors.Join(refusal, g.noWay(refusal, items))
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("apply %s: %w", items[i].change.Tunable, context.Cause(ctx))
		}
		back, err := g.writeOne(ctx, rollout, items[i])
		if err != nil && refusable(err) && len(items) > 1 {
			finder.refuse(done, i)
			refusal = errors.Join(refusal, err)
			continue
		}
		if err != nil {
			return nil, err
		}
		applied[i] = Applied{Change: items[i].change, ReadBack: back}
		done |= 1 << i
	}
	return applied, nil
}

func (g *engine) noWay(refusal error, items []item) error {
	if refusal != nil {
		return nil // the refusals say enough
	}
	return noOrderError(items)
}

// refusable reports whether another order of writes may help: the kernel took the name but not the value.
func refusable(err error) bool {
	for _, final := range []error{tune.ErrNotPermitted, tune.ErrReadOnly, tune.ErrGone, tune.ErrUnsupported, tune.ErrStorage, tune.ErrCorrupt, tune.ErrDenied} {
		if errors.Is(err, final) {
			return false
		}
	}
	return true
}

// writeOne checks the identity once more, writes, and records what reads back.
func (g *engine) writeOne(ctx context.Context, rollout string, it item) (tune.Value, error) {
	c := it.change
	en := g.state.rollouts[rollout].entry(c.Tunable, c.Target)
	if err := g.same(en); err != nil {
		return "", fmt.Errorf("apply %s: %w", c.Tunable, err)
	}
	back, err := g.act.Write(it.t, c.Target, c.Proposed)
	if err != nil {
		return "", fmt.Errorf("apply %s on %s: %w", c.Tunable, c.Target, err)
	}
	done := record{Kind: kindDone, Rollout: rollout, Tunable: c.Tunable, Target: c.Target, New: c.Proposed, ReadBack: back}
	for i, v := range g.readAlso(en) {
		if v != "" {
			b := en.Also[i]
			b.Value = v
			done.Also = append(done.Also, b)
		}
	}
	if it.intent == nil && en.Last == back && !en.inDoubt() {
		return back, nil // told by the "again" before it
	}
	if err := g.promise(ctx, false, done); err != nil {
		return "", fmt.Errorf("apply %s: %w", c.Tunable, err)
	}
	return back, nil
}

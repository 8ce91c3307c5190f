package guard

import (
	"context"
	"errors"
	"fmt"

	"semantos/internal/tune"
	"semantos/safety/audit"
	"semantos/safety/journal"
)

// item is one change on its way: checked, and with what the journal will say.
type item struct {
	writeStep
	intent *journal.Record // nil when this value was journaled before
}

// apply makes all changes of a bundle or none. The first apply of a rollout fixes the originals; later
// ones (another dose, another slot) start from wherever the rollout left the values.
func (g *engine) apply(ctx context.Context, rollout string, changes []tune.Change, actor string) ([]Applied, error) {
	if err := g.mayChange(ctx, "apply", rollout); err != nil {
		return nil, err
	}
	if err := g.log.Usable(); err != nil {
		return nil, err
	}
	ro := g.state.Rollouts[rollout]
	switch {
	case ro != nil && ro.Closed:
		return nil, g.endedError(ro)
	case ro != nil && ro.Committed:
		return nil, &tune.Error{Op: "apply", Subject: rollout, Err: tune.ErrUsage, Hint: "it is committed: start a new rollout"}
	}
	items, err := g.prepare(ctx, rollout, changes, actor)
	if err != nil {
		return nil, err
	}
	parts, err := g.parts(items)
	if err != nil {
		return nil, err
	}
	out, err := g.journalAndWrite(ctx, rollout, parts)
	if err == nil {
		return out, nil
	}
	return nil, errors.Join(err, g.undoApply(rollout, ro == nil, err))
}

// undoApply puts back whatever a failed apply wrote. A rollout that never stood is closed with it.
func (g *engine) undoApply(rollout string, first bool, cause error) error {
	now := g.state.Rollouts[rollout]
	if now == nil {
		return nil // nothing was even journaled
	}
	if first {
		_, recs, err := g.finish(context.Background(), now, "apply failed: "+cause.Error())
		g.tell(true, recs...) // the values are back already
		return err
	}
	_, err := g.revert(rollout)
	return err
}

// part is what one of several like targets gets, or the whole bundle, with its order of writes.
type part struct {
	items  []item
	finder *orderFinder
}

// parts splits a bundle and finds an order for each part before anything is written.
func (g *engine) parts(items []item) ([]part, error) {
	changes := make([]tune.Change, len(items))
	for i, it := range items {
		changes[i] = it.change
	}
	var out []part
	for _, group := range groups(changes) {
		if len(group) > maxBundle {
			return nil, &tune.Error{Op: "apply", Subject: changes[group[0]].Tunable, Err: fmt.Errorf("%w: %d changes on one target", tune.ErrUsage, len(group)),
				Hint: fmt.Sprintf("try at most %d tunables together", maxBundle)}
		}
		var some []item
		for _, k := range group {
			some = append(some, items[k])
		}
		finder, some, err := g.ordered(some)
		if err != nil {
			return nil, err
		}
		out = append(out, part{some, finder})
	}
	return out, nil
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

// journalAndWrite journals every distinct value of the bundle, then writes in order, part after part.
func (g *engine) journalAndWrite(ctx context.Context, rollout string, parts []part) ([]Applied, error) {
	var intents, again []journal.Record
	for _, p := range parts {
		for _, i := range p.finder.path() {
			if it := p.items[i]; it.intent != nil {
				intents = append(intents, *it.intent)
			} else {
				again = append(again, journal.Record{Kind: journal.Again, Rollout: rollout, Tunable: it.change.Tunable, Target: it.change.Target, ReadBack: it.change.Proposed})
			}
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
	var applied []Applied
	for _, p := range parts {
		got, err := g.writePart(ctx, rollout, p)
		if err != nil {
			return nil, err
		}
		applied = append(applied, got...)
	}
	return applied, nil
}

func (g *engine) writePart(ctx context.Context, rollout string, p part) ([]Applied, error) {
	items, finder := p.items, p.finder
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
	en := g.state.Rollouts[rollout].Entry(c.Tunable, c.Target)
	if err := g.same(en); err != nil {
		return "", fmt.Errorf("apply %s: %w", c.Tunable, err)
	}
	g.hold(it.t, c.Target)
	back, err := g.act.Write(it.t, c.Target, c.Proposed)
	if err != nil {
		return "", fmt.Errorf("apply %s on %s: %w", c.Tunable, c.Target, err)
	}
	g.say(audit.Entry{Kind: audit.Wrote, Rollout: rollout, Tunable: c.Tunable, Target: c.Target, Old: c.Current, New: c.Proposed, ReadBack: back})
	done := journal.Record{Kind: journal.Done, Rollout: rollout, Tunable: c.Tunable, Target: c.Target, New: c.Proposed, ReadBack: back}
	for i, v := range g.readAlso(en) {
		if v != "" {
			b := en.Also[i]
			b.Value = v
			done.Also = append(done.Also, b)
		}
	}
	if it.intent == nil && en.Last == back && !en.InDoubt() {
		return back, nil // told by the "again" before it
	}
	if err := g.promise(ctx, false, done); err != nil {
		return "", fmt.Errorf("apply %s: %w", c.Tunable, err)
	}
	return back, nil
}

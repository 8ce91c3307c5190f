package guard

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"semantos/internal/tune"
	"semantos/safety/journal"
)

// prepare validates every change against the catalogue and the machine before anything is journaled.
func (g *engine) prepare(ctx context.Context, rollout string, changes []tune.Change, actor string) ([]item, error) {
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
		if err := g.inspect(ctx, rollout, actor, &it); err != nil {
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
	if err := errors.Join(t.Forbidden(target), tune.ForbiddenBeside(t, target, g.cat.Lookup)); err != nil {
		return writeStep{}, err
	}
	v, err := t.Parse(string(c.Proposed))
	if err != nil {
		return writeStep{}, err
	}
	c.Tunable, c.Scope, c.Target, c.Proposed = t.Instance(target), t.Scope, target, v
	return writeStep{t: t, change: c}, nil
}

// inspect looks at the machine: who holds the tunable, whether it is the one meant, where it stands.
func (g *engine) inspect(ctx context.Context, rollout, actor string, it *item) error {
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
	var en *journal.Entry
	if ro := g.state.Rollouts[rollout]; ro != nil {
		en = ro.Entry(c.Tunable, c.Target)
	}
	if en == nil {
		if want := tune.Canonical(string(c.Current)); want != "" && want != live {
			return &tune.Error{Op: "apply", Subject: c.Tunable + " on " + c.Target,
				Err: fmt.Errorf("%w: expected %q, is %q", tune.ErrStale, want, live), Hint: "run 'semantos recommend' again"}
		}
		c.Current = live
		if err := g.freeElsewhere(ctx, it.writeStep, id); err != nil {
			return err
		}
		it.intent, err = g.firstIntent(rollout, actor, it, id)
		return err
	}
	pairLive, err := g.pairLive(en)
	if err != nil {
		return fmt.Errorf("apply %s: read its counterpart: %w", c.Tunable, err)
	}
	if en.End != "" || !aggregate(en) && !g.left(en, live, pairLive) {
		return g.driftError("apply", en, live)
	}
	if !id.Equal(en.Identity) {
		return fmt.Errorf("apply %s on %s: %w", c.Tunable, c.Target, tune.ErrGone)
	}
	c.Current = live
	if !slices.Contains(en.Wrote, c.Proposed) || en.Pending[c.Proposed] {
		it.intent = &journal.Record{Kind: journal.Intent, Rollout: rollout, Tunable: c.Tunable, Target: c.Target, How: &en.How,
			Identity: en.Identity, Old: en.Old, New: c.Proposed, Pair: en.Pair, Also: en.Also, Boot: g.boot, Actor: actor}
	}
	return nil
}

// free refuses what another rollout is trying right now, itself or through a counterpart, and the
// counterpart of what this one has.
func (g *engine) free(rollout string, s writeStep) error {
	for _, ro := range g.state.Open() {
		if ro.ID != rollout && ro.Committed {
			continue
		}
		for _, en := range ro.Entries {
			if ro.ID == rollout {
				if en.How.Name == s.t.Counterpart && en.Target == s.change.Target {
					return &tune.Error{Op: "apply", Subject: s.change.Tunable, Err: fmt.Errorf("%w: rollout %s has %s, and they zero each other", tune.ErrInvariant, rollout, en.Tunable),
						Hint: "one rollout changes one of the two: start another for this one"}
				}
				continue
			}
			same := en.Tunable == s.change.Tunable || en.How.Name == s.t.Counterpart
			if same && en.Target == s.change.Target && en.End == "" {
				return &tune.Error{Op: "apply", Subject: s.change.Tunable, Err: fmt.Errorf("%w: rollout %s tries %s", tune.ErrConflict, ro.ID, en.Tunable),
					Hint: fmt.Sprintf("wait for it to end, or 'semantos rollback %s'", ro.ID)}
			}
		}
	}
	return nil
}

// freeElsewhere refuses to stack on what a rollout of another data folder holds: neither journal would
// know of the other, and whichever ends first would take its own value for somebody else's or for the original.
func (g *engine) freeElsewhere(ctx context.Context, s writeStep, id tune.Identity) error {
	copies, err := journal.ReadCopies(g.disk, g.run)
	if err != nil {
		return err
	}
	for _, c := range copies {
		if len(c.Records) == 0 || c.Records[0].Boot != g.boot || g.state.Rollouts[c.Rollout()] != nil {
			continue
		}
		var data []byte
		err := g.onDisk(ctx, g.files.elsewhere, func() error {
			data = readOrEmpty(g.disk, journal.Path(c.DataDir))
			return nil
		}, nil)
		if err != nil {
			return &tune.Error{Op: "apply", Subject: s.change.Tunable, Err: err, Hint: "what data folder " + c.DataDir + " holds is not known: check its disk"}
		}
		state := journal.Load(journal.Scan(data), []journal.Copy{c}, c.DataDir)
		ro := state.Rollouts[c.Rollout()]
		if ro == nil || ro.Closed {
			continue
		}
		for _, en := range ro.Entries {
			same := (en.Tunable == s.change.Tunable || en.How.Name == s.t.Counterpart) && en.Target == s.change.Target
			if !same || en.End != "" || !en.Away || !en.Identity.Equal(id) {
				continue
			}
			// What something else has set since is nobody's of ours.
			if live, err := g.act.Read(g.tunable(en.Tunable, en.How), en.Target); err == nil && live == en.Last {
				return &tune.Error{Op: "apply", Subject: s.change.Tunable,
					Err:  fmt.Errorf("%w: rollout %s of data folder %s holds %s", tune.ErrConflict, ro.ID, c.DataDir, en.Tunable),
					Hint: fmt.Sprintf("use --data-dir %s, or first 'semantos rollback %s --data-dir %s'", c.DataDir, ro.ID, c.DataDir)}
			}
		}
	}
	return nil
}

// firstIntent gathers the originals: the tunable's own, its counterpart's, and those of what the kernel
// changes with it.
func (g *engine) firstIntent(rollout, actor string, it *item, id tune.Identity) (*journal.Record, error) {
	h := journal.HowOf(it.t)
	c := it.change
	r := &journal.Record{Kind: journal.Intent, Rollout: rollout, Tunable: c.Tunable, Target: c.Target, How: &h, Identity: id,
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

func (g *engine) beside(name, target string) (journal.Beside, error) {
	t, own, err := g.cat.Lookup(name)
	if err != nil {
		return journal.Beside{}, err
	}
	on := targetFor(t, own, target)
	v, err := g.act.Read(t, on)
	return journal.Beside{Tunable: t.Instance(on), Target: on, How: journal.HowOf(t), Value: v}, err
}

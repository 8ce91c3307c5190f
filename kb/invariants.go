package kb

import (
	"errors"
	"fmt"
	"slices"

	"gopkg.in/yaml.v3"

	"semantos/internal/expr"
	"semantos/internal/tune"
)

// invariant is a condition over several tunables that a change must not break.
type invariant struct {
	name   string
	over   []string
	says   string
	source string
	holds  *expr.Program
	excess *expr.Program // how far it is broken; nil when that cannot be told
	doc    *document
	node   *yaml.Node
}

func (l *loader) readInvariants(d *document, broken map[string]bool) {
	for _, n := range items(d.root, "invariants") {
		name := scalar(n, "name")
		if broken[name] {
			continue
		}
		inv := invariant{name: name, over: texts(n, "over"), says: scalar(n, "says"), source: scalar(n, "source"), doc: d, node: n}
		inv.holds = l.compile(d, n, "holds", expr.Bool)
		inv.excess = l.compile(d, n, "excess", expr.Number)
		l.invariants = append(l.invariants, inv)
	}
}

func (l *loader) compile(d *document, n *yaml.Node, field string, want expr.Kind) *expr.Program {
	src := scalar(n, field)
	if src == "" {
		return nil
	}
	p, err := l.env.Compile(src, want)
	if err != nil {
		l.fail(d, n, field, nil, "does not compile: %v", err)
		return nil
	}
	return p
}

// checkInvariants finds names no entry has, and expressions that read what `over` does not list: such
// an invariant would not be judged when that tunable changes.
func (l *loader) checkInvariants(known func(string) (*tune.Tunable, bool)) {
	seen := map[string]bool{}
	for _, inv := range l.invariants {
		if seen[inv.name] {
			l.fail(inv.doc, inv.node, "name", nil, "%q is already taken", inv.name)
		}
		seen[inv.name] = true
		for _, name := range inv.over {
			if _, ok := known(name); !ok {
				l.fail(inv.doc, inv.node, "over", tune.ErrUnknown, "no tunable is called %q", name)
			}
		}
		for _, p := range []*expr.Program{inv.holds, inv.excess} {
			if p == nil {
				continue
			}
			for _, r := range p.Refs() {
				if r.Var == "cur" && !slices.Contains(inv.over, r.Key) {
					l.fail(inv.doc, inv.node, "over", nil, "does not list %q, which the expression reads", r.Key)
				}
			}
		}
	}
}

// Invariants judges a bundle as a whole, before it is written: current reads a tunable by catalogue
// name on a target, and every changed tunable counts with its proposed value. An invariant that reads
// an absent tunable does not apply. One that stays broken is refused too, unless the bundle brings it
// nearer to holding: the way out of a badly set host may take several steps.
// Each error wraps [tune.ErrInvariant] and names the tunables to change together.
func (c *Catalogue) Invariants(changed []tune.Change, current func(name, target string) (tune.Value, error)) []error {
	after, targets, errs := c.overlay(changed)
	for _, inv := range c.invariants {
		for _, target := range inv.targets(c, targets) {
			if err := c.judge(inv, target, after, current); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errs
}

// place is a tunable on a target.
type place struct{ name, target string }

// overlay gives the values after the change, with the zero the kernel writes to the other member of a
// ratio/bytes pair, and the changed places in order.
func (c *Catalogue) overlay(changed []tune.Change) (map[place]tune.Value, []place, []error) {
	after := map[place]tune.Value{}
	var order []place
	var errs []error
	for _, ch := range changed {
		t, target, err := c.Lookup(ch.Tunable)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if target == "" {
			target = ch.Target
		}
		p := place{t.Name, targetOf(t, target)}
		after[p] = ch.Proposed
		order = append(order, p)
	}
	for _, p := range order {
		t := c.byName[p.name].Tunable
		other := place{t.Counterpart, p.target}
		if _, given := after[other]; t.Counterpart != "" && after[p] != "0" && !given {
			after[other] = "0"
			order = append(order, other)
		}
	}
	return after, order, errs
}

// targetOf names where a tunable of an invariant is read: a namespace's beside one of the host means
// our own namespace.
func targetOf(t *tune.Tunable, target string) string {
	switch {
	case t.Scope == tune.ScopeHost:
		return "host"
	case target == "host":
		return ""
	}
	return target
}

// targets are the targets on which an invariant is touched by the change, each once. An invariant
// between a host's and a namespace's tunable is judged on the namespace when that is what changed.
func (inv invariant) targets(c *Catalogue, changed []place) []string {
	var out []string
	for _, p := range changed {
		if slices.Contains(inv.over, p.name) && !slices.Contains(out, p.target) {
			out = append(out, p.target)
		}
	}
	return out
}

func (c *Catalogue) judge(inv invariant, target string, after map[place]tune.Value, current func(name, target string) (tune.Value, error)) error {
	read := func(overlay bool) expr.Vars {
		return expr.Vars{Current: func(name string) (tune.Value, error) {
			it, ok := c.byName[name]
			if !ok {
				return "", fmt.Errorf("tunable %s: %w", name, tune.ErrUnknown)
			}
			p := place{it.Name, targetOf(it.Tunable, target)}
			if v, changed := after[p]; overlay && changed {
				return v, nil
			}
			return current(p.name, p.target)
		}}
	}
	ok, err := inv.holds.Bool(read(true))
	if ok || err != nil && unjudgeable(err) {
		return nil
	}
	if err == nil && inv.nearer(read(false), read(true)) {
		return nil
	}
	if err == nil {
		err = tune.ErrInvariant
	}
	if !errors.Is(err, tune.ErrInvariant) {
		err = fmt.Errorf("%w: %w", tune.ErrInvariant, err)
	}
	return &tune.Error{Op: "check invariant", Subject: inv.name, Err: fmt.Errorf("%s: %w", inv.says, err),
		Hint: "change them together: " + joined(inv.over)}
}

// nearer reports whether a broken invariant was already broken, and by more.
func (inv invariant) nearer(before, after expr.Vars) bool {
	if inv.excess == nil {
		return false
	}
	held, err := inv.holds.Bool(before)
	if held || err != nil {
		return false
	}
	was, err := inv.excess.Number(before)
	if err != nil {
		return false
	}
	is, err := inv.excess.Number(after)
	return err == nil && is < was
}

func joined(names []string) string {
	out := ""
	for i, n := range names {
		switch {
		case i == 0:
		case i == len(names)-1:
			out += " and "
		default:
			out += ", "
		}
		out += n
	}
	return out
}

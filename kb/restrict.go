package kb

import (
	"fmt"
	"strings"

	"semantos/internal/tune"
)

// Limit is an operator's tighter hard range of one tunable.
type Limit struct {
	Tunable string
	tune.Range
}

// restrict takes the operator's protected names and limits into the catalogue. A name that means nothing
// is an error: whoever wrote it believes that something is kept from harm.
func (c *Catalogue) restrict(o Options) error {
	for _, pattern := range o.Protected {
		if err := c.shield(pattern); err != nil {
			return err
		}
	}
	for _, l := range o.Limits {
		t, target, err := c.Lookup(l.Tunable)
		switch {
		case err != nil:
			return unknown("LIMITS", l.Tunable, tune.Hint(err))
		case target != "":
			return unknown("LIMITS", l.Tunable, fmt.Sprintf("a limit holds on every target: write %s", t.Name))
		}
		if err := t.Narrow(l.Range); err != nil {
			return err
		}
	}
	return nil
}

func (c *Catalogue) shield(pattern string) error {
	if !strings.ContainsAny(pattern, `*?[\`) {
		t, target, err := c.Lookup(pattern)
		if err != nil {
			return unknown("PROTECTED", pattern, tune.Hint(err))
		}
		if target == "" {
			t.Shielded = append(t.Shielded, t.Name)
		} else {
			t.Shielded = append(t.Shielded, t.Instance(target))
		}
		return nil
	}
	found := false
	for _, it := range c.items {
		found = it.Shield(pattern) || found
	}
	if !found {
		return unknown("PROTECTED", pattern, "no catalogued name matches it; * matches within one part: net.ipv4.*, block/*/queue/*")
	}
	return nil
}

func unknown(key, name, hint string) error {
	return &tune.Error{Op: "read configuration", Subject: fmt.Sprintf("%s: %q", key, name),
		Err: fmt.Errorf("%w: no tunable is called so: %s", tune.ErrUsage, hint), Hint: hint}
}

package cli

import (
	"fmt"
	"regexp"
	"strings"

	"semantos/internal/tune"
)

// mostTargets bounds what one pattern may stand for.
const mostTargets = 256

// isPattern reports whether a target stands for several.
func isPattern(target string) bool { return strings.ContainsAny(target, "*?") }

// matcher reads a pattern of targets: ? is one character, * any within one segment of a path, ** any at
// all, and a lone * everything.
func matcher(pattern string) func(string) bool {
	if pattern == "*" {
		return func(string) bool { return true }
	}
	text := regexp.QuoteMeta(pattern)
	text = strings.NewReplacer(`\*\*`, `.*`, `\*`, `[^/]*`, `\?`, `[^/]`).Replace(text)
	return regexp.MustCompile(`^` + text + `$`).MatchString
}

// spread makes one change for each target that a pattern fits, that can be written, and that does not have
// the value already.
func (r *rooms) spread(s setting, t *tune.Tunable, pattern string) ([]tune.Change, error) {
	subject := s.Name
	if s.Target != "" {
		subject += "@" + s.Target
	}
	if t.Scope == tune.ScopeHost {
		return nil, usage("read --set", subject, "leave the @ out: it holds for the whole host", "there is one target only")
	}
	all, err := r.host.Targets(t)
	if err != nil {
		return nil, err
	}
	fits := matcher(pattern)
	names := r.namesOf(t)
	var found, read []string
	var out []tune.Change
	for _, target := range all {
		if !fits(target) && (names[target] == "" || !fits(names[target])) {
			continue
		}
		found = append(found, target)
		c, err := r.changeOf(t, target, s.Value)
		switch {
		case err != nil:
			read = append(read, oneLine(err.Error()))
		case c.Current != c.Proposed:
			out = append(out, c)
		}
	}
	switch {
	case len(found) == 0:
		return nil, usage("read --set", subject, someOf(all), "no target of %s fits", t.Name)
	case len(out) > mostTargets:
		return nil, usage("read --set", subject, fmt.Sprintf("narrow the pattern to at most %d", mostTargets), "%d targets fit", len(out))
	case len(out) == 0 && len(read) > 0:
		return nil, &tune.Error{Op: "read --set", Subject: subject, Err: fmt.Errorf("none of the %d targets that fit can be changed: %s: %w",
			len(found), read[0], tune.ErrNotPermitted), Hint: "semantos tunables " + t.Name + " says what can be done with it"}
	case len(out) == 0:
		return nil, usage("apply --set", subject, "give another value, or leave it as it is",
			"each of the %d targets that fit has it already: there is nothing to try", len(found))
	}
	return out, nil
}

// someOf names what a pattern could have meant.
func someOf(all []string) string {
	if len(all) == 0 {
		return "this host has no target of it now"
	}
	more := ""
	if len(all) > 4 {
		more = fmt.Sprintf(" and %d more", len(all)-4)
	}
	return "there are: " + strings.Join(all[:min(4, len(all))], "  ") + more
}

// namesOf gives the names people gave to network namespaces, by target.
func (r *rooms) namesOf(t *tune.Tunable) map[string]string {
	out := map[string]string{}
	if t.Scope != tune.ScopeNetns {
		return out
	}
	spaces, err := r.host.Namespaces()
	if err != nil {
		return out // the targets themselves still match
	}
	for _, ns := range spaces {
		out[ns.Target] = ns.Name
	}
	return out
}

// changesOf is what one --set asks for: a change, or several where its target is a pattern.
func (r *rooms) changesOf(s setting) ([]tune.Change, error) {
	t, inName, err := r.cat.Lookup(s.Name)
	if err != nil {
		return nil, err
	}
	pattern := s.Target
	if inName != "" && isPattern(inName) {
		pattern = inName
	}
	if isPattern(pattern) {
		if _, err := t.Parse(s.Value); err != nil {
			return nil, err
		}
		return r.spread(s, t, pattern)
	}
	c, err := r.change(s)
	if err != nil {
		return nil, err
	}
	return []tune.Change{c}, nil
}

package tune

import (
	"slices"
	"strings"
)

// Unit is one of several like targets of a bundle: what belongs to it changes together.
type Unit struct {
	Target  string // a netns, cgroup, device, process, or socket
	Changes []int  // places in the bundle
}

// Units splits a bundle into like targets, in the order they are named: each gets the same tunables. A
// socket belongs to its network namespace where the bundle also changes that. It gives nil where the
// bundle is one thing: fewer than two targets, a value of the whole host among them, targets that are
// not given the same, or control groups of which one lies below another and so is held to its values too.
func Units(changes []Change) []Unit {
	withNetns := slices.ContainsFunc(changes, func(c Change) bool { return c.Scope == ScopeNetns })
	var units []Unit
	given := map[string]map[string]bool{}
	for i, c := range changes {
		key := unitOf(c, withNetns)
		if key == "" || c.Scope != changes[0].Scope && !(withNetns && (c.Scope == ScopeNetns || c.Scope == ScopeSocket)) {
			return nil
		}
		at := slices.IndexFunc(units, func(u Unit) bool { return u.Target == key })
		if at < 0 {
			at = len(units)
			units = append(units, Unit{Target: key})
			given[key] = map[string]bool{}
		}
		units[at].Changes = append(units[at].Changes, i)
		given[key][plainName(c)+"\x00"+string(c.Proposed)] = true
	}
	if len(units) < 2 || changes[0].Scope == ScopeCgroup && nested(units) {
		return nil
	}
	first := given[units[0].Target]
	for _, u := range units[1:] {
		if len(given[u.Target]) != len(first) {
			return nil
		}
		for name := range given[u.Target] {
			if !first[name] {
				return nil
			}
		}
	}
	return units
}

// nested reports that one control group lies below another.
func nested(groups []Unit) bool {
	for _, upper := range groups {
		if slices.ContainsFunc(groups, func(u Unit) bool { return u.Target != upper.Target && Below(u.Target, upper.Target) }) {
			return true
		}
	}
	return false
}

// Below reports whether a control group lies in another, or is the same.
func Below(group, in string) bool {
	return group == in || strings.HasPrefix(group, strings.TrimSuffix(in, "/")+"/")
}

// unitOf names the unit a change belongs to, "" where the target is a part of the whole host.
func unitOf(c Change, withNetns bool) string {
	switch c.Scope {
	case ScopeNetns, ScopeCgroup, ScopeProcess:
		return c.Target
	case ScopeDevice:
		device, _, _ := strings.Cut(c.Target, "/")
		if strings.HasPrefix(c.Tunable, "cpu/") {
			return ""
		}
		return device
	case ScopeSocket:
		if !withNetns {
			return c.Target
		}
		for part := range strings.SplitSeq(c.Target, ";") {
			if inode, ok := strings.CutPrefix(part, "netns="); ok {
				return "netns:" + inode
			}
		}
	}
	return ""
}

// plainName takes the target out of a device's tunable, whose name carries it.
func plainName(c Change) string {
	if c.Scope != ScopeDevice {
		return c.Tunable
	}
	segments := strings.Split(c.Tunable, "/")
	for i, s := range segments {
		if slices.Contains(strings.Split(c.Target, "/"), s) {
			segments[i] = "*"
		}
	}
	return strings.Join(segments, "/")
}

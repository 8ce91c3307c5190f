package tune

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Shield keeps semantos from writing instances whose name matches a pattern; * and ? match within one
// part of it. It reports whether any instance can match. What was written before is still put back.
func (t *Tunable) Shield(pattern string) bool {
	if !t.mayMatch(pattern) {
		return false
	}
	t.Shielded = append(t.Shielded, pattern)
	return true
}

// mayMatch compares part by part; a {word} of a template can be anything.
func (t *Tunable) mayMatch(pattern string) bool {
	want, got := strings.Split(pattern, "/"), strings.Split(t.Name, "/")
	if len(want) != len(got) {
		return false
	}
	for i, w := range want {
		if !strings.HasPrefix(got[i], "{") && !matches(w, got[i]) {
			return false
		}
	}
	return true
}

func matches(pattern, name string) bool {
	ok, err := filepath.Match(pattern, name)
	return ok && err == nil
}

// ShieldOf gives the operator's pattern that forbids writing this tunable on a target, "" for none.
func (t *Tunable) ShieldOf(target string) string {
	for _, p := range t.Shielded {
		if p == t.Name || matches(p, t.Instance(target)) {
			return p
		}
	}
	return ""
}

// Forbidden says why this tunable may not be written on a target, nil when it may.
func (t *Tunable) Forbidden(target string) error {
	subject := t.Instance(target)
	if t.Protected {
		return &Error{Op: "change", Subject: subject, Err: fmt.Errorf("%w: it is protected", ErrDenied),
			Hint: "it is catalogued to be explained; semantos never writes it"}
	}
	if p := t.ShieldOf(target); p != "" {
		return &Error{Op: "change", Subject: subject, Err: fmt.Errorf("%w: PROTECTED has %s", ErrDenied, p),
			Hint: "only the configuration can change that: semantos config shows where PROTECTED comes from"}
	}
	return nil
}

// Narrow takes an operator's range over the hard one: each element must lie in both, sentinels that are
// numbers too. An end beyond the hard range is an error, because the operator expects it to count.
func (t *Tunable) Narrow(r Range) error {
	bad := func(format string, args ...any) error {
		return &Error{Op: "limit", Subject: fmt.Sprintf("%s=%s..%s", t.Name, end(r.Min), end(r.Max)),
			Err: fmt.Errorf("%w: "+format, append([]any{ErrUsage}, args...)...), Hint: "give a range inside the one semantos tunables " + t.Name + " shows"}
	}
	if len(t.Hard) == 0 {
		return bad("%s has no range", t.Name)
	}
	narrowed := make([]Range, t.arity())
	for i := range narrowed {
		was, _ := t.HardAt(i)
		now := Range{Min: max(was.Min, r.Min), Max: min(was.Max, r.Max)}
		switch {
		case now.Min > now.Max:
			return bad("no value is left of %s..%s", FormatNumber(was.Min), FormatNumber(was.Max))
		case !infinite(r.Min) && r.Min < was.Min, !infinite(r.Max) && r.Max > was.Max:
			return bad("it widens %s..%s, and can only narrow", FormatNumber(was.Min), FormatNumber(was.Max))
		}
		narrowed[i] = now
	}
	t.Hard, t.Limited = narrowed, true
	return nil
}

func infinite(x float64) bool { return x > 1e300 || x < -1e300 }

func end(x float64) string {
	if infinite(x) {
		return ""
	}
	return FormatNumber(x)
}

// limited refuses a sentinel that an operator's limit leaves out: one that is a number outside it, or that
// stands for less or more than every number.
func (t *Tunable) limited(s Special, i int) error {
	r, ok := t.HardAt(i)
	if !t.Limited || !ok {
		return nil
	}
	if n, err := Value(s.Value).Numbers(); err == nil && len(n) == 1 {
		if n[0] >= r.Min && n[0] <= r.Max {
			return nil
		}
	} else if s.Rank == 0 {
		return nil
	}
	return t.bad(s.Value, ErrOutOfRange, fmt.Sprintf("LIMITS allows %s to %s", FormatNumber(r.Min), FormatNumber(r.Max)))
}

// ForbiddenBeside refuses a write that moves a tunable the operator shields: its counterpart, or what the
// kernel changes with it.
func ForbiddenBeside(t *Tunable, target string, lookup func(name string) (*Tunable, string, error)) error {
	beside := t.AlsoChanges
	if t.Counterpart != "" {
		beside = append([]string{t.Counterpart}, beside...)
	}
	for _, name := range beside {
		other, own, err := lookup(name)
		if err != nil {
			continue // this kernel or catalogue has no such neighbour
		}
		if own == "" || strings.Contains(own, "{") {
			own = target
		}
		if p := other.ShieldOf(own); p != "" {
			return &Error{Op: "change", Subject: t.Instance(target), Err: fmt.Errorf("%w: it also changes %s, and PROTECTED has %s", ErrDenied, other.Instance(own), p),
				Hint: "only the configuration can change that: semantos config shows where PROTECTED comes from"}
		}
	}
	return nil
}

package kb

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"semantos/internal/expr"
	"semantos/internal/tune"
)

// checkEntry finds what the schema cannot: contradictions between fields, paths, expressions, and
// values of the entry's own test vector that its own Parse judges otherwise.
func checkEntry(e *entry, env *expr.Env) {
	checkWhere(e)
	checkKind(e)
	checkRanges(e)
	if len(e.problems) > 0 {
		return
	}
	compileTerms(e, env)
	checkOnHosts(e)
	checkVector(e)
}

func checkWhere(e *entry) {
	t := e.tunable
	if what, err := checkPath(t.Method, t.Path); what != "" {
		e.add("path", what, err)
	}
	if fileMethod(t.Method) && !slices.Equal(templateWords(t.Name), templateWords(t.Path)) {
		e.addf("path", nil, "must have the same {words} as the name %s, in the same order", t.Name)
	}
	for _, w := range templateWords(t.Name) {
		if !templateWord.MatchString(w) {
			e.addf("name", nil, "%s: a {word} must be a whole segment", w)
		}
	}
	if t.Templated() != (t.Scope == tune.ScopeDevice) {
		e.add("scope", "device goes with a name that has {words}, and only device", nil)
	}
	if want, ok := scopeOf(t.Method); ok && !slices.Contains(want, t.Scope) {
		e.addf("scope", nil, "%s is reached by %s only for %v", t.Scope, t.Method, want)
	}
	if t.Method == tune.MethodChoice && t.Kind != tune.KindEnum {
		e.add("type", "choice is a file that brackets one of its words: type must be enum", nil)
	}
}

var templateWord = regexp.MustCompile(`^\{[a-z_]+\}$`)

func scopeOf(m tune.Method) ([]tune.Scope, bool) {
	switch m {
	case tune.MethodSysctl:
		return []tune.Scope{tune.ScopeHost, tune.ScopeNetns}, true
	case tune.MethodSysfs, tune.MethodChoice:
		return []tune.Scope{tune.ScopeHost, tune.ScopeDevice}, true
	case tune.MethodCgroup:
		return []tune.Scope{tune.ScopeCgroup}, true
	case tune.MethodProcess:
		return []tune.Scope{tune.ScopeProcess}, true
	case tune.MethodDebugfs, tune.MethodDMALatency:
		return []tune.Scope{tune.ScopeHost}, true
	case tune.MethodBacklog, tune.MethodRcvbuf, tune.MethodSndbuf:
		return []tune.Scope{tune.ScopeSocket}, true
	}
	return nil, false
}

func numeric(k tune.Kind) bool {
	return k == tune.KindInteger || k == tune.KindBytes || k == tune.KindDuration
}

// elementKind is the kind of a scalar, or of a vector's elements.
func elementKind(t *tune.Tunable) tune.Kind {
	if t.Kind == tune.KindVector {
		return t.Of
	}
	return t.Kind
}

func checkKind(e *entry) {
	t := e.tunable
	switch {
	case t.Kind == tune.KindVector && t.Of == "":
		e.add("of", "missing: a vector names the type of its elements", nil)
	case t.Kind == tune.KindVector && t.Of == tune.KindVector:
		e.add("of", "a vector of vectors is not a value the kernel has", nil)
	case t.Kind != tune.KindVector && t.Of != "":
		e.add("of", "only a vector has it", nil)
	case t.Kind == tune.KindVector && t.Arity < 2:
		e.add("arity", "missing: a vector has at least 2 elements", nil)
	case t.Kind != tune.KindVector && t.Arity != 1:
		e.add("arity", "only a vector has more than 1", nil)
	}
	if len(t.Elements) > 0 && len(t.Elements) != t.Arity {
		e.addf("elements", nil, "names %d elements of %d", len(t.Elements), t.Arity)
	}
	if t.Ordered && (t.Kind != tune.KindVector || !numeric(t.Of)) {
		e.add("ordered", "only a vector of numbers has an order", nil)
	}
	k := elementKind(t)
	if (k == tune.KindEnum) != (len(t.Values) > 0) {
		e.add("values", "goes with enum, and enum with values", nil)
	}
	if (k == tune.KindText) != (t.Pattern != "") {
		e.add("pattern", "goes with text, and text with a pattern", nil)
	}
	if _, err := regexp.Compile(`^(?:` + t.Pattern + `)$`); err != nil {
		e.addf("pattern", nil, "does not compile: %v", err)
	}
}

func checkRanges(e *entry) {
	t := e.tunable
	isNumber := numeric(elementKind(t))
	if isNumber && len(t.Hard) == 0 {
		e.add("hard", "missing: a number has a hard range", nil)
	}
	if isNumber && len(t.Safe) == 0 && !t.Protected {
		e.add("safe", "missing: a number that can be written has a safe range", nil)
	}
	if !isNumber && (len(t.Hard) > 0 || len(t.Safe) > 0) {
		e.add("hard", "only numbers have ranges", nil)
	}
	counts := map[string]int{"hard": len(t.Hard), "safe": len(t.Safe), "default": len(t.Default)}
	for _, field := range []string{"hard", "safe", "default"} {
		if n := counts[field]; n > 1 && n != t.Arity || field == "default" && n == 1 && t.Arity > 1 {
			e.addf(field, nil, "gives %d values for %d elements", n, t.Arity)
		}
	}
	for i, r := range t.Hard {
		if r.Min > r.Max {
			e.addf("hard", tune.ErrOutOfRange, "element %d: min %s is above max %s", i, tune.FormatNumber(r.Min), tune.FormatNumber(r.Max))
		}
	}
}

func compileTerms(e *entry, env *expr.Env) {
	t := e.tunable
	for _, src := range t.Default {
		d, err := newTerm(env, src, expr.Value)
		if err != nil {
			e.addf("default", nil, "does not compile: %v", err)
			continue
		}
		e.defaults = append(e.defaults, d)
	}
	for _, s := range t.Safe {
		e.safe = append(e.safe, bound{min: e.end(env, s.Min), max: e.end(env, s.Max)})
	}
}

func (e *entry) end(env *expr.Env, src string) *term {
	if src == "" {
		return nil
	}
	t, err := newTerm(env, src, expr.Number)
	if err != nil {
		e.addf("safe", nil, "does not compile: %v", err)
		return nil
	}
	return &t
}

// checkOnHosts evaluates what is written as expression on the sample hosts, so that a misspelt fact
// or a default outside the hard range is found now.
func checkOnHosts(e *entry) {
	if len(e.problems) > 0 {
		return
	}
	for _, host := range sampleHosts() {
		it := &item{Tunable: e.tunable, defaults: e.defaults, safe: e.safe}
		if v, err := it.defaultOn(host); err == nil {
			if _, err := e.tunable.Parse(string(v)); err != nil {
				e.addf("default", tune.ErrOutOfRange, "%q is not a value of this tunable: %v", v, reason(err))
				return
			}
		} else if len(e.defaults) > 0 {
			e.addf("default", nil, "cannot be evaluated: %v", err)
			return
		}
		if _, err := it.safeOn(host); err != nil {
			e.addf("safe", tune.ErrOutOfRange, "%v", err)
			return
		}
	}
}

func checkVector(e *entry) {
	for _, text := range e.good {
		if _, err := e.tunable.Parse(text); err != nil {
			e.addf("test.good", tune.ErrOutOfRange, "%q is refused: %s", text, reason(err))
		}
	}
	for _, text := range e.bad {
		if _, err := e.tunable.Parse(text); err == nil {
			e.addf("test.bad", nil, "%q is accepted", text)
		}
	}
}

// reason is an error with its hint, in one line.
func reason(err error) string {
	if h := tune.Hint(err); h != "" {
		return fmt.Sprintf("%v; %s", err, h)
	}
	return err.Error()
}

// checkReferences finds names that no entry has, and pairs that do not point back.
func checkReferences(e *entry, known func(string) (*tune.Tunable, bool)) {
	t := e.tunable
	lists := []struct {
		field string
		names []string
	}{
		{"counterpart", nonEmpty(t.Counterpart)}, {"also_changes", t.AlsoChanges}, {"depends_on", t.DependsOn},
		{"conflicts_with", t.Conflicts}, {"synergizes_with", t.Synergizes},
	}
	for _, l := range lists {
		for _, name := range l.names {
			other, ok := known(name)
			switch {
			case !ok:
				e.addf(l.field, tune.ErrUnknown, "no tunable is called %q", name)
			case name == t.Name:
				e.addf(l.field, nil, "names itself")
			case l.field == "counterpart" && other != nil && other.Counterpart != t.Name:
				e.addf(l.field, nil, "%s does not name %s as its counterpart", name, t.Name)
			}
		}
	}
}

func nonEmpty(s string) []string {
	if strings.TrimSpace(s) == "" {
		return nil
	}
	return []string{s}
}

// unjudgeable reports an evaluation that ended for want of data, which says nothing about the value.
func unjudgeable(err error) bool {
	return errors.Is(err, tune.ErrNoData) || errors.Is(err, tune.ErrUnsupported) ||
		errors.Is(err, tune.ErrGone) || errors.Is(err, tune.ErrUnknown)
}

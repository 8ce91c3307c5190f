package host

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"semantos/internal/tune"
)

// Read gives the value t has on target now. An empty target means the obvious one (see Resolve).
func (h *Host) Read(t *tune.Tunable, target string) (tune.Value, error) {
	if h.aid != nil && t.Scope == tune.ScopeSocket { // without rights a pinned size reads like a free one
		return h.askRead(t, target)
	}
	var v tune.Value
	err := h.with(t, target, func(a access) error {
		var err error
		v, err = a.read()
		return err
	})
	if h.aid != nil && errors.Is(err, tune.ErrNotPermitted) {
		return h.askRead(t, target)
	}
	return v, err
}

// askRead has the aid read; what a person's shorthand means is found out here, where "self" is us.
func (h *Host) askRead(t *tune.Tunable, target string) (tune.Value, error) {
	full, err := h.Resolve(t, target)
	if err != nil {
		return "", err
	}
	return h.aid.Read(t.Name, full)
}

// Write gives t the value v on target, reads it back and returns what the kernel made of it: a value
// it rounded is no error, a value it silently ignored is one. On any error every element was put back,
// or the error says what stands now.
func (h *Host) Write(t *tune.Tunable, target string, v tune.Value) (tune.Value, error) {
	var got tune.Value
	v = tune.Canonical(string(v))
	err := h.with(t, target, func(a access) error {
		if err := writable(t, target, v); err != nil {
			return err
		}
		old, err := a.read()
		if err != nil {
			return err
		}
		if err := sameArity(t, target, v, old); err != nil {
			return err
		}
		undo := h.undo(t, target, a, old)
		got, err = writeVerified(t, target, a, old, v)
		if err != nil {
			got = ""
			return errors.Join(err, undo())
		}
		return nil
	})
	return got, err
}

// writable refuses what must never reach the kernel, whatever it would say.
func writable(t *tune.Tunable, target string, v tune.Value) error {
	if t.Protected {
		return subjectHint("write", t, target, tune.ErrDenied, "this tunable is explained only; semantos never writes it")
	}
	if p := t.ShieldOf(target); p != "" {
		return subjectHint("write", t, target, tune.ErrDenied, "PROTECTED has "+p)
	}
	if v == "" || len(v) > 4096 || strings.ContainsFunc(string(v), func(r rune) bool { return r < ' ' || r > '~' }) {
		return subject("write", t, target, fmt.Errorf("value %q: %w", string(v), tune.ErrType))
	}
	return nil
}

// sameArity refuses a vector that is shorter or longer than what the kernel shows: it would take the
// first elements and keep the rest.
func sameArity(t *tune.Tunable, target string, v, old tune.Value) error {
	want := len(old.Fields())
	if t.Kind != tune.KindVector {
		want = 1
	}
	if t.Kind == tune.KindText || t.Kind == tune.KindEnum || len(v.Fields()) == want {
		return nil
	}
	return subjectHint("write", t, target,
		fmt.Errorf("%q has %d element(s), not %d: %w", string(v), len(v.Fields()), want, tune.ErrType),
		fmt.Sprintf("give every element; it is %q now", string(old)))
}

func writeVerified(t *tune.Tunable, target string, a access, old, v tune.Value) (tune.Value, error) {
	if err := a.write(v); err != nil {
		return "", err
	}
	got, err := a.read()
	if err != nil {
		return "", fmt.Errorf("read back: %w", err)
	}
	switch {
	case sameValue(t, got, v):
		return got, nil
	case t.Method == tune.MethodDMALatency: // somebody else asks for less: ours is held beside theirs
		return got, nil
	case numeric(t) && (got != old || rounded(t, got, v)):
		return got, nil
	}
	hint := ""
	if t.Method == tune.MethodBacklog {
		hint = "net.core.somaxconn of the socket's namespace limits it; raise that first"
	}
	return "", subjectHint("write", t, target,
		fmt.Errorf("%w: the kernel took %q and shows %q", tune.ErrOutOfRange, string(v), string(got)), hint)
}

// undo remembers what stands before a write, and gives the function that puts it back and checks. The
// function returns nil when everything is as before.
func (h *Host) undo(t *tune.Tunable, target string, a access, old tune.Value) func() error {
	pair := h.counterpart(t)
	var other tune.Value
	if pair != nil {
		other, _ = pair.read() // an unreadable counterpart is left alone: nothing to put back
	}
	return func() error {
		now, err := a.read()
		if err == nil && now == old {
			return nil
		}
		if pair != nil && old == "0" && other != "" && other != "0" {
			err = pair.write(other)
		} else {
			err = putBack(a, old)
		}
		now, readErr := a.read()
		if readErr == nil && sameValue(t, now, old) {
			return nil
		}
		stands := "and cannot be read"
		if readErr == nil {
			stands = fmt.Sprintf("and now reads %q", string(now))
		}
		return subject("put back", t, target, fmt.Errorf("it was %q %s: %w", string(old), stands,
			errors.Join(tune.ErrDrifted, err)))
	}
}

// counterpart gives the way to the other member of a pair. Only sysctls come in such pairs.
func (h *Host) counterpart(t *tune.Tunable) access {
	if t.Counterpart == "" || t.Method != tune.MethodSysctl || t.Templated() {
		return nil
	}
	c := *t
	c.Name, c.Counterpart = t.Counterpart, t.Name
	c.Path = strings.ReplaceAll(t.Counterpart, ".", "/")
	p, err := h.placeOf(&c, "host")
	if err != nil {
		return nil
	}
	return &fileAccess{t: &c, target: "host", place: p}
}

// Restore puts a journaled original back, without any check of type, range or arity. What already
// reads as the original is not written. The inactive member of a pair gives ErrRestoreCounterpart.
func (h *Host) Restore(t *tune.Tunable, target string, original tune.Value) (tune.Value, error) {
	var got tune.Value
	err := h.with(t, target, func(a access) error {
		if t.Protected {
			return writable(t, target, original)
		}
		now, err := a.read()
		if err == nil && now == original && t.Method != tune.MethodDMALatency {
			got = now
			return nil
		}
		if t.Counterpart != "" && original == "0" {
			return subjectHint("restore", t, target, ErrRestoreCounterpart, "restore "+t.Counterpart)
		}
		if err := putBack(a, original); err != nil {
			return errors.Join(err, standing(t, target, a, original))
		}
		got, err = a.read()
		if err != nil {
			return err
		}
		if t.Method == tune.MethodDMALatency || sameValue(t, got, original) || numeric(t) && rounded(t, got, original) {
			return nil
		}
		return standing(t, target, a, original)
	})
	return got, err
}

// restorer is an access whose originals need more than a write.
type restorer interface {
	restore(original tune.Value) error
}

func putBack(a access, original tune.Value) error {
	if r, ok := a.(restorer); ok {
		return r.restore(original)
	}
	return a.write(original)
}

func standing(t *tune.Tunable, target string, a access, want tune.Value) error {
	now, err := a.read()
	if err != nil {
		return fmt.Errorf("what stands now cannot be read: %w", err)
	}
	return subject("restore", t, target, fmt.Errorf("it reads %q, not %q: %w", string(now), string(want), tune.ErrDrifted))
}

// RestorePair restores t and its counterpart together: the member that was active is written, which
// makes the kernel zero the other. Both were zero only where somebody had set the active one to zero.
func (h *Host) RestorePair(t *tune.Tunable, target string, original, counterpart tune.Value) (tune.Value, error) {
	pair := h.counterpart(t)
	if pair == nil {
		return h.Restore(t, target, original)
	}
	var got tune.Value
	err := h.with(t, target, func(a access) error {
		now, err := a.read()
		other, otherErr := pair.read()
		if err == nil && otherErr == nil && now == original && other == counterpart {
			got = now
			return nil
		}
		if t.Protected {
			return writable(t, target, original)
		}
		switch {
		case original != "0":
			err = a.write(original)
		case counterpart != "0":
			err = pair.write(counterpart)
		default:
			err = zeroBoth(a, pair)
		}
		if err != nil {
			return errors.Join(err, standing(t, target, a, original))
		}
		got, err = a.read()
		other, otherErr = pair.read()
		if err != nil || otherErr != nil {
			return errors.Join(err, otherErr)
		}
		if got != original || other != counterpart {
			return subject("restore", t, target, fmt.Errorf("it reads %q and %s %q, not %q and %q: %w",
				string(got), t.Counterpart, string(other), string(original), string(counterpart), tune.ErrDrifted))
		}
		return nil
	})
	return got, err
}

// zeroBoth activates the member that can be set to zero, and sets it. Only one of a pair can (a ratio),
// and one is a valid value of it.
func zeroBoth(a, pair access) error {
	for _, m := range []access{pair, a} {
		if m.write("1") == nil && m.write("0") == nil {
			return nil
		}
	}
	return fmt.Errorf("neither member takes zero: %w", tune.ErrOutOfRange)
}

// Beside reads what a write to t may move as well: its counterpart and its also_changes, by the name
// of the instance. What is absent or unreadable is left out: it cannot be put back either.
func (h *Host) Beside(t *tune.Tunable, target string, lookup func(name string) *tune.Tunable) map[string]tune.Value {
	names := t.AlsoChanges
	if t.Counterpart != "" {
		names = append([]string{t.Counterpart}, names...)
	}
	out := map[string]tune.Value{}
	for _, name := range names {
		other := lookup(name)
		if other == nil {
			continue
		}
		where := target
		if other.Scope != t.Scope {
			where = ""
		}
		if v, err := h.Read(other, where); err == nil {
			out[other.Instance(where)] = v
		}
	}
	return out
}

func numeric(t *tune.Tunable) bool {
	kind := t.Kind
	if kind == tune.KindVector {
		kind = t.Of
	}
	return kind == tune.KindInteger || kind == tune.KindBytes || kind == tune.KindDuration
}

// rounded reports whether got is what rounding makes of v: within an eighth, or within a page, which
// sizes in bytes and kibibytes are cut to. A backlog is never rounded, only limited.
func rounded(t *tune.Tunable, got, v tune.Value) bool {
	g, gErr := got.Numbers()
	w, wErr := v.Numbers()
	if gErr != nil || wErr != nil || len(g) != len(w) || t.Method == tune.MethodBacklog {
		return false
	}
	unit := 0.0
	switch {
	case t.Kind == tune.KindBytes || t.Of == tune.KindBytes:
		unit = 4096
	case strings.HasPrefix(strings.ToLower(t.Unit), "ki") || strings.EqualFold(t.Unit, "kb"):
		unit = 4
	}
	for i := range g {
		if math.Abs(g[i]-w[i]) > max(math.Abs(w[i])/8, unit) {
			return false
		}
	}
	return true
}

// sameValue compares after normalisation: masks by their bits, switches whether spelled Y or 1,
// numbers by their value.
func sameValue(t *tune.Tunable, a, b tune.Value) bool {
	x, y := a.Fields(), b.Fields()
	if len(x) != len(y) {
		return false
	}
	for i := range x {
		if !sameElement(t, x[i], y[i]) {
			return false
		}
	}
	return true
}

func sameElement(t *tune.Tunable, a, b string) bool {
	if a == b {
		return true
	}
	if t.Kind == tune.KindBitmask || t.Of == tune.KindBitmask {
		return maskBits(a) == maskBits(b)
	}
	x, xErr := strconv.ParseInt(switchBit(a), 10, 64)
	y, yErr := strconv.ParseInt(switchBit(b), 10, 64)
	return xErr == nil && yErr == nil && x == y
}

func switchBit(s string) string {
	switch s {
	case "Y", "y":
		return "1"
	case "N", "n":
		return "0"
	}
	return s
}

func maskBits(s string) string {
	s = strings.ToLower(strings.ReplaceAll(s, ",", ""))
	return strings.TrimLeft(strings.TrimPrefix(s, "0x"), "0")
}

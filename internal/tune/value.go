package tune

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// Value is a tunable's value in canonical text: elements joined by single spaces, a choice without its
// brackets, no line end.
type Value string

// Canonical folds what the kernel prints (tabs, line end) into a Value.
func Canonical(text string) Value { return Value(strings.Join(strings.Fields(text), " ")) }

// Fields gives the elements.
func (v Value) Fields() []string { return strings.Fields(string(v)) }

// Numbers gives the elements as numbers; a word among them is an error.
func (v Value) Numbers() ([]float64, error) {
	fields := v.Fields()
	out := make([]float64, len(fields))
	for i, f := range fields {
		n, err := strconv.ParseFloat(f, 64)
		if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
			return nil, fmt.Errorf("%q is not a number: %w", f, ErrType)
		}
		out[i] = n
	}
	return out, nil
}

// FormatNumber prints a number as the kernel takes it: no exponent, no fraction unless there is one.
func FormatNumber(n float64) string {
	if n == math.Trunc(n) {
		return strconv.FormatFloat(n, 'f', 0, 64)
	}
	return strconv.FormatFloat(n, 'f', -1, 64)
}

var sizeSuffix = map[byte]float64{'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30, 'T': 1 << 40}

// Parse reads what a person or a catalogue gave for this tunable and checks type, arity, words, order
// and hard range. Elements may stand between spaces, tabs or commas; bytes may carry K, M, G or T.
// Errors wrap ErrType or ErrOutOfRange and name the value.
func (t *Tunable) Parse(text string) (Value, error) {
	sep := text
	if t.Kind == KindVector {
		sep = strings.ReplaceAll(text, ",", " ")
	}
	fields := strings.Fields(sep)
	if len(fields) == 0 && t.Kind == KindText {
		fields = []string{""} // an empty list of ports or CPUs is a value; the pattern says whether it may be
	}
	if len(fields) != t.arity() {
		return "", t.bad(text, ErrType, fmt.Sprintf("give %d element(s)%s", t.arity(), t.elementNames()))
	}
	for i := range fields {
		f, err := t.parseElement(fields[i], i)
		if err != nil {
			return "", err
		}
		fields[i] = f
	}
	v := Value(strings.Join(fields, " "))
	if err := t.ordered(v); err != nil {
		return "", err
	}
	return v, nil
}

func (t *Tunable) arity() int { return max(1, t.Arity) }

func (t *Tunable) elementNames() string {
	if len(t.Elements) == 0 {
		return ""
	}
	return ": " + strings.Join(t.Elements, ", ")
}

func (t *Tunable) parseElement(f string, i int) (string, error) {
	for _, s := range t.Specials {
		if f == s.Value {
			return f, t.limited(s, i)
		}
	}
	kind := t.Kind
	if kind == KindVector {
		kind = t.Of
	}
	switch kind {
	case KindEnum:
		for _, w := range t.Values {
			if f == w {
				return f, nil
			}
		}
		return "", t.bad(f, ErrOutOfRange, "choose one of "+strings.Join(t.Values, ", "))
	case KindText:
		if ok, err := regexp.MatchString(`^(?:`+t.Pattern+`)$`, f); err != nil || !ok {
			return "", t.bad(f, ErrType, "give text of the form "+t.Pattern)
		}
		return f, nil
	case KindBitmask:
		clean := strings.TrimPrefix(strings.ReplaceAll(f, ",", ""), "0x")
		if clean == "" || strings.Trim(clean, "0123456789abcdefABCDEF") != "" {
			return "", t.bad(f, ErrType, "give a hexadecimal mask")
		}
		return f, nil
	}
	return t.parseNumber(f, i, kind)
}

func (t *Tunable) parseNumber(f string, i int, kind Kind) (string, error) {
	text, mult := f, 1.0
	if kind == KindBytes && len(f) > 1 {
		if m, ok := sizeSuffix[strings.ToUpper(f)[len(f)-1]]; ok {
			text, mult = f[:len(f)-1], m
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return "", t.bad(f, ErrType, "give a whole number"+t.specialHint())
	}
	x := float64(n) * mult
	if r, ok := t.HardAt(i); ok && (x < r.Min || x > r.Max) {
		return "", t.bad(f, ErrOutOfRange,
			fmt.Sprintf("give a value from %s to %s%s%s", FormatNumber(r.Min), FormatNumber(r.Max), t.specialHint(), t.limitHint()))
	}
	if mult == 1 {
		return strconv.FormatInt(n, 10), nil
	}
	return FormatNumber(x), nil
}

func (t *Tunable) limitHint() string {
	if t.Limited {
		return ", which LIMITS allows"
	}
	return ""
}

func (t *Tunable) specialHint() string {
	if len(t.Specials) == 0 {
		return ""
	}
	words := make([]string, len(t.Specials))
	for i, s := range t.Specials {
		words[i] = fmt.Sprintf("%s (%s)", s.Value, s.Meaning)
	}
	return " or " + strings.Join(words, ", ")
}

// HardAt gives the hard range of element i, if there is one.
func (t *Tunable) HardAt(i int) (Range, bool) {
	switch {
	case len(t.Hard) == 0:
		return Range{}, false
	case i < len(t.Hard):
		return t.Hard[i], true
	default:
		return t.Hard[len(t.Hard)-1], true
	}
}

// SpecialOf finds the sentinel that this element text is, if it is one.
func (t *Tunable) SpecialOf(element string) (Special, bool) {
	for _, s := range t.Specials {
		if s.Value == element {
			return s, true
		}
	}
	return Special{}, false
}

func (t *Tunable) ordered(v Value) error {
	if !t.Ordered {
		return nil
	}
	n, err := v.Numbers()
	if err != nil {
		return nil // a sentinel word among the elements has no order
	}
	for i := 1; i < len(n); i++ {
		if n[i] < n[i-1] {
			return t.bad(string(v), ErrOutOfRange, "elements must not decrease"+t.elementNames())
		}
	}
	return nil
}

func (t *Tunable) bad(value string, err error, hint string) error {
	return &Error{Op: "parse", Subject: fmt.Sprintf("%s=%q", t.Name, value), Err: err, Hint: hint}
}

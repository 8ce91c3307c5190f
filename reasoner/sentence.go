package reasoner

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"semantos/internal/expr"
	"semantos/internal/tune"
)

// sentence is a text with placeholders: {label.comm}, {s.name}, {e.name|unit}, or {expression|unit}.
type sentence []part

// part is either fixed text, a label, or an expression with a unit.
type part struct {
	fixed string
	label string
	plain *expr.Ref // the expression is this signal or current value alone
	prog  *expr.Program
	word  bool // the expression yields text
	unit  string
}

// number evaluates the expression; a plain one is looked up without the expression engine.
func (p part) number(v expr.Vars) (float64, error) {
	if p.plain == nil {
		return p.prog.Number(v)
	}
	from := v.S
	switch p.plain.Var {
	case "e":
		from = v.E
	case "cur":
		value, err := v.Current(p.plain.Key)
		if err != nil {
			return 0, err
		}
		n, err := value.Numbers()
		if err != nil || len(n) == 0 {
			return 0, fmt.Errorf("value of %s: %w", p.plain.Key, tune.ErrNoData)
		}
		return n[0], nil
	}
	n, ok := from[p.plain.Key]
	if !ok {
		return 0, fmt.Errorf("signal %s: %w", p.plain.Key, tune.ErrNoData)
	}
	return n, nil
}

// plainExpression is s["name"], e["name"] or cur("name") and nothing else.
var plainExpression = regexp.MustCompile(`^(?:([se])\["([^"]+)"\]|(cur)\("([^"]+)"\))$`)

// sentence compiles the placeholders of a text.
func (c *compiler) sentence(field, src string) sentence {
	var out sentence
	for src != "" {
		before, rest, open := strings.Cut(src, "{")
		if before != "" {
			out = append(out, part{fixed: before})
		}
		if !open {
			return out
		}
		inside, after, closed := cutPlaceholder(rest)
		if !closed {
			c.fail(field, fmt.Errorf("placeholder {%s is not closed", rest))
			return out
		}
		out = append(out, c.placeholder(field, inside))
		src = after
	}
	return out
}

// cutPlaceholder finds the closing brace outside quotes: a template's name holds braces of its own.
func cutPlaceholder(s string) (inside, after string, found bool) {
	quoted := false
	for i := range len(s) {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == '}' && !quoted:
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

func (c *compiler) placeholder(field, inside string) part {
	body, unit := inside, ""
	if i := strings.LastIndexByte(inside, '|'); i > 0 && inside[i-1] != '|' {
		body, unit = strings.TrimSpace(inside[:i]), strings.TrimSpace(inside[i+1:])
	}
	if !knownUnit(unit) {
		c.fail(field, fmt.Errorf("placeholder {%s}: unknown unit %q", inside, unit))
	}
	if name, ok := strings.CutPrefix(body, "label."); ok {
		return part{label: name}
	}
	for _, v := range []string{"s", "e"} {
		if name, ok := strings.CutPrefix(body, v+"."); ok && !strings.ContainsAny(name, " ()[]\"") {
			body = fmt.Sprintf("%s[%q]", v, name)
		}
	}
	if m := plainExpression.FindStringSubmatch(body); m != nil {
		ref := expr.Ref{Var: m[1] + m[3], Key: m[2] + m[4]}
		c.checkRefs(field, []expr.Ref{ref})
		return part{plain: &ref, unit: unit}
	}
	if _, err := c.compile(body, expr.Number); err == nil {
		return part{prog: c.program(field, body, expr.Number), unit: unit}
	}
	return part{prog: c.program(field, body, expr.Value), word: true}
}

// text fills the placeholders; what is not known is said to be unknown.
func (s sentence) text(v expr.Vars) string {
	var b strings.Builder
	for _, p := range s {
		switch {
		case p.prog == nil && p.plain == nil && p.label == "":
			b.WriteString(p.fixed)
		case p.label != "":
			b.WriteString(orUnknown(v.Label[p.label]))
		case p.word:
			words, err := p.prog.Values(v)
			if err != nil {
				words = nil
			}
			b.WriteString(orUnknown(strings.Join(words, " ")))
		default:
			n, err := p.number(v)
			if err != nil {
				b.WriteString("unknown")
				continue
			}
			b.WriteString(Format(n, p.unit))
		}
	}
	return b.String()
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

func knownUnit(u string) bool {
	switch u {
	case "", "bytes", "bytes/s", "share", "/s", "pages", "kb", "us", "ms", "s":
		return true
	}
	return false
}

// Format prints a number for people: three significant digits, bytes in binary units, shares in
// per cent. Whole numbers below 100000 are printed exactly: a backlog of 4096 is not 4.1 thousand.
func Format(n float64, unit string) string {
	switch unit {
	case "share":
		return digits(n*100) + " %"
	case "bytes":
		return size(n)
	case "bytes/s":
		return size(n) + "/s"
	case "kb":
		return size(n * 1024)
	case "pages":
		return size(n * 4096)
	case "/s":
		return digits(n) + "/s"
	case "":
		return digits(n)
	case "us":
		return digits(n) + " µs"
	}
	return digits(n) + " " + unit
}

func size(n float64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for i < len(units)-1 && math.Abs(n) >= 1024 {
		n /= 1024
		i++
	}
	return digits(n) + " " + units[i]
}

func digits(n float64) string {
	abs := math.Abs(n)
	switch {
	case n == 0:
		return "0"
	case abs >= 1e9:
		return significant(n/1e9) + " thousand million"
	case abs >= 1e6:
		return significant(n/1e6) + " million"
	case n == math.Trunc(n) && abs < 1e5:
		return strconv.FormatFloat(n, 'f', 0, 64)
	}
	return significant(n)
}

func significant(n float64) string {
	decimals := 2 - int(math.Floor(math.Log10(math.Abs(n))))
	if decimals <= 0 {
		step := math.Pow(10, float64(-decimals))
		return strconv.FormatFloat(math.Round(n/step)*step, 'f', 0, 64)
	}
	text := strconv.FormatFloat(n, 'f', min(decimals, 6), 64)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}

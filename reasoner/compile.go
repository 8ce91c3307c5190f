package reasoner

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"semantos/internal/expr"
	"semantos/internal/tune"
)

// formula is a constant or a compiled expression. Most values are constants, and not compiling those
// keeps the start of every command short.
type formula struct {
	*expr.Program
	constant float64
}

// Number evaluates to a number.
func (f formula) Number(v expr.Vars) (float64, error) {
	if f.Program == nil {
		return f.constant, nil
	}
	return f.Program.Number(v)
}

// Values evaluates to the elements of a value.
func (f formula) Values(v expr.Vars) ([]string, error) {
	if f.Program == nil {
		return []string{tune.FormatNumber(f.constant)}, nil
	}
	return f.Program.Values(v)
}

// Refs lists what the formula reads; a constant reads nothing.
func (f formula) Refs() []expr.Ref {
	if f.Program == nil {
		return nil
	}
	return f.Program.Refs()
}

// rule is a compiled tune.Rule.
type rule struct {
	*tune.Rule
	when     *expr.Program
	severity formula
	says     sentence
	reliefs  []relief
	hostKeys []string          // constant keys of s in any of its expressions
	better   map[string]string // signal to the direction that relieves: the measure's, and what the condition says of shown ones
}

type relief struct {
	*tune.Relief
	when    *expr.Program // nil: always
	why     sentence
	expect  sentence
	changes []change
}

type change struct {
	*tune.ReliefChange
	tunable *tune.Tunable
	when    *expr.Program
	value   formula
}

// compiler compiles one rule and collects everything wrong with it.
type compiler struct {
	env      *expr.Env
	cache    map[source]*expr.Program
	r        *Reasoner
	src      *tune.Rule
	keys     []string
	problems []error
}

func (c *compiler) fail(field string, err error) {
	c.problems = append(c.problems, fmt.Errorf("%s: %s: %s: %w", c.src.Pos, c.src.Name, field, err))
}

func (c *compiler) rule() *rule {
	out := &rule{Rule: c.src}
	out.when = c.program("when", c.src.When, expr.Bool)
	out.severity = c.formula("severity", c.src.Severity, expr.Number)
	out.says = c.sentence("says", c.src.Says)
	for _, name := range c.src.Show {
		c.checkSignal("show", name)
	}
	c.measure()
	for i := range c.src.Relief {
		out.reliefs = append(out.reliefs, c.relief(fmt.Sprintf("relieved_by[%d]", i), &c.src.Relief[i]))
	}
	out.hostKeys = c.keys
	out.better = directions(c.src)
	return out
}

// threshold finds comparisons of a signal with a number in a condition: above it the signal harms,
// below it it lacks. A comparison with a tunable says where a limit is met, not what is better.
var threshold = regexp.MustCompile(`[se]\["([^"]+)"\] *([<>])=? *[0-9.]+ *(?:[&|)]|$)`)

// directions infers what is better for the signals a symptom shows. A signal compared both ways says
// nothing; the measure's own direction stands above all.
func directions(r *tune.Rule) map[string]string {
	out := map[string]string{}
	for _, m := range threshold.FindAllStringSubmatch(r.When, -1) {
		if !slices.Contains(r.Show, m[1]) {
			continue
		}
		name, way := plainSignal(m[1]), "lower"
		if m[2] == "<" {
			way = "higher"
		}
		if was, ok := out[name]; ok && was != way {
			way = ""
		}
		out[name] = way
	}
	out[plainSignal(r.Measure.Signal)] = r.Measure.Better
	return out
}

// plainSignal cuts the suffix of a series.
func plainSignal(name string) string {
	for _, suffix := range []string{".max", ".last", ".total"} {
		name = strings.TrimSuffix(name, suffix)
	}
	return name
}

func (c *compiler) relief(field string, src *tune.Relief) relief {
	out := relief{Relief: src, why: c.sentence(field+".why", src.Why), expect: c.sentence(field+".expect", src.Expect)}
	if src.When != "" {
		out.when = c.program(field+".when", src.When, expr.Bool)
	}
	for i := range src.Changes {
		at := fmt.Sprintf("%s.changes[%d]", field, i)
		ch := change{ReliefChange: &src.Changes[i]}
		ch.tunable = c.tunable(at+".tunable", ch.Tunable)
		ch.value = c.formula(at+".value", ch.Value, expr.Value)
		if ch.When != "" {
			ch.when = c.program(at+".when", ch.When, expr.Bool)
		}
		if !slices.Contains([]string{opRaise, opLower, opSet}, ch.Op) {
			c.fail(at+".op", fmt.Errorf("%q is not raise, lower or set: %w", ch.Op, tune.ErrType))
		}
		out.changes = append(out.changes, ch)
	}
	return out
}

// source is an expression and what it must yield: rules share many.
type source struct {
	text string
	want expr.Kind
}

func (c *compiler) compile(src string, want expr.Kind) (*expr.Program, error) {
	key := source{src, want}
	if p := c.cache[key]; p != nil {
		return p, nil
	}
	p, err := c.env.Compile(src, want)
	if err == nil {
		c.cache[key] = p
	}
	return p, err
}

func (c *compiler) formula(field, src string, want expr.Kind) formula {
	if n, err := strconv.ParseFloat(src, 64); err == nil {
		return formula{constant: n}
	}
	return formula{Program: c.program(field, src, want)}
}

// program compiles src and checks what it refers to.
func (c *compiler) program(field, src string, want expr.Kind) *expr.Program {
	p, err := c.compile(src, want)
	if err != nil {
		c.fail(field, err)
		return nil
	}
	c.checkRefs(field, p.Refs())
	return p
}

func (c *compiler) checkRefs(field string, refs []expr.Ref) {
	for _, ref := range refs {
		switch ref.Var {
		case "s", "has_s":
			c.keys = append(c.keys, ref.Key)
			c.checkKind(field, "", ref.Key)
		case "e", "has_e":
			c.checkKind(field, c.src.For, ref.Key)
		case "cur", "dflt":
			c.tunable(field, ref.Key)
		}
	}
}

// tunable finds a catalogued tunable that the rule's entity leads to.
func (c *compiler) tunable(field, name string) *tune.Tunable {
	t := c.r.tunable[name]
	if t == nil {
		c.fail(field, fmt.Errorf("tunable %q is not in the catalogue: %w", name, tune.ErrUnknown))
		return nil
	}
	if !reaches(c.src.For, t) {
		c.fail(field, fmt.Errorf("%s has scope %s, which a rule for %q cannot name a target of: %w",
			name, t.Scope, c.src.For, tune.ErrUsage))
	}
	return t
}

func (c *compiler) measure() {
	m := c.src.Measure
	c.checkKind("measure.signal", m.Kind, m.Signal)
	if m.Better != "lower" && m.Better != "higher" {
		c.fail("measure.better", fmt.Errorf("%q is not lower or higher: %w", m.Better, tune.ErrType))
	}
}

// checkSignal accepts a signal of the rule's entity or of the host.
func (c *compiler) checkSignal(field, name string) {
	if c.r.signals == nil {
		return
	}
	if _, ok := c.r.lookupSignal(c.src.For, name); ok {
		return
	}
	c.checkKind(field, "", name)
}

func (c *compiler) checkKind(field, kind, name string) {
	if c.r.signals == nil {
		return
	}
	if _, ok := c.r.lookupSignal(kind, name); !ok {
		c.fail(field, fmt.Errorf("no collector delivers the signal %q of %q: %w", name, kind, tune.ErrUnknown))
	}
}

// lookupSignal finds a signal also by the spelling of one of its series.
func (r *Reasoner) lookupSignal(kind, name string) (tune.Signal, bool) {
	if r.signals == nil {
		return tune.Signal{}, false
	}
	if s, ok := r.signals(kind, name); ok {
		return s, true
	}
	for _, suffix := range []string{".max", ".last", ".total"} {
		base, cut := strings.CutSuffix(name, suffix)
		if !cut {
			continue
		}
		s, ok := r.signals(kind, base)
		if suffix == ".total" {
			s.Unit = strings.TrimSuffix(s.Unit, "/s")
		}
		return s, ok
	}
	return tune.Signal{}, false
}

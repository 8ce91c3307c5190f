package expr

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"

	"semantos/internal/tune"
)

// Kind is what an expression must yield.
type Kind int

// The kinds: a truth, a number, or a tunable's value (number, text, or a list of either).
const (
	Bool Kind = iota
	Number
	Value
)

// Vars are what one evaluation sees. Nil maps are empty. Current and Default give a tunable's live and
// kernel default value by catalogue name; an error from them ends the evaluation.
type Vars struct {
	S, E    map[string]float64
	Label   map[string]string
	Facts   tune.Facts
	Current func(name string) (tune.Value, error)
	Default func(name string) (tune.Value, error)
}

// Env compiles expressions. It is safe for concurrent use.
type Env struct{ cel *cel.Env }

// New makes the environment with the variables and functions of rules and catalogue.
func New() (*Env, error) {
	numbers := cel.MapType(cel.StringType, cel.DoubleType)
	words := cel.MapType(cel.StringType, cel.StringType)
	opts := []cel.EnvOption{
		cel.CrossTypeNumericComparisons(true),
		cel.Variable("s", numbers), cel.Variable("e", numbers), cel.Variable("facts", numbers),
		cel.Variable("label", words), cel.Variable("text", words),
		cel.Variable(contextVar, cel.DynType),
	}
	env, err := cel.NewEnv(append(opts, functions()...)...)
	if err != nil {
		return nil, fmt.Errorf("make expression environment: %w", err)
	}
	return &Env{cel: env}, nil
}

// Program is a compiled expression, safe for concurrent use.
type Program struct {
	source string
	kind   Kind
	run    cel.Program
	refs   []Ref
}

// Ref is a constant key that an expression reads: s["x"] is {s x}, cur("vm.swappiness") is {cur vm.swappiness}.
type Ref struct{ Var, Key string }

// Compile parses, promotes and type-checks src. The error says where in src it is wrong.
func (e *Env) Compile(src string, want Kind) (*Program, error) {
	parsed, iss := e.cel.Parse(src)
	if iss.Err() != nil {
		return nil, compileError(src, iss.Err())
	}
	native := parsed.NativeRep()
	promote(native.Expr(), false)
	checked, iss := e.cel.Check(parsed)
	if iss.Err() != nil {
		return nil, compileError(src, iss.Err())
	}
	if err := checkKind(checked.OutputType(), want); err != nil {
		return nil, compileError(src, err)
	}
	run, err := e.cel.Program(checked, cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, compileError(src, err)
	}
	p := &Program{source: src, kind: want, run: run}
	collect(native.Expr(), func(r Ref) { p.refs = append(p.refs, r) })
	return p, nil
}

func compileError(src string, err error) error {
	return fmt.Errorf("compile %q: %s: %w", src, strings.TrimPrefix(err.Error(), "ERROR: <input>:"), tune.ErrType)
}

func checkKind(t *cel.Type, want Kind) error {
	switch want {
	case Bool:
		if !t.IsExactType(cel.BoolType) {
			return fmt.Errorf("yields %s, not true or false", t)
		}
	case Number:
		if !t.IsExactType(cel.DoubleType) {
			return fmt.Errorf("yields %s, not a number", t)
		}
	case Value:
		if t.Kind() != types.ListKind && !t.IsExactType(cel.DoubleType) && !t.IsExactType(cel.StringType) {
			return fmt.Errorf("yields %s, not a number, text or list", t)
		}
	}
	return nil
}

// Source is the text the program was compiled from.
func (p *Program) Source() string { return p.source }

// Refs lists the constant keys the program reads, in order of appearance.
func (p *Program) Refs() []Ref { return p.refs }

// Bool evaluates a condition.
func (p *Program) Bool(v Vars) (bool, error) {
	out, err := p.eval(v)
	if err != nil {
		return false, err
	}
	b, ok := out.Value().(bool)
	if !ok {
		return false, fmt.Errorf("evaluate %q: %w", p.source, tune.ErrType)
	}
	return b, nil
}

// Number evaluates to a finite number.
func (p *Program) Number(v Vars) (float64, error) {
	out, err := p.eval(v)
	if err != nil {
		return 0, err
	}
	return p.number(out)
}

// Values evaluates to the elements of a tunable's value as text; numbers are rounded to whole ones.
func (p *Program) Values(v Vars) ([]string, error) {
	out, err := p.eval(v)
	if err != nil {
		return nil, err
	}
	if out.Type() != types.ListType {
		s, err := p.element(out)
		return []string{s}, err
	}
	native, err := out.ConvertToNative(refSlice)
	if err != nil {
		return nil, fmt.Errorf("evaluate %q: %w", p.source, err)
	}
	var all []string
	for _, el := range native.([]ref.Val) {
		s, err := p.element(el)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

func (p *Program) element(v ref.Val) (string, error) {
	if s, ok := v.Value().(string); ok {
		return s, nil
	}
	n, err := p.number(v)
	if err != nil {
		return "", err
	}
	return tune.FormatNumber(math.Round(n)), nil
}

func (p *Program) number(v ref.Val) (float64, error) {
	n, ok := v.Value().(float64)
	if !ok {
		return 0, fmt.Errorf("evaluate %q: %s is not a number: %w", p.source, v.Type(), tune.ErrType)
	}
	if math.IsNaN(n) || math.IsInf(n, 0) {
		return 0, fmt.Errorf("evaluate %q: %v: %w", p.source, n, tune.ErrNoData)
	}
	return n, nil
}

func (p *Program) eval(v Vars) (ref.Val, error) {
	out, _, err := p.run.Eval(map[string]any{
		"s": orEmpty(v.S), "e": orEmpty(v.E), "label": orEmpty(v.Label),
		"facts": orEmpty(v.Facts.Num), "text": orEmpty(v.Facts.Text), contextVar: newContext(v),
	})
	if err == nil {
		return out, nil
	}
	if isNoData(err) {
		return nil, fmt.Errorf("evaluate %q: %s: %w", p.source, err, tune.ErrNoData)
	}
	return nil, fmt.Errorf("evaluate %q: %w", p.source, err)
}

// isNoData recognises CEL's missing map key, a failed lookup of a tunable, and a division by zero
// (of doubles: infinity, caught in number).
func isNoData(err error) bool {
	return errors.Is(err, tune.ErrNoData) || errors.Is(err, tune.ErrUnsupported) || strings.Contains(err.Error(), "no such key")
}

func orEmpty[V any](m map[string]V) map[string]V {
	if m == nil {
		return map[string]V{}
	}
	return m
}

// promote turns integer literals into doubles, except where they index a list or name a vector's
// element, and gives cur and its kin the hidden context they read from.
func promote(e ast.Expr, index bool) {
	fac := ast.NewExprFactory()
	switch e.Kind() {
	case ast.LiteralKind:
		if n, ok := e.AsLiteral().(types.Int); ok && !index {
			e.SetKindCase(fac.NewLiteral(e.ID(), types.Double(float64(n))))
		}
	case ast.CallKind:
		promoteCall(fac, e)
	case ast.ListKind:
		for _, el := range e.AsList().Elements() {
			promote(el, false)
		}
	case ast.ComprehensionKind:
		c := e.AsComprehension()
		for _, part := range []ast.Expr{c.IterRange(), c.AccuInit(), c.LoopCondition(), c.LoopStep(), c.Result()} {
			promote(part, false)
		}
	}
}

func promoteCall(fac ast.ExprFactory, e ast.Expr) {
	call := e.AsCall()
	name, args := call.FunctionName(), call.Args()
	if call.IsMemberFunction() {
		promote(call.Target(), false)
	}
	for i, a := range args {
		promote(a, i == 1 && (name == operators.Index || isContextual(name)))
	}
	if isContextual(name) && !call.IsMemberFunction() {
		with := append([]ast.Expr{fac.NewIdent(e.ID()+idOffset, contextVar)}, args...)
		e.SetKindCase(fac.NewCall(e.ID(), name, with...))
	}
}

func collect(e ast.Expr, add func(Ref)) {
	ast.PreOrderVisit(e, ast.NewExprVisitor(func(x ast.Expr) {
		if x.Kind() != ast.CallKind {
			return
		}
		call := x.AsCall()
		args := call.Args()
		switch {
		case call.FunctionName() == operators.Index && args[0].Kind() == ast.IdentKind:
			if key, ok := text(args[1]); ok {
				add(Ref{args[0].AsIdent(), key})
			}
		case isContextual(call.FunctionName()) && len(args) > 1:
			if key, ok := text(args[1]); ok {
				add(Ref{refVar(call.FunctionName()), key})
			}
		}
	}))
}

func text(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	s, ok := e.AsLiteral().(types.String)
	return string(s), ok
}

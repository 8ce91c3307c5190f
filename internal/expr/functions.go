package expr

import (
	"fmt"
	"math"
	"reflect"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"

	"semantos/internal/tune"
)

// contextVar carries Vars to the functions that look up tunables; CEL functions see only arguments.
// An expression that names it gains nothing: the value is opaque and of no kind Compile accepts.
const contextVar = "__vars"

// idOffset keeps the ids of inserted nodes apart from the parser's, which count from 1.
const idOffset = 1 << 40

var refSlice = reflect.TypeFor[[]ref.Val]()

// context is the opaque CEL value that wraps Vars.
type context struct{ vars Vars }

func newContext(v Vars) ref.Val { return &context{v} }

var contextType = types.NewOpaqueType("semantos.vars")

func (c *context) ConvertToNative(reflect.Type) (any, error) {
	return nil, fmt.Errorf("vars have no native form: %w", tune.ErrType)
}
func (c *context) ConvertToType(ref.Type) ref.Val { return types.NewErr("vars have one type") }
func (c *context) Equal(other ref.Val) ref.Val    { return types.Bool(c == other) }
func (c *context) Type() ref.Type                 { return contextType }
func (c *context) Value() any                     { return c.vars }

func isContextual(name string) bool {
	switch name {
	case "cur", "curtext", "dflt", "has_s", "has_e", "has_cur":
		return true
	}
	return false
}

func refVar(function string) string {
	switch function {
	case "has_s":
		return "has_s"
	case "has_e":
		return "has_e"
	case "dflt":
		return "dflt"
	}
	return "cur"
}

func functions() []cel.EnvOption {
	var opts []cel.EnvOption
	lookup := func(name string, get func(Vars) func(string) (tune.Value, error)) {
		opts = append(opts, cel.Function(name,
			cel.Overload(name+"_name", []*cel.Type{cel.DynType, cel.StringType}, cel.DoubleType,
				cel.BinaryBinding(func(c, n ref.Val) ref.Val { return element(c, n, 0, get) })),
			cel.Overload(name+"_name_index", []*cel.Type{cel.DynType, cel.StringType, cel.IntType}, cel.DoubleType,
				cel.FunctionBinding(func(a ...ref.Val) ref.Val { return element(a[0], a[1], int(a[2].Value().(int64)), get) }))))
	}
	lookup("cur", func(v Vars) func(string) (tune.Value, error) { return v.Current })
	lookup("dflt", func(v Vars) func(string) (tune.Value, error) { return v.Default })
	opts = append(opts, cel.Function("curtext", cel.Overload("curtext_name",
		[]*cel.Type{cel.DynType, cel.StringType}, cel.StringType, cel.BinaryBinding(currentText))))
	presence := func(name string, has func(Vars, string) bool) {
		opts = append(opts, cel.Function(name, cel.Overload(name+"_key",
			[]*cel.Type{cel.DynType, cel.StringType}, cel.BoolType,
			cel.BinaryBinding(func(c, k ref.Val) ref.Val { return types.Bool(has(varsOf(c), k.Value().(string))) }))))
	}
	presence("has_s", func(v Vars, k string) bool { _, ok := v.S[k]; return ok })
	presence("has_e", func(v Vars, k string) bool { _, ok := v.E[k]; return ok })
	presence("has_cur", func(v Vars, k string) bool {
		if v.Current == nil {
			return false
		}
		_, err := v.Current(k)
		return err == nil
	})
	return append(opts, arithmetic()...)
}

func arithmetic() []cel.EnvOption {
	two := []*cel.Type{cel.DoubleType, cel.DoubleType}
	binary := func(name string, f func(a, b float64) float64) cel.EnvOption {
		return cel.Function(name, cel.Overload(name+"_2", two, cel.DoubleType,
			cel.BinaryBinding(func(a, b ref.Val) ref.Val {
				return types.Double(f(a.Value().(float64), b.Value().(float64)))
			})))
	}
	unary := func(name string, f func(x float64) float64) cel.EnvOption {
		return cel.Function(name, cel.Overload(name+"_1", two[:1], cel.DoubleType,
			cel.UnaryBinding(func(x ref.Val) ref.Val { return types.Double(f(x.Value().(float64))) })))
	}
	return []cel.EnvOption{
		binary("min", math.Min), binary("max", math.Max),
		binary("roundto", func(x, step float64) float64 { return math.Round(x/step) * step }),
		unary("pow2", func(x float64) float64 { return math.Exp2(math.Ceil(math.Log2(x))) }),
		unary("log2", math.Log2), unary("floor", math.Floor), unary("ceil", math.Ceil), unary("abs", math.Abs),
		cel.Function("clamp", cel.Overload("clamp_3", []*cel.Type{cel.DoubleType, cel.DoubleType, cel.DoubleType},
			cel.DoubleType, cel.FunctionBinding(func(a ...ref.Val) ref.Val {
				x, lo, hi := a[0].Value().(float64), a[1].Value().(float64), a[2].Value().(float64)
				return types.Double(math.Max(lo, math.Min(hi, x)))
			}))),
	}
}

func varsOf(c ref.Val) Vars {
	v, _ := c.Value().(Vars)
	return v
}

func read(c, name ref.Val, get func(Vars) func(string) (tune.Value, error)) (tune.Value, error) {
	f := get(varsOf(c))
	if f == nil {
		return "", fmt.Errorf("value of %s: %w", name.Value(), tune.ErrNoData)
	}
	v, err := f(name.Value().(string))
	if err != nil {
		return "", fmt.Errorf("value of %s: %w: %w", name.Value(), err, tune.ErrNoData)
	}
	return v, nil
}

func element(c, name ref.Val, i int, get func(Vars) func(string) (tune.Value, error)) ref.Val {
	v, err := read(c, name, get)
	if err != nil {
		return types.WrapErr(err)
	}
	fields := v.Fields()
	if i < 0 || i >= len(fields) {
		return types.WrapErr(fmt.Errorf("value of %s has no element %d: %w", name.Value(), i, tune.ErrNoData))
	}
	n, err := tune.Value(fields[i]).Numbers()
	if err != nil {
		return types.WrapErr(fmt.Errorf("value of %s: %w: %w", name.Value(), err, tune.ErrNoData))
	}
	return types.Double(n[0])
}

func currentText(c, name ref.Val) ref.Val {
	v, err := read(c, name, func(v Vars) func(string) (tune.Value, error) { return v.Current })
	if err != nil {
		return types.WrapErr(err)
	}
	return types.String(v)
}

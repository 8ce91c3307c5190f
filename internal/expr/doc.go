// Package expr is the CEL of the catalogue and of the rules: it compiles an expression once and
// evaluates it over signals, labels, facts and current values.
//
// Every number is a double, so that a rule reads as arithmetic: integer literals are promoted before
// the type check, list indexes excepted. A key that is absent ends the evaluation with
// [tune.ErrNoData]; the package must never turn an absent reading into a zero.
// Read [Env.Compile] first, then [Vars].
package expr

// Package safety is the only room that may change the machine.
//
// It owns the guard process and its journal, the gate, the staged rollout and what a trial's effect is
// judged by. It must never write a tunable outside the guard, never write one before its original is in
// the journal, and never put a value back over one that something else has set since.
//
// Two halves meet in a small typed protocol. The parent's half decides (rollout, plan, effect, gate,
// runner) and speaks through [Client]; the guard's half acts (guard, journal, recover, persist) and
// outlives its parent long enough to undo what was not committed. Read journal_state.go first: the fold
// there says what every record means, and everything else keeps that picture true.
package safety

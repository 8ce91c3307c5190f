// Package safety is the only room that may change the machine.
//
// Its children own one thing each: guard acts (the guard process, its journal, recovery), rollout decides
// from stage to stage, effect compares treated with untreated, gate says what may be tried at all. It must
// never write a tunable outside the guard, never write one before its original is in the journal, and
// never put a value back over one that something else has set since.
//
// Two halves meet in a small typed protocol: the parent's half decides and speaks through guard.Client;
// the guard's half acts, and outlives its parent long enough to undo what was not committed. Read
// journal/state.go first: the fold there says what every record means.
package safety

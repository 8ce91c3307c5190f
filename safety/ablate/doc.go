// Package ablate finds what each change of a kept bundle earns: it leaves one out at a time, in slots whose
// order is drawn, and compares them with the whole bundle. What earns nothing is undone.
//
// It owns the draw of the slots and the verdicts; the statistics are the rollout's, and the guard alone
// writes. It must never leave out what it was not told to, and never undo two changes on one measurement:
// either may stand in for the other. Read [Pass] first, then [Runner.Run].
package ablate

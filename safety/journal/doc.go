// Package journal is what the guard writes down before and after it writes to the machine: one append-only
// file of a data folder with a copy of each open rollout in the run folder, and the pure fold that says what
// the records add up to.
//
// It owns the record's format, what a crash or damage leaves of it, and whom a journal is believed from. It
// must never touch a tunable, and never trust a file after a failed sync. Read state.go first.
package journal

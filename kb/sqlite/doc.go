// Package sqlite is the embedded store: recommendations, rollouts and their outcomes in one file of
// DATA_DIR.
//
// It owns the file semantos.db, its schema and migrations, and the words for what can be wrong with it.
// It must never decide anything, never touch a tunable, and never be needed to restore one: the journal
// of the guard is a separate file. Read [Open] first, then rollouts.go. What every store must do is in
// kb/kbtest.
package sqlite

// Package sqlite is the embedded store: the knowledge graph and its history, traces, recommendations,
// rollouts and their outcomes in one file of DATA_DIR.
//
// It owns the file semantos.db, its schema and migrations, and the words for what can be wrong with it;
// also the [Spool], the same store standing before a remote one with a queue of what that was not told
// yet. It must never decide anything, never touch a tunable, and never be needed to restore one: the
// journal of the guard is a separate file. What may be stored is checked by kb/validate. Read [Open]
// first, then [Store.Apply], through which every write goes. What every store must do is in kb/kbtest.
package sqlite

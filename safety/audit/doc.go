// Package audit is the log of every decision and every write: append-only, each record sealed with the
// SHA-256 of the one before.
//
// It owns the form of a record, the chain, its segments and how they are verified. It must never decide
// anything, and never hide what it could not keep: what is missing becomes a record of its own. Only the
// guard appends; everyone with rights to read may verify. Read entry.go first, then chain.go.
package audit

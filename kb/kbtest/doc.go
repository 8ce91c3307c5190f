// Package kbtest is what every store of kb must do, as one test suite.
//
// It owns the contract between the stores and the rest: what is saved comes back equal, newest first,
// and an unknown id is tune.ErrUnknown with a hint. It must never know one store's insides. Read [Store]
// first, then [Run].
package kbtest

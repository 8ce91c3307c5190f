// Package kbtest is what every store of kb must do, as one test suite.
//
// It owns the contract between the stores and the rest: what is saved comes back equal and sorted, a
// write is whole or not there, what kb/validate refuses leaves nothing behind, and an unknown id is
// tune.ErrUnknown with a hint. It must never know one store's insides, or be imported by what is
// shipped. Read [Store] first, then [Run].
package kbtest

// Package hosttest is the conformance suite of internal/host, which passes on a tree of plain files and
// on a real, fresh network namespace alike, and the means to get either in a test.
//
// It must never touch the machine outside what it made itself. Read [Run] first.
package hosttest

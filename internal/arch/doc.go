// Package arch holds the house rules as a test: who may import whom, where third-party packages are
// fenced in, how long a file may grow. It has no code of its own. Read arch_test.go.
package arch

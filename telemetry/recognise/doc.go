// Package recognise says what kind of work a busy process or cgroup is like, from signals alone.
//
// It owns the six portraits (portraits.go) and the hysteresis that keeps an answer from flickering
// (recognise.go). It must never name a kind without the readings behind it, or take a missing reading
// for a low one. Read portraits.go first; docs/workload-kinds.md has what was measured.
package recognise

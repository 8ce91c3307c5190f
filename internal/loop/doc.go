// Package loop is the control loop of serve: sample, diagnose, recommend, and under AUTO_APPLY=on try
// one recommendation at a time.
//
// It owns when something is tried and what is left alone afterwards (cool-downs, yielding). It must
// never write a tunable or judge a measurement: those belong to what its interfaces stand for. It must
// never run two trials at once, nor fight another writer. Read choose in choose.go first: it is the
// whole decision and has no side effects.
package loop

// Package guard is the process that alone writes tunables, and the client its parent speaks through.
//
// It owns every write to the machine, the original of each value, and putting back what was not committed
// when the parent dies, falls silent or says so. It must never write before the original is on disk, never
// put a value back over one that something else has set since, and never let a restore wait for the disk.
// Read safety/journal first, then engine.go.
package guard

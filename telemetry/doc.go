// Package telemetry reads the machine: what the kernel itself reports about where a workload is held
// back, over a sliding window.
//
// It owns the collectors (one file each, listed in all.go), the table of signals they deliver
// ([Signals]) and the arithmetic that turns readings into a [tune.Snapshot]. It must never write
// anything on the machine, run a program, or report zero for what it could not read: absent data is a
// [tune.Missing]. Read ksm.go first, the smallest collector, then frame.go and window.go.
package telemetry

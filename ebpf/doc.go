// Package ebpf is the set of probes: which there are, which of them load here, and what they may cost.
//
// It owns the list ([All]), opening and closing the set as USE_EBPF says, the keeper that holds the
// set's cost within a share of the CPUs by letting costly probes count only part of the time, and the
// arithmetic that makes counts of a part of the time counts of all of it. A probe's C, maps and readings
// are its own folder's. It must never call bpf(2) when the mode is off, let one probe's failure disturb
// another, or leave anything in the kernel after [Set.Close]. Read all.go and set.go first, then keep.go.
package ebpf

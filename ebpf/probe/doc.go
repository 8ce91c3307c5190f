// Package probe is what every eBPF probe is made of: loading and attaching a probe's programs, pausing
// them, reading log-linear histograms, and the scope they count in.
//
// It owns the calls to the kernel's BPF; a probe's own folder has its C, its committed objects and the
// few lines that turn its maps into readings. It must never pin anything, write a tunable, or let one
// probe's failure disturb another. Read hist.go first, then [Spec] and [Load].
package probe

// Package host is the only door to the machine: /proc/sys, /sys, cgroup files, network namespaces,
// sockets of running processes, /dev/cpu_dma_latency.
//
// It owns how a [tune.Tunable] is reached, read, written, read back and put back, and what identifies a
// target. It must never decide whether a value is a good one, remember a change beyond a held latency
// request, mount anything, or reach a path outside the root of a tunable's method.
//
// The text of a value is what the kernel shows, folded by [tune.Canonical], with three additions:
//
//   - a bracketed choice ("always [madvise] never") reads as the chosen word;
//   - dev/cpu_dma_latency reads "none" while nobody on this machine asks for a latency, else the
//     effective microseconds; restoring it always drops our own request;
//   - a socket's buffer reads "+212992" when its size is pinned (somebody called setsockopt, the
//     kernel no longer tunes it) and "212992" when it is the kernel's own. Both are the same number.
//     Writing pins; restoring a value without the sign unpins again. Without the right to look into
//     the owner the sign is left out.
//
// The members of a pair (vm.dirty_bytes and vm.dirty_ratio) zero each other, and zero itself cannot be
// written back: [Host.Restore] then answers [ErrRestoreCounterpart], and the original of the
// counterpart, which [Host.Beside] delivers, is what to restore. [Host.RestorePair] does both.
//
// With Config.Root set every path lies below it: nothing but files is touched, and methods that need a
// kernel answer tune.ErrUnsupported.
//
// Read [Host.Write] first, then place in paths.go.
package host

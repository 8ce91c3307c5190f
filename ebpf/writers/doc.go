// Package writers sees who writes which sysctl, by a program at the root of the control groups that only
// watches.
//
// It owns the program, its attachment, which ends with the process, and a bounded memory of the newest
// writes. It must never refuse or change a write, and never leave out that it lost some. Read
// writers.bpf.c first.
//
// It is no probe of the set: it measures nothing, needs CAP_NET_ADMIN beside CAP_BPF and CAP_PERFMON, and
// belongs to the process whose own writes it tells from the others'.
//
// What it tells:
//   - a write as it reaches the kernel, also one that the kernel then refuses; so its value must be held
//     against what stands.
//   - the network namespace the writer is in. Somebody who opens a file of net.* in one namespace and writes
//     to it in another is told in the latter.
//   - nothing of what the kernel changes by itself, or by other ways than /proc/sys.
//   - below a control group that is not the root (a container's) only what runs in it.
package writers

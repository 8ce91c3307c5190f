//go:build !amd64 && !arm64

package syscalls

// callTable is empty: this architecture's registers are not known to syscalls.bpf.c, which counts every
// call in its last slot. Totals and errors are right, calls have no names.
const callTable = ""

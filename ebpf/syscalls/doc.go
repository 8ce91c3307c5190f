// Package syscalls counts system calls, by call and by the error they ended with.
//
// It owns the table of the architecture's calls and the list of pairs (call, error) that name a limit. It
// must never be attached all the time on a busy machine: merely having a program on sys_exit makes every
// system call of every process take the kernel's slow path, about 120 ns on the machine it was measured on,
// and counting adds 25 ns. A variant that looks at errors only saves those 25 and nothing more, so there is
// none. Counts grow only while attached: a rate is count divided by probe.Active. Read [New] first.
package syscalls

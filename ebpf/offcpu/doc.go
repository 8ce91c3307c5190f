// Package offcpu measures what the threads of a chosen process wait for while they are off the CPU.
//
// It owns one program at sched_switch, which refuses to be loaded without a process (by id or by name):
// for every thread of a host the split would say little and cost more. The reasons are the kernel's:
// runnable (waiting for a CPU, preempted or woken), io (in_iowait), uninterruptible, stopped, and for an
// interruptible sleep the system call the thread is in; "sleep" where that is not known (kernel threads,
// 32-bit programs, other architectures than x86-64 and arm64). A wait counts when it ends. It must never
// count the same time twice: a woken thread's wait for a CPU is taken off what it slept.
// Read offcpu.bpf.c first.
package offcpu

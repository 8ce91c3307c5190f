// Package runqlat measures how long runnable tasks wait for a CPU.
//
// It owns one program at sched_switch and reads the kernel's own account of waiting (sched_info), so a
// wait is exact to the nanosecond of the run queue's clock. It must never count sleep as waiting, nor
// what passes between a wake-up call and the remote CPU putting the task on its queue. A task that is
// preempted between marking itself asleep and sleeping waits unseen: the kernel keeps no account of it
// either. A switch the kernel announces to nobody is not counted, nor is what it alone told. Read runqlat.bpf.c first.
package runqlat

// Package lookout is how the serving process sees what it gave up the right to see: the guard process, which
// kept its rights, looks for it and answers in numbers.
//
// It owns the second socket between the two, its requests and their bounds in size and rate. A request
// names things: a catalogued tunable and a target, a namespace, a process by pid and start time, sockets by
// inode. It must never take a path or a descriptor, write anything, hand out a descriptor that could be
// written through, or hold up the guard: it has a socket and a goroutine of its own, and a restore never
// waits for it. Read request.go first.
package lookout

//go:build amd64 || arm64

package offcpu

import "golang.org/x/sys/unix"

// calls gives, by reason, the numbers of the system calls a thread sleeps in for it: those that both
// architectures have, and the older ones that arm64 does without. (offcpu.bpf.c reads no other's.)
func calls() map[string][]int {
	m := map[string][]int{
		"futex":     {unix.SYS_FUTEX, sysFutexWait, sysFutexWaitv},
		"poll":      {unix.SYS_PPOLL, unix.SYS_PSELECT6, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_PWAIT2},
		"read":      {unix.SYS_READ, unix.SYS_READV, unix.SYS_PREAD64, unix.SYS_PREADV, unix.SYS_PREADV2, unix.SYS_RECVFROM, unix.SYS_RECVMSG, unix.SYS_RECVMMSG, unix.SYS_SPLICE},
		"write":     {unix.SYS_WRITE, unix.SYS_WRITEV, unix.SYS_PWRITE64, unix.SYS_PWRITEV, unix.SYS_PWRITEV2, unix.SYS_SENDTO, unix.SYS_SENDMSG, unix.SYS_SENDMMSG, unix.SYS_SENDFILE},
		"nanosleep": {unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP},
		"accept":    {unix.SYS_ACCEPT, unix.SYS_ACCEPT4},
		"wait":      {unix.SYS_WAIT4, unix.SYS_WAITID},
		"io":        {unix.SYS_IO_GETEVENTS, unix.SYS_IO_PGETEVENTS},
		"io_uring":  {unix.SYS_IO_URING_ENTER},
	}
	for reason, more := range olderCalls() {
		m[reason] = append(m[reason], more...)
	}
	return m
}

// The same on every architecture since they share one table (5.1).
const (
	sysFutexWaitv = 449
	sysFutexWait  = 455
)

package syscalls

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What the kernel side counts apart, as in syscalls.bpf.c.
const (
	callSlots  = 512
	compatSlot = 510
	lastErrno  = 133
	restart    = 512
)

// shownCalls are the calls with a rate of their own: they tell one kind of work from another. The others
// count in sys.calls.other.
const shownCalls = `read write pread64 pwrite64 readv writev openat close fsync fdatasync sync_file_range fallocate
sendfile splice recvfrom recvmsg recvmmsg sendto sendmsg sendmmsg accept accept4 connect socket shutdown
epoll_wait epoll_pwait epoll_ctl poll ppoll select pselect6 futex nanosleep clock_nanosleep sched_yield
mmap munmap mprotect madvise brk clone clone3 execve wait4 ioctl io_submit io_getevents io_uring_enter
rt_sigprocmask getpid clock_gettime timerfd_settime newfstatat statx membarrier`

// shownErrors are the errors with a rate of their own, whatever the call; the others count in
// sys.errors.other.
const shownErrors = `EPERM ENOENT EINTR EIO E2BIG EBADF EAGAIN ENOMEM EACCES EFAULT EBUSY EEXIST EINVAL ENFILE EMFILE
EFBIG ENOSPC EPIPE ENOSYS ENODATA EADDRINUSE EADDRNOTAVAIL ENETUNREACH ECONNRESET ENOBUFS ENOTCONN
ETIMEDOUT ECONNREFUSED EHOSTUNREACH EALREADY EINPROGRESS EDQUOT`

// victimErrors are those names_limit in syscalls.bpf.c keeps by process.
const victimErrors = `ENOMEM ENFILE EMFILE ENOSPC EADDRNOTAVAIL ENOBUFS ECONNREFUSED`

// shownPairs are the errors that say more together with their call: mostly a limit that was met.
const shownPairs = `
EADDRNOTAVAIL connect bind sendto
EADDRINUSE bind connect listen
ECONNREFUSED connect sendto recvfrom
ECONNRESET read recvfrom recvmsg
ETIMEDOUT connect read recvfrom recvmsg
EMFILE open openat openat2 socket accept accept4 pipe2 epoll_create1 eventfd2 dup fcntl memfd_create inotify_init inotify_init1 mq_open
ENFILE open openat openat2 socket accept accept4 pipe2
ENOBUFS sendto sendmsg sendmmsg setsockopt
ENOMEM mmap mremap mprotect munmap brk clone clone3 fork execve setsockopt sendto sendmsg mlock
ENOSPC write pwrite64 writev fallocate open openat ftruncate inotify_add_watch epoll_ctl shmget semget msgget
EAGAIN clone clone3 fork io_setup mlock connect sendto sendmsg sendmmsg accept4 timer_create
EDQUOT add_key write openat
EINTR futex epoll_wait read
`

// names reads a table of calls: by number, "" where there is none.
func names(table string) ([callSlots]string, error) {
	var out [callSlots]string
	next := 0
	for _, w := range strings.Fields(table) {
		if n, ok := strings.CutSuffix(w, ":"); ok {
			at, err := strconv.Atoi(n)
			if err != nil || at < next {
				return out, fmt.Errorf("table of system calls: number %q after %d", n, next-1)
			}
			next = at
			continue
		}
		if next >= compatSlot {
			return out, fmt.Errorf("table of system calls: %s has number %d, there is room for %d", w, next, compatSlot)
		}
		out[next] = w
		next++
	}
	return out, nil
}

// errnoName spells an error of the failures map; 0 stands for those outside the kernel's table.
func errnoName(errno uint32) string {
	switch {
	case errno == restart:
		return "ERESTART"
	case errno == uint32(unix.EAGAIN):
		return "EAGAIN" // EWOULDBLOCK has the same number
	case errno == 0 || errno > lastErrno:
		return "other"
	}
	if name := unix.ErrnoName(unix.Errno(errno)); name != "" {
		return name
	}
	return "other"
}

// set makes words a set.
func set(words string) map[string]bool {
	out := make(map[string]bool)
	for _, w := range strings.Fields(words) {
		out[w] = true
	}
	return out
}

// pairs gives shownPairs as "call.ERRNO".
func pairs() []string {
	var out []string
	for line := range strings.Lines(strings.TrimSpace(shownPairs)) {
		words := strings.Fields(line)
		for _, call := range words[1:] {
			out = append(out, call+"."+words[0])
		}
	}
	return out
}

package offcpu

import "golang.org/x/sys/unix"

func olderCalls() map[string][]int {
	return map[string][]int{"poll": {unix.SYS_POLL, unix.SYS_SELECT, unix.SYS_EPOLL_WAIT}}
}

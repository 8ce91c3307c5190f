package privilege

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// denied are the system calls a process that only looks and decides never makes: they start programs, enter
// or make namespaces, mount, load code into the kernel, look into or act in other processes, set the clock,
// or have been ways out of a sandbox. bpf(2) stays, for costly probes are loaded when they are asked for.
func denied() []uint32 {
	return []uint32{
		unix.SYS_EXECVE, unix.SYS_EXECVEAT,
		unix.SYS_SETNS, unix.SYS_UNSHARE, unix.SYS_CHROOT, unix.SYS_PIVOT_ROOT,
		unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_MOUNT_SETATTR,
		unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_OPEN_BY_HANDLE_AT,
		unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD,
		unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_GETFD,
		unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_QUOTACTL,
		unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX,
		unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
		unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL,
		unix.SYS_USERFAULTFD, unix.SYS_IO_URING_SETUP, unix.SYS_PERF_EVENT_OPEN,
	}
}

// The parts of linux/seccomp.h, linux/audit.h and linux/sched.h used here.
const (
	setModeFilter = 1
	filterTSync   = 1
	retAllow      = 0x7fff0000
	retErrno      = 0x00050000
	x32           = 0x40000000
	newSpaces     = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER |
		unix.CLONE_NEWPID | unix.CLONE_NEWNET
)

// Confine denies those calls to every thread of the process, for good. It takes no_new_privs. On other
// machines than amd64 and arm64 it is tune.ErrUnsupported.
func Confine() error {
	arch, ok := map[string]uint32{"amd64": 0xc000003e, "arm64": 0xc00000b7}[runtime.GOARCH]
	if !ok {
		return fmt.Errorf("filter system calls on %s: %w", runtime.GOARCH, tune.ErrUnsupported)
	}
	filter := program(arch, denied())
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, setModeFilter, filterTSync, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(filter)
	if errno != 0 || thread != 0 {
		return fmt.Errorf("filter system calls: %w (%w, thread %d)", tune.ErrNotPermitted, errno, thread)
	}
	return nil
}

// program refuses with EPERM what is denied, and calls of another machine's ABI; clone only where it makes
// a namespace; clone3 as if the kernel did not have it, for what it asks stands in memory.
func program(arch uint32, deny []uint32) []unix.SockFilter {
	const load, jumpEq, jumpGe, jumpSet, ret = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K,
		unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	const nrAt, archAt, arg0At = 0, 4, 16 // struct seccomp_data, little-endian
	refuse := unix.SockFilter{Code: ret, K: retErrno | uint32(unix.EPERM)}
	p := []unix.SockFilter{
		{Code: load, K: archAt},
		{Code: jumpEq, K: arch, Jt: 1},
		refuse,
		{Code: load, K: nrAt},
		{Code: jumpGe, K: x32, Jf: 1},
		refuse,
		{Code: jumpEq, K: unix.SYS_CLONE3, Jf: 1},
		{Code: ret, K: retErrno | uint32(unix.ENOSYS)},
		{Code: jumpEq, K: unix.SYS_CLONE, Jf: 4},
		{Code: load, K: arg0At},
		{Code: jumpSet, K: newSpaces, Jf: 1},
		refuse,
		{Code: ret, K: retAllow},
	}
	for _, nr := range deny {
		p = append(p, unix.SockFilter{Code: jumpEq, K: nr, Jf: 1}, refuse)
	}
	return append(p, unix.SockFilter{Code: ret, K: retAllow})
}

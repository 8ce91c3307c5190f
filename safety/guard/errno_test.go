package guard

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errnoProgram makes the kernel answer every write of a sysctl with an errno, for the processes of one control
// group: a program of type cgroup/sysctl that lets reads pass. It is the kernel's own way to a write that
// fails, on the tunable itself.
type errnoProgram struct {
	dir string
	fd  int // of the control group
}

// cgroup2Root finds where version 2 is mounted, "" for nowhere.
func cgroup2Root() string {
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var st unix.Statfs_t
		if unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir
		}
	}
	return ""
}

func newErrnoProgram(name string) (*errnoProgram, error) {
	root := cgroup2Root()
	if root == "" {
		return nil, fmt.Errorf("no control groups of version 2: %w", unix.ENOENT)
	}
	r := &errnoProgram{dir: filepath.Join(root, name)}
	err := os.Mkdir(r.dir, 0o755)
	if err != nil {
		return nil, err
	}
	r.fd, err = unix.Open(r.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return r, err
}

func (r *errnoProgram) close() {
	_ = unix.Close(r.fd)
	// Who has just died is in it for a moment.
	for start := time.Now(); os.Remove(r.dir) != nil && time.Since(start) < time.Second; time.Sleep(time.Millisecond) {
	}
}

// Numbers of linux/bpf.h.
const (
	bpfProgLoad, bpfProgAttach, bpfProgDetach = 5, 8, 9
	bpfProgTypeCgroupSysctl, bpfCgroupSysctl  = 23, 18
	bpfFuncSetRetval                          = 187
)

func bpf(cmd uintptr, attr []byte) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_BPF, cmd, uintptr(unsafe.Pointer(&attr[0])), uintptr(len(attr)))
	runtime.KeepAlive(attr)
	if errno != 0 {
		return -1, fmt.Errorf("bpf %d: %w", cmd, errno)
	}
	return int(fd), nil
}

func instruction(code, regs byte, off int16, imm int32) []byte {
	b := binary.LittleEndian.AppendUint16([]byte{code, regs}, uint16(off))
	return binary.LittleEndian.AppendUint32(b, uint32(imm))
}

// answer has writes fail with errno until the function it gives is called.
func (r *errnoProgram) answer(errno unix.Errno) (stop func(), err error) {
	var prog []byte
	for _, in := range [][]byte{
		instruction(0x61, 0x11, 0, 0),             // r1 = ctx->write
		instruction(0x15, 0x01, 4, 0),             // a read passes
		instruction(0xb7, 0x01, 0, -int32(errno)), // r1 = -errno
		instruction(0x85, 0, 0, bpfFuncSetRetval), // bpf_set_retval(r1)
		instruction(0xb7, 0x00, 0, 0),             // r0 = 0: refuse
		instruction(0x95, 0, 0, 0),
		instruction(0xb7, 0x00, 0, 1), // r0 = 1: let it pass
		instruction(0x95, 0, 0, 0),
	} {
		prog = append(prog, in...)
	}
	license := []byte("GPL\x00")
	var pin runtime.Pinner // the kernel reads what the numbers in attr point to
	pin.Pin(&prog[0])
	pin.Pin(&license[0])
	defer pin.Unpin()
	load := make([]byte, 128)
	binary.LittleEndian.PutUint32(load[0:], bpfProgTypeCgroupSysctl)
	binary.LittleEndian.PutUint32(load[4:], uint32(len(prog)/8))
	binary.LittleEndian.PutUint64(load[8:], uint64(uintptr(unsafe.Pointer(&prog[0]))))
	binary.LittleEndian.PutUint64(load[16:], uint64(uintptr(unsafe.Pointer(&license[0]))))
	binary.LittleEndian.PutUint32(load[68:], bpfCgroupSysctl) // expected_attach_type
	fd, err := bpf(bpfProgLoad, load)
	if err != nil {
		return nil, err
	}
	attach := make([]byte, 16)
	binary.LittleEndian.PutUint32(attach[0:], uint32(r.fd))
	binary.LittleEndian.PutUint32(attach[4:], uint32(fd))
	binary.LittleEndian.PutUint32(attach[8:], bpfCgroupSysctl)
	if _, err := bpf(bpfProgAttach, attach); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return func() { _, _ = bpf(bpfProgDetach, attach); _ = unix.Close(fd) }, nil
}

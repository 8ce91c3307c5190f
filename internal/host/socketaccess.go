package host

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// socketAccess reaches a socket of a running process through a copy of its descriptor.
type socketAccess struct {
	h      *Host
	t      *tune.Tunable
	target string
	socket SocketTarget
	found  diagSocket
	fd     int // the copy, -1 until it is needed
}

func (h *Host) withSocket(t *tune.Tunable, target string, fn func(access) error) error {
	if !h.real() {
		return subject("reach", t, target, fmt.Errorf("sockets below a root: %w", tune.ErrUnsupported))
	}
	s, err := ParseSocketTarget(target)
	if err != nil {
		return err
	}
	found, err := h.findSocket(s)
	if err != nil {
		return subject("find", t, target, err)
	}
	if t.Method == tune.MethodBacklog && (s.Proto != "tcp" || 1<<found.state != stateListen) {
		return subject("reach", t, target, fmt.Errorf("it does not listen: %w", tune.ErrUnsupported))
	}
	a := &socketAccess{h: h, t: t, target: target, socket: s, found: found, fd: -1}
	defer a.close()
	return fn(a)
}

func (a *socketAccess) close() {
	if a.fd >= 0 {
		unix.Close(a.fd)
	}
}

func (a *socketAccess) fail(op string, ph phase, v tune.Value, err error) error {
	cause, hint := explain(ph, v, err)
	if errors.Is(cause, tune.ErrNotPermitted) {
		hint = "run semantos as root with CAP_SYS_PTRACE and CAP_NET_ADMIN over the process"
	}
	return subjectHint(op, a.t, a.target, cause, hint)
}

// descriptor copies the socket out of a process that holds it, and checks by the cookie that it is
// still the one that was named.
func (a *socketAccess) descriptor() (int, error) {
	if a.fd >= 0 {
		return a.fd, nil
	}
	a.h.mu.Lock()
	delete(a.h.alone, a.found.inode) // look again: whoever holds it may have come into sight
	a.h.mu.Unlock()
	o, ok := a.h.Owners([]uint64{a.found.inode})[a.found.inode]
	if !ok {
		return -1, fmt.Errorf("no visible process holds it: %w", tune.ErrNotPermitted)
	}
	fd, err := copyDescriptor(o.Pids[0], o.FD)
	if err != nil {
		return -1, err
	}
	if !a.isNamed(fd) {
		unix.Close(fd)
		return -1, fmt.Errorf("descriptor %d of process %d is another socket now: %w", o.FD, o.Pids[0], tune.ErrGone)
	}
	a.fd = fd
	return fd, nil
}

// isNamed compares cookies. A Multipath TCP socket (what Go listens with by default) has a cookie of
// its own beside that of the TCP socket inside it, which sock_diag shows; both share the inode, and the
// named one was seen there a moment ago.
func (a *socketAccess) isNamed(fd int) bool {
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err == nil && cookie == a.socket.Cookie {
		return true
	}
	proto, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil || proto != unix.IPPROTO_MPTCP {
		return false
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Ino != a.found.inode {
		return false
	}
	now, err := a.h.findSocket(a.socket)
	return err == nil && now.inode == st.Ino
}

func copyDescriptor(pid, fd int) (int, error) {
	p, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(p)
	return unix.PidfdGetfd(p, fd, 0)
}

func (a *socketAccess) probe() error {
	fd, err := a.descriptor()
	if err != nil {
		return a.fail("open", openingToWrite, "", err)
	}
	if a.t.Method == tune.MethodBacklog {
		return nil
	}
	_, err = a.locks(fd)
	return err
}

func (a *socketAccess) read() (tune.Value, error) {
	if a.t.Method != tune.MethodBacklog {
		return a.readBuffer()
	}
	now, err := a.h.findSocket(a.socket)
	if err != nil {
		return "", a.fail("read", reading, "", err)
	}
	return tune.Value(strconv.FormatUint(uint64(now.wqueue), 10)), nil
}

func (a *socketAccess) write(v tune.Value) error {
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil || n < 0 || n > math.MaxInt32 {
		return subject("write", a.t, a.target, fmt.Errorf("%q: %w", string(v), tune.ErrOutOfRange))
	}
	fd, err := a.descriptor()
	if err != nil {
		return a.fail("open", openingToWrite, "", err)
	}
	if a.t.Method != tune.MethodBacklog {
		return a.setBuffer(fd, int(n), true)
	}
	// On a socket that listened no more this would make it listen: look just before.
	if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || on == 0 {
		return a.fail("write", writing, v, fmt.Errorf("it listens no more: %w", tune.ErrGone))
	}
	if err := unix.Listen(fd, int(n)); err != nil {
		return a.fail("write", writing, v, err)
	}
	return nil
}

// The bits of SO_BUF_LOCK (linux/socket.h).
const (
	lockSnd = 1
	lockRcv = 2
)

func (a *socketAccess) options() (get, force, lock int) {
	if a.t.Method == tune.MethodSndbuf {
		return unix.SO_SNDBUF, unix.SO_SNDBUFFORCE, lockSnd
	}
	return unix.SO_RCVBUF, unix.SO_RCVBUFFORCE, lockRcv
}

// readBuffer reads size and lock from a copy of the socket; without the right to one, the size alone
// from sock_diag.
func (a *socketAccess) readBuffer() (tune.Value, error) {
	get, _, lock := a.options()
	fd, err := a.descriptor()
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, tune.ErrNotPermitted) {
		size := a.found.mem.rcvbuf
		if a.t.Method == tune.MethodSndbuf {
			size = a.found.mem.sndbuf
		}
		if !a.found.hasMem {
			return "", a.fail("read", reading, "", err)
		}
		return tune.Value(strconv.FormatUint(uint64(size), 10)), nil
	}
	if err != nil {
		return "", a.fail("open", opening, "", err)
	}
	size, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, get)
	if err != nil {
		return "", a.fail("read", reading, "", err)
	}
	locks, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK)
	if err != nil { // before Linux 5.14 nobody can tell
		return tune.Value(strconv.Itoa(size)), nil
	}
	return bufferValue(size, locks&lock != 0), nil
}

// bufferValue spells a size; the sign says that it is pinned.
func bufferValue(size int, pinned bool) tune.Value {
	if pinned {
		return tune.Value("+" + strconv.Itoa(size))
	}
	return tune.Value(strconv.Itoa(size))
}

// locks reads which sizes are pinned, and tries whether that can be set, with what it already is:
// a size that could never be unpinned must not be pinned. Linux before 5.14 and Multipath TCP sockets
// cannot.
func (a *socketAccess) locks(fd int) (int, error) {
	locks, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK, locks)
	}
	if err != nil {
		cause, _ := explain(openingToWrite, "", err)
		return 0, subjectHint("write", a.t, a.target, fmt.Errorf("its size could not be unpinned again: %w", cause),
			"tune net.ipv4.tcp_rmem, tcp_wmem or net.core.rmem_default of its namespace instead, which new sockets take")
	}
	return locks, nil
}

// setBuffer sets the size as the kernel reports it: it doubles what it is given. Every such call pins
// the size, so a restore of the kernel's own unpins after it, keeping the other direction's lock.
func (a *socketAccess) setBuffer(fd, size int, pin bool) error {
	_, force, lock := a.options()
	locks, err := a.locks(fd)
	if err != nil {
		return err
	}
	v := bufferValue(size, pin)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, (size+1)/2); err != nil {
		return a.fail("write", writing, v, err)
	}
	locks &^= lock
	if pin {
		locks |= lock
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK, locks); err != nil {
		return a.fail("write", writing, v, err)
	}
	return nil
}

// restore puts a size back with its lock.
func (a *socketAccess) restore(original tune.Value) error {
	if a.t.Method == tune.MethodBacklog {
		return a.write(original)
	}
	text, pinned := strings.CutPrefix(string(original), "+")
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 0 {
		return subject("restore", a.t, a.target, fmt.Errorf("%q: %w", string(original), tune.ErrType))
	}
	fd, err := a.descriptor()
	if err != nil {
		return a.fail("open", openingToWrite, "", err)
	}
	return a.setBuffer(fd, int(n), pinned)
}

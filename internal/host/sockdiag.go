package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// The parts of linux/inet_diag.h and linux/sock_diag.h used here.
const (
	sockDiagByFamily = 20
	inetDiagSkmem    = 7
	stateListen      = 1 << 10 // 1 << TCP_LISTEN
	stateAny         = 0xfff
	inetDiagReqLen   = 56
	inetDiagMsgLen   = 72
)

// diagSocket is what the kernel tells of one socket.
type diagSocket struct {
	local          netip.AddrPort
	remote         netip.AddrPort
	state          uint8
	cookie         uint64
	inode          uint64
	rqueue, wqueue uint32
	mem            socketMem
	hasMem         bool
}

// socketMem is SO_MEMINFO, in bytes but for the drops.
type socketMem struct{ rmem, rcvbuf, wmem, sndbuf, drops uint32 }

// diagRequest is an inet_diag_req_v2 that dumps everything in the given states, behind its netlink header.
func diagRequest(seq uint32, family, proto uint8, states uint32, mem bool) []byte {
	b := make([]byte, unix.SizeofNlMsghdr+inetDiagReqLen)
	ne := binary.NativeEndian
	ne.PutUint32(b, uint32(len(b)))
	ne.PutUint16(b[4:], sockDiagByFamily)
	ne.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	ne.PutUint32(b[8:], seq)
	r := b[unix.SizeofNlMsghdr:]
	r[0], r[1] = family, proto
	if mem {
		r[2] = 1 << (inetDiagSkmem - 1)
	}
	ne.PutUint32(r[4:], states)
	return b
}

func openDiag() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return -1, fmt.Errorf("open sock_diag: %w", err)
	}
	// A kernel that never answers must not hang us; without the limit only this is lost.
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2})
	return fd, nil
}

// diag dumps the sockets of the socket's namespace, both families. A family this kernel does not have is
// empty.
func diag(fd int, proto uint8, states uint32, mem bool) ([]diagSocket, error) {
	var out []diagSocket
	buf := make([]byte, 64<<10)
	for i, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		seq := uint32(i) + 1
		if err := unix.Sendto(fd, diagRequest(seq, family, proto, states, mem), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return nil, fmt.Errorf("ask sock_diag: %w", err)
		}
		for done := false; !done; {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err == nil {
				out, done, err = diagMessages(buf[:n], seq, out)
			}
			if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EAFNOSUPPORT) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("ask sock_diag: %w", err)
			}
		}
	}
	return out, nil
}

// diagMessages takes the sockets out of one datagram; done says that it was the last of the answer.
func diagMessages(b []byte, seq uint32, out []diagSocket) ([]diagSocket, bool, error) {
	ne := binary.NativeEndian
	for len(b) >= unix.SizeofNlMsghdr {
		size := int(ne.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return out, true, fmt.Errorf("netlink message of %d bytes: %w", size, tune.ErrCorrupt)
		}
		payload := b[unix.SizeofNlMsghdr:size]
		switch kind := ne.Uint16(b[4:]); {
		case ne.Uint32(b[8:]) != seq:
		case kind == unix.NLMSG_DONE:
			return out, true, nil
		case kind == unix.NLMSG_ERROR && len(payload) >= 4:
			return out, true, unix.Errno(-int32(ne.Uint32(payload)))
		case kind == sockDiagByFamily:
			if s, ok := parseDiag(payload); ok {
				out = append(out, s)
			}
		}
		b = b[min(len(b), (size+3)&^3):]
	}
	return out, false, nil
}

func parseDiag(b []byte) (diagSocket, bool) {
	if len(b) < inetDiagMsgLen {
		return diagSocket{}, false
	}
	ne := binary.NativeEndian
	s := diagSocket{
		local:  diagAddr(b[0], b[8:24], b[4:6]),
		remote: diagAddr(b[0], b[24:40], b[6:8]),
		state:  b[1],
		cookie: uint64(ne.Uint32(b[44:])) | uint64(ne.Uint32(b[48:]))<<32,
		rqueue: ne.Uint32(b[56:]), wqueue: ne.Uint32(b[60:]),
		inode: uint64(ne.Uint32(b[68:])),
	}
	for rest := b[inetDiagMsgLen:]; len(rest) >= unix.SizeofRtAttr; {
		size, kind := int(ne.Uint16(rest)), ne.Uint16(rest[2:])
		if size < unix.SizeofRtAttr || size > len(rest) {
			break
		}
		if p := rest[unix.SizeofRtAttr:size]; kind == inetDiagSkmem && len(p) >= 32 {
			s.hasMem = true
			s.mem = socketMem{rmem: ne.Uint32(p), rcvbuf: ne.Uint32(p[4:]), wmem: ne.Uint32(p[8:]), sndbuf: ne.Uint32(p[12:])}
			if len(p) >= 36 {
				s.mem.drops = ne.Uint32(p[32:])
			}
		}
		rest = rest[min(len(rest), (size+3)&^3):]
	}
	return s, true
}

func diagAddr(family uint8, addr, port []byte) netip.AddrPort {
	p := binary.BigEndian.Uint16(port)
	if family == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(addr[:4])), p)
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(addr)), p)
}

// hasSockets reports whether the calling thread's namespace has a TCP or UDP socket, be it only one that
// waits out TIME_WAIT: a client without a listener has tunables of its own too. The kernel counts them, so
// that no table is walked.
func hasSockets() bool {
	for _, file := range []string{"sockstat", "sockstat6"} {
		text, err := os.ReadFile("/proc/thread-self/net/" + file)
		if err == nil && countsSockets(string(text)) {
			return true
		}
	}
	return false
}

// countsSockets reads lines like "TCP: inuse 4 orphan 0 tw 7 alloc 5 mem 1".
func countsSockets(sockstat string) bool {
	for line := range strings.Lines(sockstat) {
		f := strings.Fields(line)
		if len(f) == 0 || !strings.HasPrefix(f[0], "TCP") && !strings.HasPrefix(f[0], "UDP:") && !strings.HasPrefix(f[0], "UDP6:") {
			continue
		}
		for i := 1; i+1 < len(f); i += 2 {
			if (f[i] == "inuse" || f[i] == "tw") && f[i+1] != "0" {
				return true
			}
		}
	}
	return false
}

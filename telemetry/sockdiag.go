package telemetry

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// The parts of linux/inet_diag.h used here. The library's sock_diag answers by slices of structs,
// without the socket's memory; thousands of connections every second need it without allocation.
const (
	sockDiagByFamily = 20
	diagRequestLen   = 56
	diagMessageLen   = 72
	attrTCPInfo      = 2
	attrSkMemInfo    = 7
	tcpInfoMin       = 192 // up to tcpi_sndbuf_limited: Linux 4.10

	tcpEstablished = 1
	tcpFinWait1    = 4
	tcpFinWait2    = 5
	tcpTimeWait    = 6
	tcpClose       = 7
	tcpCloseWait   = 8
	tcpListen      = 10
)

// DiagQuery asks for the sockets of one protocol and family in some states.
type DiagQuery struct {
	Family, Proto uint8
	States        uint32
	Memory, Info  bool
	Max           int // stop after as many
}

// DiagSocket is what the kernel tells of one socket. Sizes in bytes, times in microseconds.
type DiagSocket struct {
	State          uint8
	Local, Remote  netip.AddrPort
	Cookie         uint64
	Inode          uint32
	RQueue, WQueue uint32
	HasMemory      bool
	RMem, RcvBuf   uint32
	SndBuf, WMem   uint32
	Drops          uint32
	HasInfo        bool
	Info           TCPInfo
}

// TCPInfo is the part of struct tcp_info used here.
type TCPInfo struct {
	RTT, RcvRTT, RcvSpace, Cwnd, NotSent           uint32
	SegsOut, SegsIn, TotalRetrans, MinRTT          uint32
	BytesAcked, BytesReceived, DeliveryRate        uint64
	BusyTime, RwndLimited, SndbufLimited, BytesOut uint64
}

// SocketSource answers queries for the calling thread's network namespace.
type SocketSource interface {
	// Dump calls visit for each socket; cut reports that Max ended it. The socket is only valid inside visit.
	Dump(q DiagQuery, visit func(*DiagSocket)) (cut bool, err error)
}

// kernelSockets asks NETLINK_SOCK_DIAG, on a fresh netlink socket each time: an open one would keep a
// namespace alive after everybody else has left it. Sockets that somebody else opens are dear: one is kept
// as long as its answers are read to their end, and dropped after the visit.
type kernelSockets struct {
	buf  []byte
	open func() (int, error) // nil: our own
	kept int                 // 0 when there is none; descriptor 0 is standard input
}

// socket gives a netlink socket and what to do with it after the answer.
func (k *kernelSockets) socket() (fd int, done func(whole bool), err error) {
	if k.open == nil {
		fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
		return fd, func(bool) { unix.Close(fd) }, err
	}
	if k.kept == 0 {
		if k.kept, err = k.open(); err != nil {
			k.kept = 0
			return -1, nil, err
		}
	}
	return k.kept, func(whole bool) {
		if !whole {
			k.drop()
		}
	}, nil
}

func (k *kernelSockets) drop() {
	if k.kept != 0 {
		unix.Close(k.kept)
		k.kept = 0
	}
}

// Dump implements SocketSource.
func (k *kernelSockets) Dump(q DiagQuery, visit func(*DiagSocket)) (bool, error) {
	var s DiagSocket
	seen := 0
	err := k.ask(diagRequestBytes(q), func(payload []byte) error {
		if q.Max > 0 && seen >= q.Max {
			return errCut
		}
		if err := parseDiag(payload, &s); err != nil {
			return err
		}
		seen++
		visit(&s)
		return nil
	})
	if errors.Is(err, errCut) {
		return true, nil
	}
	return false, err
}

// ask sends one request and visits the messages of its answer.
func (k *kernelSockets) ask(request []byte, visit func(payload []byte) error) error {
	fd, done, err := k.socket()
	if err != nil {
		return fmt.Errorf("open sock_diag: %w", err)
	}
	err = k.exchange(fd, request, visit)
	done(err == nil)
	return err
}

func (k *kernelSockets) exchange(fd int, request []byte, visit func(payload []byte) error) error {
	if k.buf == nil {
		k.buf = make([]byte, 64<<10)
	}
	// A kernel that never answers must not hang the tick.
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2}) // without it only the guard is lost
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return diagError(err)
	}
	for {
		n, _, err := unix.Recvfrom(fd, k.buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return diagError(err)
		}
		if done, err := eachMessage(k.buf[:n], visit); done || err != nil {
			return err
		}
	}
}

var errCut = errors.New("enough")

func diagError(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EPROTONOSUPPORT) {
		return fmt.Errorf("the kernel has no sock_diag for it: %w", tune.ErrNoData)
	}
	return fmt.Errorf("ask sock_diag: %w", err)
}

func diagRequestBytes(q DiagQuery) []byte {
	b := make([]byte, unix.SizeofNlMsghdr+diagRequestLen)
	ne := binary.NativeEndian
	ne.PutUint32(b[0:], uint32(len(b)))
	ne.PutUint16(b[4:], sockDiagByFamily)
	ne.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	ne.PutUint32(b[8:], 1)
	r := b[unix.SizeofNlMsghdr:]
	r[0], r[1] = q.Family, q.Proto
	if q.Info {
		r[2] |= 1 << (attrTCPInfo - 1)
	}
	if q.Memory {
		r[2] |= 1 << (attrSkMemInfo - 1)
	}
	ne.PutUint32(r[4:], q.States)
	return b
}

// eachMessage walks the netlink messages of one datagram.
func eachMessage(b []byte, visit func(payload []byte) error) (done bool, err error) {
	ne := binary.NativeEndian
	for len(b) >= unix.SizeofNlMsghdr {
		size := int(ne.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return false, fmt.Errorf("netlink message of %d bytes: %w", size, tune.ErrCorrupt)
		}
		payload := b[unix.SizeofNlMsghdr:size]
		switch ne.Uint16(b[4:]) {
		case unix.NLMSG_DONE:
			return true, nil
		case unix.NLMSG_ERROR:
			if len(payload) < 4 {
				return false, fmt.Errorf("netlink error without a number: %w", tune.ErrCorrupt)
			}
			return false, diagError(unix.Errno(-int32(ne.Uint32(payload))))
		case sockDiagByFamily:
			if err := visit(payload); err != nil {
				return false, err
			}
		}
		b = b[min(len(b), (size+3)&^3):]
	}
	return false, nil
}

// parseDiag reads an inet_diag_msg and its attributes.
func parseDiag(b []byte, s *DiagSocket) error {
	if len(b) < diagMessageLen {
		return fmt.Errorf("socket message of %d bytes: %w", len(b), tune.ErrCorrupt)
	}
	ne := binary.NativeEndian
	*s = DiagSocket{State: b[1],
		Local: diagAddr(b[0], b[8:24], b[4:6]), Remote: diagAddr(b[0], b[24:40], b[6:8]),
		Cookie: uint64(ne.Uint32(b[44:])) | uint64(ne.Uint32(b[48:]))<<32,
		RQueue: ne.Uint32(b[56:]), WQueue: ne.Uint32(b[60:]), Inode: ne.Uint32(b[68:])}
	for rest := b[diagMessageLen:]; len(rest) >= unix.SizeofRtAttr; {
		size, kind := int(ne.Uint16(rest)), ne.Uint16(rest[2:])
		if size < unix.SizeofRtAttr || size > len(rest) {
			return fmt.Errorf("socket attribute of %d bytes: %w", size, tune.ErrCorrupt)
		}
		p := rest[unix.SizeofRtAttr:size]
		switch {
		case kind == attrSkMemInfo && len(p) >= 36:
			s.HasMemory = true
			s.RMem, s.RcvBuf, s.WMem, s.SndBuf, s.Drops = ne.Uint32(p), ne.Uint32(p[4:]), ne.Uint32(p[8:]), ne.Uint32(p[12:]), ne.Uint32(p[32:])
		case kind == attrTCPInfo && len(p) >= tcpInfoMin:
			s.HasInfo = true
			parseTCPInfo(p, &s.Info)
		}
		rest = rest[min(len(rest), (size+3)&^3):]
	}
	return nil
}

func parseTCPInfo(p []byte, t *TCPInfo) {
	ne := binary.NativeEndian
	t.RTT, t.Cwnd, t.RcvRTT, t.RcvSpace = ne.Uint32(p[68:]), ne.Uint32(p[80:]), ne.Uint32(p[92:]), ne.Uint32(p[96:])
	t.TotalRetrans = ne.Uint32(p[100:])
	t.BytesAcked, t.BytesReceived = ne.Uint64(p[120:]), ne.Uint64(p[128:])
	t.SegsOut, t.SegsIn, t.NotSent, t.MinRTT = ne.Uint32(p[136:]), ne.Uint32(p[140:]), ne.Uint32(p[144:]), ne.Uint32(p[148:])
	t.DeliveryRate, t.BusyTime = ne.Uint64(p[160:]), ne.Uint64(p[168:])
	t.RwndLimited, t.SndbufLimited = ne.Uint64(p[176:]), ne.Uint64(p[184:])
	t.BytesOut = t.BytesAcked
	if len(p) >= 208 {
		t.BytesOut = ne.Uint64(p[200:])
	}
}

func diagAddr(family uint8, addr, port []byte) netip.AddrPort {
	p := binary.BigEndian.Uint16(port)
	if family == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(addr[:4])), p)
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(addr)), p)
}

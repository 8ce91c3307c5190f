package host

import (
	"fmt"
	"net/netip"
	"sort"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// Listener is one listening TCP socket.
type Listener struct {
	Target  string // SocketTarget
	Netns   string
	Proto   string
	Addr    netip.Addr
	Port    uint16
	Cookie  uint64
	Inode   uint64
	Queue   uint32 // connections that wait to be accepted
	Backlog uint32 // how many may
	Pids    []int  // who holds it, where we may see that
	Comm    string // of the first
}

// UDPSocket is one UDP socket. Who holds it is left to Owners: that costs a walk over all processes.
type UDPSocket struct {
	Target    string
	Netns     string
	Addr      netip.Addr
	Port      uint16
	Connected bool
	Cookie    uint64
	Inode     uint64
	Queue     uint32 // bytes that wait, with the kernel's overhead, as it counts them against Rcvbuf
	Rcvbuf    uint32
	Sndbuf    uint32
	Drops     uint32
}

// Listeners lists the listening TCP sockets of a namespace ("" or "self": our own), by port and cookie.
func (h *Host) Listeners(ns string) ([]Listener, error) {
	found, ino, err := h.diagIn(ns, unix.IPPROTO_TCP, stateListen)
	if err != nil {
		return nil, err
	}
	inodes := make([]uint64, len(found))
	for i, s := range found {
		inodes[i] = s.inode
	}
	owners := h.Owners(inodes)
	out := make([]Listener, 0, len(found))
	for _, s := range found {
		o := owners[s.inode]
		out = append(out, Listener{
			Target: SocketTarget{"tcp", s.local, ino, s.cookie}.String(),
			Netns:  NetnsTarget(ino), Proto: "tcp", Addr: s.local.Addr(), Port: s.local.Port(), Cookie: s.cookie,
			Inode: s.inode, Queue: s.rqueue, Backlog: s.wqueue, Pids: o.Pids, Comm: o.Comm,
		})
	}
	return out, nil
}

// UDPSockets lists the UDP sockets of a namespace ("" or "self": our own), by port and cookie.
func (h *Host) UDPSockets(ns string) ([]UDPSocket, error) {
	found, ino, err := h.diagIn(ns, unix.IPPROTO_UDP, stateAny)
	if err != nil {
		return nil, err
	}
	out := make([]UDPSocket, 0, len(found))
	for _, s := range found {
		out = append(out, UDPSocket{
			Target: SocketTarget{"udp", s.local, ino, s.cookie}.String(),
			Netns:  NetnsTarget(ino), Addr: s.local.Addr(), Port: s.local.Port(), Connected: s.remote.Port() != 0,
			Cookie: s.cookie, Inode: s.inode,
			Queue: s.mem.rmem, Rcvbuf: s.mem.rcvbuf, Sndbuf: s.mem.sndbuf, Drops: s.mem.drops,
		})
	}
	return out, nil
}

// diagIn dumps one protocol of a namespace, sorted by port and cookie.
func (h *Host) diagIn(ns string, proto uint8, states uint32) ([]diagSocket, uint64, error) {
	if !h.real() {
		return nil, 0, &tune.Error{Op: "list", Subject: "sockets", Err: fmt.Errorf("below a root: %w", tune.ErrUnsupported)}
	}
	target, err := h.resolveNetns(ns)
	if err != nil {
		return nil, 0, err
	}
	ino, err := parseNetns(target)
	if err != nil {
		return nil, 0, err
	}
	fd, err := h.DiagSocket(target)
	if err != nil {
		return nil, ino, err
	}
	defer unix.Close(fd)
	found, err := diag(fd, proto, states, true)
	sort.Slice(found, func(i, j int) bool {
		a, b := found[i], found[j]
		if a.local.Port() != b.local.Port() {
			return a.local.Port() < b.local.Port()
		}
		return a.cookie < b.cookie
	})
	return found, ino, err
}

// DiagSocket gives a fresh NETLINK_SOCK_DIAG socket of a namespace: it stays the namespace's, whatever
// thread uses it. The caller closes it soon, for it keeps the namespace alive.
func (h *Host) DiagSocket(netns string) (int, error) {
	ino, err := parseNetns(netns)
	if err != nil {
		return -1, err
	}
	if own, err := h.ownNetns(); h.aid != nil && (err != nil || ino != own) {
		return h.aid.DiagSocket(netns)
	}
	fd := -1
	err = h.InNetns(netns, func() error {
		var err error
		fd, err = openDiag()
		return err
	})
	return fd, err
}

// findSocket asks the kernel for one socket; a listener is looked for before the many connections.
func (h *Host) findSocket(s SocketTarget) (diagSocket, error) {
	asks := []uint32{stateAny}
	proto := uint8(unix.IPPROTO_UDP)
	if s.Proto == "tcp" {
		asks, proto = []uint32{stateListen, stateAny &^ stateListen}, unix.IPPROTO_TCP
	}
	for _, states := range asks {
		found, _, err := h.diagIn(NetnsTarget(s.Netns), proto, states)
		if err != nil {
			return diagSocket{}, err
		}
		for _, d := range found {
			if d.cookie == s.Cookie && d.local == s.Local {
				return d, nil
			}
		}
	}
	return diagSocket{}, fmt.Errorf("no such socket any more: %w", tune.ErrGone)
}

// socketsLike lists the targets a socket tunable can have now, in one namespace or (0) in all:
// listeners for the backlog, else listeners and UDP sockets. One namespace that cannot be read does not
// hide the others.
func (h *Host) socketsLike(method tune.Method, in uint64) ([]SocketTarget, error) {
	spaces := []Netns{{Target: NetnsTarget(in)}}
	if in == 0 {
		var err error
		if spaces, err = h.Namespaces(); err != nil {
			return nil, err
		}
	}
	var out []SocketTarget
	for _, n := range spaces {
		protos := map[string]uint8{"tcp": unix.IPPROTO_TCP}
		if method != tune.MethodBacklog {
			protos["udp"] = unix.IPPROTO_UDP
		}
		for name, proto := range protos {
			states := uint32(stateAny)
			if name == "tcp" {
				states = stateListen
			}
			found, ino, err := h.diagIn(n.Target, proto, states)
			if err != nil {
				continue
			}
			for _, s := range found {
				out = append(out, SocketTarget{name, s.local, ino, s.cookie})
			}
		}
	}
	return out, nil
}

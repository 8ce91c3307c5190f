package tcp

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"semantos/internal/host/hosttest"
)

// inside runs fn in a namespace and ends the test with its error.
func inside(t *testing.T, ns *hosttest.Namespace, fn func() error) {
	t.Helper()
	var err error
	ns.Do(func() { err = fn() })
	if err != nil {
		t.Fatal(err)
	}
}

func listen(t *testing.T, ns *hosttest.Namespace, ip string) *net.TCPListener {
	t.Helper()
	var l *net.TCPListener
	var plain net.ListenConfig
	plain.SetMultipathTCP(false) // its listeners take no filter
	inside(t, ns, func() error {
		x, err := plain.Listen(t.Context(), "tcp4", net.JoinHostPort(ip, "0"))
		if err == nil {
			l = x.(*net.TCPListener)
		}
		return err
	})
	t.Cleanup(func() { l.Close() })
	return l
}

// dial connects out of a namespace; segment limits the size of what it sends, 0 does not.
func dial(ns *hosttest.Namespace, to net.Addr, segment int) (c *net.TCPConn, err error) {
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		if segment == 0 {
			return nil
		}
		return control(raw, func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, segment) })
	}}
	ns.Do(func() {
		var x net.Conn
		if x, err = d.Dial("tcp4", to.String()); err == nil {
			c = x.(*net.TCPConn)
		}
	})
	return c, err
}

// socket is what a connection or listener has to reach its descriptor.
type socket interface {
	SyscallConn() (syscall.RawConn, error)
}

func control(raw syscall.RawConn, fn func(fd int) error) error {
	var inner error
	err := raw.Control(func(fd uintptr) { inner = fn(int(fd)) })
	return errors.Join(err, inner)
}

func on(t *testing.T, s socket, fn func(fd int) error) {
	t.Helper()
	raw, err := s.SyscallConn()
	if err == nil {
		err = control(raw, fn)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// filter makes a socket lose what it receives as a classic BPF program says (0 loses it), before TCP sees
// it; no program ends that. It needs no module, as netem or an action of tc would.
func filter(t *testing.T, s socket, program ...unix.SockFilter) {
	t.Helper()
	on(t, s, func(fd int) error {
		if len(program) == 0 {
			return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
		}
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	})
}

const (
	loadWord  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	loadByte  = unix.BPF_LD | unix.BPF_B | unix.BPF_ABS
	ifGreater = unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K
	ifBits    = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
	give      = unix.BPF_RET | unix.BPF_K
	random    = 0xfffff000 + 56 // SKF_AD_OFF + SKF_AD_RANDOM
	flags     = 13              // byte of the TCP header
	synBit    = 2
	all       = 1 << 18
)

// some loses one packet in n at random, everything loses all, answers all but a SYN.
func some(n uint32) []unix.SockFilter {
	return []unix.SockFilter{{Code: loadWord, K: random}, {Code: ifGreater, Jf: 1, K: ^uint32(0) / n},
		{Code: give, K: all}, {Code: give}}
}

func everything() []unix.SockFilter { return []unix.SockFilter{{Code: give}} }

func answers() []unix.SockFilter {
	return []unix.SockFilter{{Code: loadByte, K: flags}, {Code: ifBits, Jf: 1, K: synBit}, {Code: give, K: all}, {Code: give}}
}

// info is a socket's TCP_INFO.
func info(t *testing.T, s socket) *unix.TCPInfo {
	t.Helper()
	var i *unix.TCPInfo
	on(t, s, func(fd int) (err error) {
		i, err = unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		return err
	})
	return i
}

// snmp reads the kernel's TCP counters of a namespace.
func snmp(t *testing.T, ns *hosttest.Namespace) map[string]float64 {
	t.Helper()
	var b []byte
	inside(t, ns, func() (err error) {
		b, err = os.ReadFile("/proc/thread-self/net/snmp")
		return err
	})
	out := map[string]float64{}
	var names []string
	for line := range strings.Lines(string(b)) {
		words := strings.Fields(line)
		if words[0] != "Tcp:" {
			continue
		}
		if names == nil {
			names = words
			continue
		}
		for i, w := range words[1:] {
			v, err := strconv.ParseFloat(w, 64)
			if err != nil {
				t.Fatal(err)
			}
			out[names[i+1]] = v
		}
	}
	return out
}

// pour sends n bytes and waits until the other side has closed, having read them all.
func pour(t *testing.T, from, to *net.TCPConn, n int64) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		got, err := io.Copy(io.Discard, to)
		if err == nil && got != n {
			err = fmt.Errorf("%d of %d bytes arrived", got, n)
		}
		done <- err
	}()
	chunk := make([]byte, 64<<10)
	for left := n; left > 0; left -= int64(len(chunk)) {
		if _, err := from.Write(chunk[:min(left, int64(len(chunk)))]); err != nil {
			t.Fatal(err)
		}
	}
	if err := from.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// wire connects two namespaces by a veth pair, 10.9.0.1 and 10.9.0.2; what leaves the first passes a
// token bucket of some bytes per second and hardly any queue.
func wire(t *testing.T, a, b *hosttest.Namespace, rate uint64) {
	t.Helper()
	var other int
	inside(t, b, func() (err error) {
		other, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return err
	})
	defer unix.Close(other)
	up := func(name, addr string) (netlink.Link, error) {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return nil, err
		}
		ip, err := netlink.ParseAddr(addr)
		if err != nil {
			return nil, err
		}
		return l, errors.Join(netlink.AddrAdd(l, ip), netlink.LinkSetUp(l))
	}
	inside(t, a, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "va"
		err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "vb", PeerNamespace: netlink.NsFd(other)})
		if err != nil {
			return fmt.Errorf("add veth: %w", err)
		}
		l, err := up("va", "10.9.0.1/24")
		if err != nil {
			return err
		}
		return netlink.QdiscAdd(&netlink.Tbf{
			QdiscAttrs: netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
			Rate:       rate, Limit: 20_000, Buffer: 20_000, // bytes
		})
	})
	inside(t, b, func() error { _, err := up("vb", "10.9.0.2/24"); return err })
}

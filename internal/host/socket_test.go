package host_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"semantos/internal/host"
	"semantos/internal/host/hosttest"
	"semantos/internal/tune"
)

func socketTunable(name string, method tune.Method) *tune.Tunable {
	return &tune.Tunable{Name: name, Scope: tune.ScopeSocket, Method: method, Kind: tune.KindInteger, Arity: 1}
}

var (
	backlog = socketTunable("socket/listen_backlog", tune.MethodBacklog)
	rcvbuf  = socketTunable("socket/rcvbuf", tune.MethodRcvbuf)
	sndbuf  = socketTunable("socket/sndbuf", tune.MethodSndbuf)
)

// open makes a socket inside the namespace, bound to loopback and any port; listening for TCP.
func open(t *testing.T, ns *hosttest.Namespace, kind int) (fd, port int) {
	t.Helper()
	var err error
	ns.Do(func() {
		if fd, err = unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0); err != nil {
			return
		}
		if err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			return
		}
		if kind == unix.SOCK_STREAM {
			err = unix.Listen(fd, 8)
		}
	})
	if err != nil {
		t.Fatalf("open socket: %v", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fd, name.(*unix.SockaddrInet4).Port
}

func TestBacklogOfAListener(t *testing.T) {
	t.Parallel()
	ns := hosttest.FreshNetns(t)
	h := host.New(host.Config{})
	_, port := open(t, ns, unix.SOCK_STREAM)
	target, err := h.Resolve(backlog, fmt.Sprintf("tcp:%d;netns=%d", port, ns.Inode))
	if err != nil {
		t.Fatal(err)
	}
	if c := h.Probe(backlog, target); !c.Writable {
		t.Fatalf("probe says %+v", c)
	}
	for _, v := range []tune.Value{"512", "16"} { // up and down
		if got, err := h.Write(backlog, target, v); err != nil || got != v {
			t.Fatalf("write %s gave %q, %v", v, got, err)
		}
		seen, err := h.Listeners(ns.Target)
		if err != nil || len(seen) != 1 || fmt.Sprint(seen[0].Backlog) != string(v) {
			t.Fatalf("sock_diag shows %+v, %v; want backlog %s", seen, err, v)
		}
		if !slices.Contains(seen[0].Pids, os.Getpid()) || seen[0].Comm == "" || seen[0].Target != target {
			t.Errorf("listener %+v is not ours", seen[0])
		}
	}
	if got, err := h.Restore(backlog, target, "8"); err != nil || got != "8" {
		t.Errorf("restore gave %q, %v", got, err)
	}
}

// TestBacklogOfAnotherProcess leaves the listener to a child alone, as a server is found. It is a
// Multipath TCP one where the kernel has that, as every Go server's is.
func TestBacklogOfAnotherProcess(t *testing.T) {
	t.Parallel()
	ns := hosttest.FreshNetns(t)
	var file *os.File
	var err error
	ns.Do(func() {
		var l net.Listener
		var conf net.ListenConfig
		conf.SetMultipathTCP(true)
		if l, err = conf.Listen(context.Background(), "tcp4", "127.0.0.1:7070"); err == nil {
			file, err = l.(*net.TCPListener).File()
			l.Close()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command("sleep", "60")
	child.ExtraFiles = []*os.File{file}
	err = child.Start()
	file.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = child.Process.Kill() // it may have ended already
		_ = child.Wait()         // and says that it was killed
	})
	h := host.New(host.Config{})
	for _, v := range []tune.Value{"8", "1000"} {
		if got, err := h.Write(backlog, fmt.Sprintf("tcp:7070;netns=%d", ns.Inode), v); err != nil || got != v {
			t.Errorf("write gave %q, %v", got, err)
		}
	}
	full, err := h.Resolve(rcvbuf, fmt.Sprintf("tcp:7070;netns=%d", ns.Inode))
	if err != nil {
		t.Fatal(err)
	}
	before, err := h.Read(rcvbuf, full)
	if err != nil {
		t.Fatal(err)
	}
	// A pinned buffer of a Multipath TCP socket could not be unpinned again, so it is not touched.
	if got, err := h.Write(rcvbuf, full, "1000000"); errors.Is(err, tune.ErrUnsupported) {
		if now, err := h.Read(rcvbuf, full); err != nil || now != before {
			t.Errorf("refused, yet it reads %q, %v; before %q", now, err, before)
		}
		if c := h.Probe(rcvbuf, full); c.Writable || !c.Readable {
			t.Errorf("probe says %+v", c)
		}
	} else if err != nil || got != "+1000000" {
		t.Errorf("write gave %q, %v", got, err)
	}
	if got, err := h.Restore(rcvbuf, full, before); err != nil || got != before {
		t.Errorf("restore gave %q, %v; want %q", got, err, before)
	}
	seen, err := h.Listeners(ns.Target)
	if err != nil || len(seen) != 1 || seen[0].Backlog != 1000 || !slices.Equal(seen[0].Pids, []int{child.Process.Pid}) || seen[0].Comm != "sleep" {
		t.Errorf("listeners %+v, %v", seen, err)
	}
}

func TestBacklogIsLimitedBySomaxconn(t *testing.T) {
	t.Parallel()
	ns := hosttest.FreshNetns(t)
	h := host.New(host.Config{})
	_, port := open(t, ns, unix.SOCK_STREAM)
	somaxconn := number("net.core.somaxconn", "net/core/somaxconn", tune.ScopeNetns)
	if _, err := h.Write(somaxconn, ns.Target, "8"); err != nil {
		t.Fatal(err)
	}
	target := fmt.Sprintf("tcp:127.0.0.1:%d;netns=%d", port, ns.Inode)
	_, err := h.Write(backlog, target, "512")
	if !errors.Is(err, tune.ErrOutOfRange) || !strings.Contains(tune.Hint(err), "somaxconn") {
		t.Errorf("err %v, hint %q", err, tune.Hint(err))
	}
	if got, err := h.Read(backlog, target); err != nil || got != "8" {
		t.Errorf("backlog is %q, %v", got, err)
	}
}

func TestBufferPinnedAndUnpinned(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		kind int
		tun  *tune.Tunable
	}{{"udp", unix.SOCK_DGRAM, rcvbuf}, {"tcp", unix.SOCK_STREAM, rcvbuf}, {"udp", unix.SOCK_DGRAM, sndbuf}} {
		t.Run(c.name+" "+c.tun.Name, func(t *testing.T) {
			t.Parallel()
			ns := hosttest.FreshNetns(t)
			h := host.New(host.Config{})
			fd, port := open(t, ns, c.kind)
			// The other direction is pinned by the application: that must survive.
			other := map[*tune.Tunable]int{rcvbuf: unix.SO_SNDBUF, sndbuf: unix.SO_RCVBUF}[c.tun]
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, other, 30000); err != nil {
				t.Fatal(err)
			}
			locks := lockOf(t, fd)
			target, err := h.Resolve(c.tun, fmt.Sprintf("%s:%d;netns=%d", c.name, port, ns.Inode))
			if err != nil {
				t.Fatal(err)
			}
			before, err := h.Read(c.tun, target)
			if err != nil || strings.HasPrefix(string(before), "+") {
				t.Fatalf("read %q, %v", before, err)
			}
			if got, err := h.Write(c.tun, target, "8388608"); err != nil || got != "+8388608" { // beyond rmem_max
				t.Fatalf("write gave %q, %v", got, err)
			}
			if lockOf(t, fd) != 3 {
				t.Errorf("lock is %d, want both", lockOf(t, fd))
			}
			if got, err := h.Restore(c.tun, target, before); err != nil || got != before {
				t.Errorf("restore gave %q, %v; want %q", got, err, before)
			}
			if lockOf(t, fd) != locks {
				t.Errorf("lock is %d, was %d", lockOf(t, fd), locks)
			}
			if got, err := h.Restore(c.tun, target, "+65536"); err != nil || got != "+65536" {
				t.Errorf("restoring a pinned size gave %q, %v", got, err)
			}
		})
	}
}

func lockOf(t *testing.T, fd int) int {
	t.Helper()
	n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestUDPSocketsAndOwners(t *testing.T) {
	t.Parallel()
	ns := hosttest.FreshNetns(t)
	h := host.New(host.Config{})
	fd, port := open(t, ns, unix.SOCK_DGRAM)
	found, err := h.UDPSockets(ns.Target)
	if err != nil || len(found) != 1 || int(found[0].Port) != port || found[0].Rcvbuf == 0 || found[0].Connected {
		t.Fatalf("udp sockets %+v, %v", found, err)
	}
	for range 2 { // the second answer comes from what is remembered
		owner := h.Owners([]uint64{found[0].Inode, 1})
		if len(owner) != 1 || !slices.Contains(owner[found[0].Inode].Pids, os.Getpid()) || owner[found[0].Inode].FD != fd {
			t.Fatalf("owners %+v", owner)
		}
	}
}

func TestSocketGoneAndReplaced(t *testing.T) {
	t.Parallel()
	ns := hosttest.FreshNetns(t)
	h := host.New(host.Config{})
	_, port := open(t, ns, unix.SOCK_STREAM)
	target, err := h.Resolve(backlog, fmt.Sprintf("tcp:%d;netns=%d", port, ns.Inode))
	if err != nil {
		t.Fatal(err)
	}
	s, err := host.ParseSocketTarget(target)
	if err != nil {
		t.Fatal(err)
	}
	s.Cookie++ // same address, another socket
	if v, err := h.Write(backlog, s.String(), "64"); !errors.Is(err, tune.ErrGone) {
		t.Errorf("write gave %q, %v", v, err)
	}
	if _, err := h.Identity(tune.ScopeSocket, s.String()); !errors.Is(err, tune.ErrGone) {
		t.Errorf("identity gave %v", err)
	}
	id, err := h.Identity(tune.ScopeSocket, target)
	if err != nil || id["cookie"] == "" || id["netns"] != strconv.FormatUint(ns.Inode, 10) {
		t.Errorf("identity %v, %v", id, err)
	}
	if got, err := h.Read(backlog, target); err != nil || got != "8" {
		t.Errorf("backlog is %q, %v", got, err)
	}
}

func TestResolveSocketSaysWhichFit(t *testing.T) {
	t.Parallel()
	ns := hosttest.FreshNetns(t)
	h := host.New(host.Config{})
	var err error
	var first, second net.Listener
	ns.Do(func() {
		if first, err = net.Listen("tcp4", "127.0.0.1:7777"); err == nil {
			second, err = net.Listen("tcp4", "127.0.0.2:7777")
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	defer second.Close()
	in := fmt.Sprintf(";netns=%d", ns.Inode)
	if _, err := h.Resolve(backlog, "tcp:7777"+in); !errors.Is(err, tune.ErrUsage) || !strings.Contains(tune.Hint(err), "127.0.0.2") {
		t.Errorf("err %v, hint %q", err, tune.Hint(err))
	}
	full, err := h.Resolve(backlog, "tcp:127.0.0.2:7777"+in)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := host.ParseSocketTarget(full); err != nil || s.Local != netip.MustParseAddrPort("127.0.0.2:7777") {
		t.Errorf("resolved to %v, %v", s, err)
	}
	if _, err := h.Resolve(backlog, "tcp:7778"+in); !errors.Is(err, tune.ErrGone) {
		t.Errorf("nobody listens: %v", err)
	}
	all, err := h.Targets(backlog)
	if err != nil || !slices.Contains(all, full) || !slices.IsSorted(all) {
		t.Errorf("targets %v, %v", all, err)
	}
}

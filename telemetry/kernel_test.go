package telemetry

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// inFreshNetns runs fn on a thread with a network namespace of its own, loopback up. The thread ends
// with the goroutine, and the namespace with it. What fn opens must be closed by it.
func inFreshNetns(t *testing.T, fn func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: a network namespace of its own")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// the main thread must keep its namespace; another goroutine gets another thread
			inner := make(chan struct{})
			go func() { defer close(inner); runtime.LockOSThread(); enter(t, fn) }()
			<-inner
			runtime.UnlockOSThread()
			return
		}
		enter(t, fn)
	}()
	<-done
}

func enter(t *testing.T, fn func()) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Errorf("unshare: %v", err)
		return
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		t.Error(err)
		return
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		t.Errorf("bring loopback up: %v", err)
		return
	}
	fn()
}

func tick(t *testing.T, s *Sampler) {
	if err := s.Tick(context.Background()); err != nil {
		t.Error(err)
	}
}

// ownNamespace gives the entity of the thread's namespace.
func ownNamespace(t *testing.T, snap tune.Snapshot) tune.Entity {
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		t.Error(err)
	}
	id := fmt.Sprintf("netns:%d", st.Ino)
	for _, e := range snap.Entities[tune.EntityNetns] {
		if e.ID == id {
			return e
		}
	}
	t.Errorf("namespace %s is not in the snapshot", id)
	return tune.Entity{}
}

func listenOn(t *testing.T, backlog int) (fd int, addr *unix.SockaddrInet4) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Error(err)
		return -1, nil
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Error(err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		t.Error(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Error(err)
		return fd, nil
	}
	return fd, name.(*unix.SockaddrInet4)
}

// TestKernelListenOverflow: nobody accepts, so a backlog of one overflows.
func TestKernelListenOverflow(t *testing.T) {
	s := realSampler(t, time.Minute)
	inFreshNetns(t, func() {
		fd, addr := listenOn(t, 1)
		defer unix.Close(fd)
		tick(t, s)
		var clients []int
		defer func() {
			for _, c := range clients {
				unix.Close(c)
			}
		}()
		for range 12 {
			c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Error(err)
				return
			}
			clients = append(clients, c)
			if err := unix.Connect(c, addr); err != nil && err != unix.EINPROGRESS {
				t.Error(err)
			}
		}
		time.Sleep(50 * time.Millisecond)
		tick(t, s)
		snap := s.Snapshot()
		ns := ownNamespace(t, snap)
		if ns.Signals["tcp.listen_overflows"] <= 0 || snap.Signals["tcp.listen_overflows.total"] < 1 {
			t.Errorf("overflows %v, of the host %v", ns.Signals["tcp.listen_overflows"], snap.Signals["tcp.listen_overflows.total"])
		}
		found := false
		for _, l := range snap.Entities[tune.EntityListener] {
			if l.Labels["netns"] != ns.ID || l.Labels["port"] != strconv.Itoa(addr.Port) {
				continue
			}
			found = true
			if l.Signals["listener.at_limit_share"] <= 0 || l.Signals["listener.full_share"] < 1 || l.Signals["listener.backlog"] != 1 || l.Signals["listener.drops"] <= 0 {
				t.Errorf("signals %v", l.Signals)
			}
			if l.Labels["pid"] != strconv.Itoa(os.Getpid()) || l.Labels["comm"] == "" || l.Labels["socket"] != l.ID {
				t.Errorf("labels %v", l.Labels)
			}
		}
		if !found {
			t.Error("the listener is not in the snapshot")
		}
		if used := ns.Signals["ports.used.last"]; used < 12 {
			t.Errorf("%v ephemeral ports in use towards the listener, want at least 12", used)
		}
		if ns.Labels["busiest_destination"] != fmt.Sprintf("127.0.0.1:%d", addr.Port) {
			t.Errorf("busiest destination %q", ns.Labels["busiest_destination"])
		}
	})
}

// TestKernelUDPDrops: nobody reads, so a small receive buffer overflows.
func TestKernelUDPDrops(t *testing.T) {
	s := realSampler(t, time.Minute)
	inFreshNetns(t, func() {
		rx, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(rx)
		if err := unix.SetsockoptInt(rx, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096); err != nil {
			t.Error(err)
		}
		if err := unix.Bind(rx, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 9999}); err != nil {
			t.Error(err)
		}
		tx, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(tx)
		send := func(n int) {
			for range n {
				if err := unix.Sendto(tx, make([]byte, 1000), 0, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 9999}); err != nil {
					t.Error(err)
				}
			}
		}
		send(1)
		tick(t, s)
		send(200)
		time.Sleep(20 * time.Millisecond)
		tick(t, s)
		snap := s.Snapshot()
		ns := ownNamespace(t, snap)
		if ns.Signals["udp.rcvbuf_errors"] <= 0 {
			t.Errorf("udp.rcvbuf_errors %v", ns.Signals["udp.rcvbuf_errors"])
		}
		for _, u := range snap.Entities[tune.EntityUDPSocket] {
			if u.Labels["port"] == "9999" && u.Labels["netns"] == ns.ID {
				if u.Signals["udpsock.drops"] <= 0 || u.Signals["udpsock.full_share"] < 0.5 || u.Signals["udpsock.locked"] != 1 {
					t.Errorf("signals %v", u.Signals)
				}
				return
			}
		}
		t.Error("the socket is not in the snapshot")
	})
}

// TestKernelUnixQueue: nobody reads a local datagram socket.
func TestKernelUnixQueue(t *testing.T) {
	s := realSampler(t, time.Minute)
	inFreshNetns(t, func() {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(pair[0])
		defer unix.Close(pair[1])
		tick(t, s)
		if _, err := unix.Write(pair[0], []byte("waiting")); err != nil {
			t.Error(err)
		}
		tick(t, s)
		ns := ownNamespace(t, s.Snapshot())
		if ns.Signals["unix.dgram_sockets"] != 2 || ns.Signals["unix.dgram_waiting.last"] != 1 || ns.Signals["unix.dgram_waiting.max"] != 1 {
			t.Errorf("%v sockets, %v waiting", ns.Signals["unix.dgram_sockets"], ns.Signals["unix.dgram_waiting.last"])
		}
	})
}

// TestKernelReceiverLimited: a reader slower than the writer holds the writer back by its window.
func TestKernelReceiverLimited(t *testing.T) {
	s := realSampler(t, time.Minute)
	inFreshNetns(t, func() {
		if err := os.WriteFile("/proc/sys/net/ipv4/tcp_rmem", []byte("4096 16384 16384"), 0); err != nil {
			t.Errorf("set tcp_rmem of the fresh namespace: %v", err)
			return
		}
		fd, addr := listenOn(t, 8)
		defer unix.Close(fd)
		tx, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(tx)
		if err := unix.Connect(tx, addr); err != nil {
			t.Error(err)
			return
		}
		rx, _, err := unix.Accept(fd)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(rx)
		if err := unix.SetNonblock(tx, true); err != nil {
			t.Error(err)
		}
		block, buf := make([]byte, 64<<10), make([]byte, 2048)
		tick(t, s)
		for end := time.Now().Add(400 * time.Millisecond); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
			if _, err := unix.Write(tx, block); err != nil && err != unix.EAGAIN {
				t.Error(err)
			}
			if _, err := unix.Read(rx, buf); err != nil {
				t.Error(err)
			}
		}
		tick(t, s)
		ns := ownNamespace(t, s.Snapshot())
		if ns.Signals["tcpinfo.rwnd_limited_share"] < 0.3 {
			t.Errorf("rwnd_limited_share %v", ns.Signals["tcpinfo.rwnd_limited_share"])
		}
		if ns.Signals["tcpinfo.rcvbuf_at_max_share.max"] != 1 {
			t.Errorf("rcvbuf_at_max_share %v, rcvbuf %v", ns.Signals["tcpinfo.rcvbuf_at_max_share.max"], ns.Signals["tcpinfo.rcvbuf_bytes.p50"])
		}
		if ns.Signals["tcpinfo.established"] < 2 || ns.Signals["tcpinfo.recv_bytes.total"] < 10000 {
			t.Errorf("established %v, received %v", ns.Signals["tcpinfo.established"], ns.Signals["tcpinfo.recv_bytes.total"])
		}
	})
}

// TestKernelLeaksNothing: ticks open and close the same descriptors; Close gives back the rest.
func TestKernelLeaksNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // makes the Go runtime open its poller before we count
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before := count()
	s := realSampler(t, time.Minute)
	tick(t, s)
	first := count()
	for range 20 {
		tick(t, s)
	}
	if now := count(); now > first {
		t.Errorf("%d descriptors after one tick, %d after twenty more", first, now)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if now := count(); now > before {
		t.Errorf("%d descriptors before, %d after Close", before, now)
	}
}

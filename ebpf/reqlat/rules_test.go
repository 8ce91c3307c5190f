package reqlat

import (
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"semantos/ebpf/probe"
	"semantos/ebpf/probetest"
	"semantos/internal/host/hosttest"
)

// TestClientsAreNotServers: many processes are both. Neither a plain client nor one that bound its port
// before it connected is counted; the count of the server is exact.
func TestClientsAreNotServers(t *testing.T) {
	p := probetest.Load(t, New(), probe.Options{})
	ns := hosttest.FreshNetns(t)
	back := listen(t, ns, 0, answering(frame, at(time.Millisecond)))
	// The front asks the back for each request, on connections of each kind.
	var up [3]net.Conn
	for i, from := range []int{-1, 0, 23456} {
		up[i] = back.dial(from)
	}
	front := listen(t, ns, 0, func(c net.Conn) {
		in := make([]byte, frame)
		for i := 0; ; i++ {
			if _, err := io.ReadFull(c, in); err != nil {
				return
			}
			if _, err := ask(up[i%len(up)], 0, in); err != nil {
				t.Error(err)
				return
			}
			if _, err := c.Write(in); err != nil {
				return
			}
		}
	})
	c := front.dial(0)
	const n = 90
	for range n {
		if _, err := ask(c, 0, make([]byte, frame)); err != nil {
			t.Fatal(err)
		}
	}
	none := &probetest.Readings{}
	now := settle(t, p, front.id, n, none)
	if f, b := grown(front.id, now, none), grown(back.id, now, none); f != n || b != n {
		t.Errorf("front %d, back %d of %d requests", f, b, n)
	}
	for id := range now.Subjects {
		if strings.HasPrefix(id, strings.Split(back.id, "/")[0]+"/") && id != front.id && id != back.id {
			t.Errorf("%s is no server", id)
		}
	}
	if f, b := now.Hist(front.id, latency).Quantile(.5), now.Hist(back.id, latency).Quantile(.5); f <= b {
		t.Errorf("the front answers within %.3f ms, the back it asks within %.3f ms", f/1e6, b/1e6)
	}
}

// TestWhatCounts: one exchange after another on one connection, and what each must count.
func TestWhatCounts(t *testing.T) {
	const ms = time.Millisecond
	write := func(c net.Conn, n int) { c.Write(make([]byte, n)) }
	read := func(c net.Conn, n int) bool { _, err := io.ReadFull(c, make([]byte, n)); return err == nil }
	for _, c := range []struct {
		name     string
		server   func(net.Conn)
		client   func(net.Conn)
		counted  int
		min, max time.Duration // of the longest latency
	}{
		{"greeting and push are no answers", func(c net.Conn) {
			write(c, 10)
			if read(c, 4) {
				write(c, 4)
			}
			time.Sleep(100 * ms)
			write(c, 10)
			write(c, 10)
		}, func(c net.Conn) { read(c, 10); write(c, 4); read(c, 24) }, 1, 0, 90 * ms},
		{"of a streamed answer the first bytes count", func(c net.Conn) {
			read(c, 4)
			for range 10 {
				write(c, 10)
				time.Sleep(15 * ms)
			}
		}, func(c net.Conn) { write(c, 4); read(c, 100) }, 1, 0, 90 * ms},
		{"a long poll lasts long", func(c net.Conn) { read(c, 4); time.Sleep(300 * ms); write(c, 4) },
			func(c net.Conn) { write(c, 4); read(c, 4) }, 1, 300 * ms, 600 * ms},
		{"pipelined and read one by one", func(c net.Conn) {
			for read(c, 4) {
				time.Sleep(10 * ms)
				write(c, 4)
			}
		}, func(c net.Conn) { write(c, 16); read(c, 16) }, 4, 40 * ms, 300 * ms},
		{"pipelined and read at once", func(c net.Conn) {
			read(c, 16)
			for range 4 {
				time.Sleep(40 * ms)
				write(c, 4)
			}
		}, func(c net.Conn) { write(c, 16); read(c, 16) }, 1, 40 * ms, 75 * ms},
		{"the second comes before the first is answered", func(c net.Conn) {
			for read(c, 4) {
				time.Sleep(60 * ms)
				write(c, 4)
			}
		}, func(c net.Conn) { write(c, 4); time.Sleep(10 * ms); write(c, 4); read(c, 8) }, 2, 75 * ms, 250 * ms},
		{"always some in flight", func(c net.Conn) {
			for read(c, 4) {
				time.Sleep(5 * ms)
				write(c, 4)
			}
		}, func(c net.Conn) {
			write(c, 12)
			for range 40 {
				read(c, 4)
				write(c, 4)
			}
			read(c, 12)
		}, 43, 14 * ms, 120 * ms},
		{"segments of one request", func(c net.Conn) { read(c, 12); write(c, 4) },
			func(c net.Conn) {
				write(c, 4)
				time.Sleep(20 * ms)
				write(c, 4)
				time.Sleep(20 * ms)
				write(c, 4)
				read(c, 4)
			},
			1, 40 * ms, 200 * ms},
		{"what nobody answers is no start after a silence", func(c net.Conn) { read(c, 8); time.Sleep(5 * ms); write(c, 4) },
			func(c net.Conn) { write(c, 4); time.Sleep(300 * ms); write(c, 4); read(c, 4) }, 1, 5 * ms, 250 * ms},
		{"one way", func(c net.Conn) { read(c, 4000) }, func(c net.Conn) { write(c, 4000); time.Sleep(ms) }, 0, 0, 0},
		{"answered after the client's end", func(c net.Conn) { io.Copy(io.Discard, c); time.Sleep(5 * ms); write(c, 4) },
			func(c net.Conn) { write(c, 400); c.(*net.TCPConn).CloseWrite(); read(c, 4) }, 1, 5 * ms, 200 * ms},
		{"no request at all", func(c net.Conn) { read(c, 1) }, func(net.Conn) {}, 0, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := probetest.Load(t, New(), probe.Options{})
			served := make(chan struct{})
			s := listen(t, hosttest.FreshNetns(t), 0, func(conn net.Conn) { c.server(conn); close(served) })
			conn := s.dial(-1)
			c.client(conn)
			conn.Close()
			<-served
			now := probetest.Read(t, p)
			if got := grown(s.id, now, &probetest.Readings{}); got != c.counted {
				t.Fatalf("%d requests counted, want %d", got, c.counted)
			}
			if c.counted == 0 {
				return
			}
			h := now.Hist(s.id, latency)
			slowest := time.Duration(h.Quantile(1))
			if int(h.Count()) != c.counted || slowest < c.min*31/32 || slowest > c.max {
				t.Errorf("%d latencies, the longest %v, want %v to %v", h.Count(), slowest, c.min, c.max)
			}
		})
	}
}

// TestLooking: the request waits until it is read, however often the server looks at it.
func TestLooking(t *testing.T) {
	p := probetest.Load(t, New(), probe.Options{})
	s := listen(t, hosttest.FreshNetns(t), 0, peeking)
	if _, err := ask(s.dial(-1), 0, make([]byte, 4)); err != io.ErrUnexpectedEOF { // the answer is 4 bytes long
		t.Fatal(err)
	}
	now := settle(t, p, s.id, 1, &probetest.Readings{})
	if w := now.Hist(s.id, wait).Quantile(.5); !(w >= 19e6) {
		t.Errorf("the request waited %.2f ms of 20", w/1e6)
	}
}

// peeking looks at the request at once and reads it 20 ms later.
func peeking(c net.Conn) {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, 4)
	raw.Read(func(fd uintptr) bool {
		_, _, err := unix.Recvfrom(int(fd), buf, unix.MSG_PEEK)
		return err != unix.EAGAIN
	})
	time.Sleep(20 * time.Millisecond)
	if _, err := io.ReadFull(c, buf); err == nil {
		c.Write(buf)
	}
}

// TestOpenBefore: connections opened before the probe was loaded, or while it was paused, count.
func TestOpenBefore(t *testing.T) {
	ns := hosttest.FreshNetns(t)
	s := listen(t, ns, 0, answering(frame, at(time.Millisecond)))
	request := make([]byte, frame)
	old := s.dial(0)
	if _, err := ask(old, 0, request); err != nil {
		t.Fatal(err)
	}
	p := probetest.Load(t, New(), probe.Options{})
	for range 10 {
		if _, err := ask(old, 0, request); err != nil {
			t.Fatal(err)
		}
	}
	none := &probetest.Readings{}
	now := settle(t, p, s.id, 10, none)
	if got, h := grown(s.id, now, none), now.Hist(s.id, latency); got != 10 || h.Count() != 10 {
		t.Fatalf("%d of 10 requests on a connection from before, %d latencies", got, h.Count())
	}
	if h := now.Hist(s.id, acceptWait); h.Count() != 0 {
		t.Errorf("%d accept waits of a connection that was accepted before", h.Count())
	}
}

// TestPause: a request that a pause cuts in two has no latency; those after it do.
func TestPause(t *testing.T) {
	p := probetest.Load(t, New(), probe.Options{})
	s := listen(t, hosttest.FreshNetns(t), 0, answering(frame, at(50*time.Millisecond)))
	request := make([]byte, frame)
	c := s.dial(-1)
	if _, err := c.Write(request); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond) // it is being served
	if err := p.Pause(); err != nil {
		t.Fatal(err)
	}
	later := s.dial(-1)
	if err := p.Resume(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, request); err != nil {
		t.Fatal(err)
	}
	for _, conn := range []net.Conn{c, later} {
		if _, err := ask(conn, 0, request); err != nil {
			t.Fatal(err)
		}
	}
	none := &probetest.Readings{}
	now := settle(t, p, s.id, 2, none)
	h := now.Hist(s.id, latency)
	if got := grown(s.id, now, none); got != 2 || h.Count() != 2 || h.Quantile(1) > 150e6 {
		t.Errorf("%d requests, %d latencies, the longest %.0f ms; want 2 of 50 ms", got, h.Count(), h.Quantile(1)/1e6)
	}
}

// TestRestart: a server that comes back on its port is the same server.
func TestRestart(t *testing.T) {
	p := probetest.Load(t, New(), probe.Options{})
	ns := hosttest.FreshNetns(t)
	port := 0
	for i := 1; i <= 2; i++ {
		s := listen(t, ns, port, answering(frame, at(0)))
		port = int(s.port())
		c := s.dial(-1)
		for range 5 {
			if _, err := ask(c, 0, make([]byte, frame)); err != nil {
				t.Fatal(err)
			}
		}
		c.Close()
		s.ln.Close()
		none := &probetest.Readings{}
		if got := grown(s.id, settle(t, p, s.id, 5*i, none), none); got != 5*i {
			t.Errorf("%d requests after start %d, want %d", got, i, 5*i)
		}
	}
}

// ownCgroup is the id of this process's cgroup in the unified hierarchy; 0, which narrows nothing, where
// that is not mounted.
func ownCgroup(t *testing.T) uint64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			for _, at := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
				var st unix.Stat_t
				var fs unix.Statfs_t
				if unix.Statfs(at, &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC && unix.Stat(at+path, &st) == nil {
					return st.Ino
				}
			}
		}
	}
	return 0
}

// TestIPv6: the same, with the same subject.
func TestIPv6(t *testing.T) {
	p := probetest.Load(t, New(), probe.Options{})
	ns := hosttest.FreshNetns(t)
	s := listen(t, ns, 0, answering(frame, at(0)))
	var six net.Listener
	var c net.Conn
	var err error
	ns.Do(func() { six, err = net.Listen("tcp6", net.JoinHostPort("::1", strconv.Itoa(int(s.port())))) })
	if err != nil {
		t.Skipf("no IPv6 here: %v", err)
	}
	defer six.Close()
	go func() {
		if c, err := six.Accept(); err == nil {
			answering(frame, at(0))(c)
		}
	}()
	if ns.Do(func() { c, err = net.Dial("tcp6", six.Addr().String()) }); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, c := range []net.Conn{c, s.dial(-1), c} {
		if _, err := ask(c, 0, make([]byte, frame)); err != nil {
			t.Fatal(err)
		}
	}
	none := &probetest.Readings{}
	if got := grown(s.id, settle(t, p, s.id, 3, none), none); got != 3 {
		t.Errorf("%d of 3 requests", got)
	}
}

// TestScope: a probe for one port, or one process name, counts that alone; Totals is what it counted.
func TestScope(t *testing.T) {
	ns := hosttest.FreshNetns(t)
	a := listen(t, ns, 0, answering(frame, at(0)))
	b := listen(t, ns, 0, answering(frame, at(0)))
	for _, c := range []struct {
		name  string
		scope probe.Scope
		want  int
	}{
		{"port", probe.Scope{Port: a.port()}, 20},
		{"netns", probe.Scope{Netns: uint32(ns.Inode)}, 30},
		{"comm and netns", probe.Scope{Comm: ownComm(t), Netns: uint32(ns.Inode)}, 30},
		{"process and port", probe.Scope{TGID: uint32(os.Getpid()), Port: b.port()}, 10},
		{"cgroup and netns", probe.Scope{Cgroup: ownCgroup(t), Netns: uint32(ns.Inode)}, 30},
		{"other cgroup", probe.Scope{Cgroup: ownCgroup(t) + 1<<40, Netns: uint32(ns.Inode)}, 0},
		{"other comm", probe.Scope{Comm: "no-such-server"}, 0},
		{"other netns", probe.Scope{Netns: 1, Port: a.port()}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := probetest.Load(t, New(), probe.Options{Scope: c.scope})
			before, err := Totals(p)
			if err != nil {
				t.Fatal(err)
			}
			for s, n := range map[*server]int{a: 20, b: 10} {
				conn := s.dial(-1)
				for range n {
					if _, err := ask(conn, 0, make([]byte, frame)); err != nil {
						t.Fatal(err)
					}
				}
			}
			time.Sleep(20 * time.Millisecond)
			after, err := Totals(p)
			if err != nil {
				t.Fatal(err)
			}
			d := after.Since(before)
			if int(d.Count) != c.want || int(d.Latency.Count()) != c.want {
				t.Errorf("%d requests, %d latencies, want %d", d.Count, d.Latency.Count(), c.want)
			}
		})
	}
}

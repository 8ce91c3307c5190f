package reqlat

import (
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"semantos/ebpf/probe"
	"semantos/ebpf/probetest"
	"semantos/internal/host/hosttest"
)

// TestShortConnections: thousands of connections are one server's entry, every request counts, and what
// is remembered of a connection goes with it.
func TestShortConnections(t *testing.T) {
	n := 3000
	if os.Getenv("SOAK") != "" {
		n = 20000
	}
	p := probetest.Load(t, New(), probe.Options{})
	s := listen(t, hosttest.FreshNetns(t), 0, answering(frame, at(0)))
	for range n {
		c := s.dial(-1)
		if _, err := ask(c, 0, make([]byte, frame)); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	none := &probetest.Readings{}
	now := settle(t, p, s.id, n, none)
	if got := grown(s.id, now, none); got != n || p.Lost() != 0 {
		t.Errorf("%d of %d requests, %d lost", got, n, p.Lost())
	}
}

// TestExactAtSpeed: clients that ask again at once, so that the next request often arrives before the
// server's send has returned; on the programs of both kernels.
func TestExactAtSpeed(t *testing.T) {
	for name, spec := range map[string]probe.Spec{"send buffer": New(), "send returned": onReturn()} {
		t.Run(name, func(t *testing.T) {
			p := probetest.Load(t, spec, probe.Options{})
			s := listen(t, hosttest.FreshNetns(t), 0, answering(frame, at(0)))
			const clients, each = 8, 1500
			var wg sync.WaitGroup
			for range clients {
				c := s.dial(-1)
				wg.Go(func() {
					for range each {
						if _, err := ask(c, 0, make([]byte, frame)); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			none := &probetest.Readings{}
			now := settle(t, p, s.id, clients*each, none)
			h := now.Hist(s.id, latency)
			if got := grown(s.id, now, none); got != clients*each || h.Count() != clients*each {
				t.Errorf("%d requests, %d latencies, of %d", got, h.Count(), clients*each)
			}
			if slowest := h.Quantile(1); slowest > 10e9 {
				t.Errorf("a latency of %.0f ms", slowest/1e6)
			}
		})
	}
}

// TestManyServers: the table is bounded. What does not fit is told, and counts for the host; the
// longest idle make room; a busy one stays.
func TestManyServers(t *testing.T) {
	own := newServers()
	own.busy = 50 * time.Millisecond
	p := probetest.Load(t, describe(own), probe.Options{})
	ns := hosttest.FreshNetns(t)
	room := int(p.Map(bpfMapServers).MaxEntries())
	once := func(s *server) {
		t.Helper()
		c := s.dial(-1)
		defer c.Close()
		if _, err := ask(c, 0, make([]byte, frame)); err != nil {
			t.Fatal(err)
		}
	}
	entries := func() (n int) {
		var key serverKey
		var v uint32
		for it := p.Map(bpfMapServers).Iterate(); it.Next(&key, &v); {
			n++
		}
		return n
	}
	busy := listen(t, ns, 0, answering(frame, at(0)))
	once(busy)
	for i := range room + 20 {
		s := listen(t, ns, 10000+i, answering(frame, at(0)))
		once(s)
		s.ln.Close()
	}
	var total Requests
	var err error
	for deadline := time.Now().Add(time.Second); int(total.Count) < room+21 && time.Now().Before(deadline); {
		if total, err = Totals(p); err != nil {
			t.Fatal(err)
		}
	}
	if n := entries(); n != room || p.Lost() < 21 || int(total.Count) < room+21 {
		t.Errorf("%d entries of %d, %d lost, %d counted for the host", n, room, p.Lost(), total.Count)
	}
	time.Sleep(60 * time.Millisecond)
	once(busy)
	settle(t, p, busy.id, 2, &probetest.Readings{})
	if n := entries(); n > room/2 {
		t.Errorf("%d entries are left of %d", n, room)
	}
	lost := p.Lost()
	next := listen(t, ns, 0, answering(frame, at(0)))
	once(next)
	now := settle(t, p, next.id, 1, &probetest.Readings{})
	if got := grown(next.id, now, &probetest.Readings{}); got != 1 || p.Lost() != lost {
		t.Errorf("%d of 1 request of a server that came after, %d more lost", got, p.Lost()-lost)
	}
	if got := grown(busy.id, now, &probetest.Readings{}); got != 2 {
		t.Errorf("%d of 2 requests of the busy one", got)
	}
	own.mu.Lock()
	defer own.mu.Unlock()
	if len(own.labels) > room/2+1 {
		t.Errorf("%d servers' labels are kept", len(own.labels))
	}
}

// TestIdleServersGo: a server that has not answered for long is forgotten. A connection of it that lives
// on does not count for the server that has its place now.
func TestIdleServersGo(t *testing.T) {
	own := newServers()
	p := probetest.Load(t, describe(own), probe.Options{})
	ns := hosttest.FreshNetns(t)
	first := listen(t, ns, 0, answering(frame, at(0)))
	request, none := make([]byte, frame), &probetest.Readings{}
	old := first.dial(-1)
	once := func(c net.Conn) {
		t.Helper()
		if _, err := ask(c, 0, request); err != nil {
			t.Fatal(err)
		}
	}
	once(old)
	settle(t, p, first.id, 1, none)
	own.idle = 0
	probetest.Read(t, p)
	own.idle = time.Hour
	if grown(first.id, probetest.Read(t, p), none) != 0 {
		t.Fatal("it is still there")
	}
	second := listen(t, ns, 0, answering(frame, at(0)))
	once(second.dial(-1))
	once(old)
	once(old)
	settle(t, p, second.id, 1, none)
	now := settle(t, p, first.id, 2, none)
	if f, s := grown(first.id, now, none), grown(second.id, now, none); f != 2 || s != 1 {
		t.Errorf("%d of 2 requests, and %d of 1 of the server in its place", f, s)
	}
}

// TestLabels: they say which server it is.
func TestLabels(t *testing.T) {
	p := probetest.Load(t, New(), probe.Options{})
	s := listen(t, hosttest.FreshNetns(t), 0, answering(frame, at(0)))
	if _, err := ask(s.dial(-1), 0, make([]byte, frame)); err != nil {
		t.Fatal(err)
	}
	now := settle(t, p, s.id, 1, &probetest.Readings{})
	want := map[string]string{"netns": s.ns.Target, "port": strconv.Itoa(int(s.port())), "comm": ownComm(t),
		"proto": "tcp", "pid": strconv.Itoa(os.Getpid())}
	got := now.Subjects[s.id].Labels
	for k, v := range want {
		if got[k] != v {
			t.Errorf("label %s is %q, want %q", k, got[k], v)
		}
	}
}

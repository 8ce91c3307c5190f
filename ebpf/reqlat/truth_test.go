package reqlat

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"semantos/ebpf/probe"
	"semantos/ebpf/probetest"
	"semantos/internal/host/hosttest"
)

// attempts bounds how often a comparison is made. Noise has one side: a client that waits for a CPU
// sees its answer late, and no probe in the server's sockets can know that.
const attempts = 5

// onReturn describes the probe as kernels before 6.16 run it.
func onReturn() probe.Spec {
	s := New()
	s.Prepare = func(spec *ebpf.CollectionSpec, opts probe.Options) error {
		delete(spec.Programs, early)
		return prepare(spec, opts)
	}
	return s
}

// TestLatencyIsTheClients holds the histogram against what clients measured from send to first byte.
func TestLatencyIsTheClients(t *testing.T) {
	var turn atomic.Int64
	mixed := func() time.Duration {
		switch n := turn.Add(1) % 10; {
		case n < 6:
			return time.Millisecond
		case n < 9:
			return 5 * time.Millisecond
		default:
			return 20 * time.Millisecond
		}
	}
	small := make([]byte, frame)
	piece := make([]byte, 16<<10)
	for _, c := range []struct {
		name   string
		spec   probe.Spec
		size   int
		delay  func() time.Duration
		fresh  bool // a connection per request
		gap    time.Duration
		pieces [][]byte
	}{
		{name: "constant", spec: New(), size: frame, delay: at(2 * time.Millisecond), pieces: [][]byte{small}},
		{name: "mixed", spec: New(), size: frame, delay: mixed, pieces: [][]byte{small}},
		{name: "connection per request", spec: New(), size: frame, delay: at(2 * time.Millisecond), fresh: true, pieces: [][]byte{small}},
		{name: "large bodies", spec: New(), size: 4 * len(piece), delay: at(2 * time.Millisecond), gap: time.Millisecond,
			pieces: [][]byte{piece, piece, piece, piece}},
		{name: "older kernels", spec: onReturn(), size: frame, delay: at(2 * time.Millisecond), pieces: [][]byte{small}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := probetest.Load(t, c.spec, probe.Options{})
			s := listen(t, hosttest.FreshNetns(t), 0, answering(c.size, c.delay))
			conns := newPool(s, 8)
			once := func() (time.Duration, error) { return conns.ask(c.gap, c.pieces...) }
			if c.fresh {
				once = func() (time.Duration, error) {
					conn := s.dial(-1)
					defer conn.Close()
					return ask(conn, c.gap, c.pieces...)
				}
			}
			compare(t, p, s, once)
		})
	}
}

// compare loads a server until median and p95 agree with the client's; the count must always be exact.
func compare(t *testing.T, p *probe.Probe, s *server, once func() (time.Duration, error)) {
	t.Helper()
	const n = 150
	for try := 1; ; try++ {
		before := probetest.Read(t, p)
		seen := openLoop(t, n, 250, once)
		now := settle(t, p, s.id, n, before)
		h := now.Hist(s.id, latency, before)
		if got := grown(s.id, now, before); got != n || h.Count() != n {
			t.Fatalf("%d requests counted, %d latencies, of %d sent", got, h.Count(), n)
		}
		good := true
		for _, q := range []float64{.5, .95} {
			got, want := h.Quantile(q), quantile(seen, q)
			t.Logf("try %d: p%g %.3f ms, the client's %.3f ms", try, q*100, got/1e6, want/1e6)
			good = good && near(got, want)
		}
		if good {
			sum := now.Hist(s.id, wait, before).Mean() + now.Hist(s.id, service, before).Mean()
			if mean := h.Mean(); sum < 0.999*mean || sum > 1.001*mean {
				t.Errorf("wait and service are %.3f ms together, latency %.3f ms", sum/1e6, mean/1e6)
			}
			return
		}
		if try == attempts {
			t.Fatal("latency is not what the client saw")
		}
	}
}

// TestSpans: a server that reads late lets requests wait in the socket; one that works long serves long.
func TestSpans(t *testing.T) {
	p := probetest.Load(t, New(), probe.Options{})
	s := listen(t, hosttest.FreshNetns(t), 0, func(c net.Conn) {
		in := make([]byte, 1)
		for { // each byte tells how many times 10 ms to sleep before the next read
			time.Sleep(30 * time.Millisecond)
			if _, err := c.Read(in); err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
			if _, err := c.Write(make([]byte, frame)); err != nil {
				return
			}
		}
	})
	c := s.dial(-1)
	before := probetest.Read(t, p)
	const n = 10
	for range n {
		if _, err := ask(c, 0, []byte{1}); err != nil {
			t.Fatal(err)
		}
	}
	now := settle(t, p, s.id, n, before)
	w, sv := now.Hist(s.id, wait, before).Quantile(.5), now.Hist(s.id, service, before).Quantile(.5)
	if w < 25e6 || w > 45e6 || sv < 9.7e6 || sv > 20e6 {
		t.Errorf("waited %.1f ms of 30, served %.1f ms of 10", w/1e6, sv/1e6)
	}
}

// TestSlowAccept: bytes that come before the server accepts wait in the accept queue, and the client with them.
func TestSlowAccept(t *testing.T) {
	p := probetest.Load(t, New(), probe.Options{})
	s := listen(t, hosttest.FreshNetns(t), 0, nil)
	go func() {
		for {
			time.Sleep(20 * time.Millisecond)
			c, err := s.ln.Accept()
			if err != nil {
				return
			}
			answering(frame, at(0))(c) // until the client closes: the next one waits that long
			c.Close()
		}
	}()
	const n = 10
	for try := 1; ; try++ {
		before := probetest.Read(t, p)
		var clients time.Duration
		for range n {
			c := s.dial(-1)
			d, err := ask(c, 0, make([]byte, frame))
			if err != nil {
				t.Fatal(err)
			}
			clients += d
			c.Close()
		}
		now := settle(t, p, s.id, n, before)
		a, l := now.Hist(s.id, acceptWait, before), now.Hist(s.id, latency, before)
		t.Logf("%d accept waits of %.2f ms, latency %.2f ms, the clients' %.2f ms", a.Count(), a.Mean()/1e6, l.Mean()/1e6, clients.Seconds()*1e3/n)
		if l.Count() != n || a.Count() > n {
			t.Fatalf("%d accept waits, %d latencies of %d requests", a.Count(), l.Count(), n)
		}
		// A client that had to wait for a CPU between connecting and sending came after the accept. The
		// first sleep began before the first client came.
		if a.Count() == n && a.Quantile(.5) > 15e6 && a.Mean() <= l.Mean() && near(l.Mean(), float64(clients)/n) {
			return
		}
		if try == attempts {
			t.Fatal("the wait is not the time before accept")
		}
	}
}

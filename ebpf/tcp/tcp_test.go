package tcp

import (
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"semantos/ebpf/probe"
	"semantos/ebpf/probetest"
	"semantos/internal/host/hosttest"
	"semantos/internal/tune"
)

func load(t testing.TB, ns *hosttest.Namespace) *probe.Probe {
	t.Helper()
	return probetest.Load(t, New(), probe.Options{Scope: probe.Scope{Netns: uint32(ns.Inode)}})
}

// has says whether this kernel tells something: a member that came with it.
func has(name, member string) bool { return probe.NewTypes().Need(name, member, "") == nil }

func want(t testing.TB, r *probetest.Readings, id, signal string, n float64) {
	t.Helper()
	if got, _ := r.Value(id, signal); got != n {
		t.Errorf("%s counts %v, the truth is %v", signal, got, n)
	}
}

// verdict is one try of a test: what is wrong is kept.
type verdict struct {
	*testing.T
	wrong []string
}

func (v *verdict) Errorf(format string, args ...any) {
	v.wrong = append(v.wrong, fmt.Sprintf(format, args...))
}

// tries gives a test of exact counts four tries. A kernel may leave programs out where one is interrupted,
// or on top of a task it guards: a program then misses what the timer or the network did meanwhile, rarely,
// and a single missed event is all there is to see in these tests.
func tries(t *testing.T, once func(v *verdict)) {
	t.Helper()
	var v verdict
	for range 4 {
		v = verdict{T: t}
		if once(&v); len(v.wrong) == 0 {
			return
		}
		t.Log(v.wrong)
	}
	t.Error(v.wrong)
}

func near(a, b, share float64) bool { return math.Abs(a-b) <= share*b }

// pair connects within a namespace, or from one to another.
func pair(t *testing.T, from *hosttest.Namespace, l *net.TCPListener, segment int) (client, server *net.TCPConn) {
	t.Helper()
	client, err := dial(from, l.Addr(), segment)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if server, err = l.AcceptTCP(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return client, server
}

// Segments that the receiver loses are sent again, many in one packet of the loopback device.
func TestRetransmits(t *testing.T) {
	ns := hosttest.FreshNetns(t)
	p := load(t, ns)
	l := listen(t, ns, "127.0.0.1")
	again(t, p, ns, 50, func() *net.TCPConn {
		client, server := pair(t, ns, l, 1400)
		filter(t, server, some(8)...)
		pour(t, client, server, 4<<20)
		return client
	})
}

// The token bucket drops what it has no room for before it leaves the sender's own machine.
func TestRetransmitsBehindTokenBucket(t *testing.T) {
	a, b := hosttest.FreshNetns(t), hosttest.FreshNetns(t)
	wire(t, a, b, 4<<20)
	p := load(t, a)
	l := listen(t, b, "10.9.0.2")
	again(t, p, a, 10, func() *net.TCPConn {
		client, server := pair(t, a, l, 0)
		pour(t, client, server, 4<<20)
		return client
	})
}

// again holds the probe against the socket's and the namespace's own counts of segments sent again, within
// one percent. What tries says of missed events errs to one side, so that counting too much fails at once.
func again(t *testing.T, p *probe.Probe, ns *hosttest.Namespace, least float64, traffic func() *net.TCPConn) {
	t.Helper()
	var seen, counted float64
	for range 5 {
		client := traffic()
		for i := 0; info(t, client).Unacked > 0 && i < 100; i++ { // the last of it may still be on its way
			time.Sleep(10 * time.Millisecond)
		}
		r := probetest.Read(t, p)
		all, _ := r.Value(ns.Target, "tcpev.retransmits")
		synacks, _ := r.Value(ns.Target, "tcpev.synack_retransmits")
		got, truth, counter := all-seen, float64(info(t, client).Total_retrans), snmp(t, ns)["RetransSegs"]
		t.Logf("probe %v, TCP_INFO %v, RetransSegs %v", got, truth, counter-counted)
		if truth < least {
			t.Fatalf("only %v segments were sent again: nothing is tested", truth)
		}
		if p.Lost() != 0 || got > truth {
			t.Fatalf("%d lost, %v counted of %v", p.Lost(), got, truth)
		}
		if near(got, truth, .01) && near(got+synacks, counter-counted, .01) {
			return
		}
		seen, counted = all, counter
	}
	t.Error("the probe differs from the kernel's own counts")
}

// A SYN that is lost once costs the client its first timeout, about a second.
func TestConnectTime(t *testing.T) { tries(t, connectTime) }

func connectTime(v *verdict) {
	ns := hosttest.FreshNetns(v)
	p := load(v, ns)
	l := listen(v.T, ns, "127.0.0.1")
	filter(v.T, l, everything()...)
	free := time.AfterFunc(300*time.Millisecond, func() { filter(v.T, l) })
	defer free.Stop()
	begin := time.Now()
	c, err := dial(ns, l.Addr(), 0)
	took := time.Since(begin)
	if err != nil {
		v.Fatal(err)
	}
	defer c.Close()
	r := probetest.Read(v, p)
	for _, id := range []string{"", ns.Target} {
		h := r.Hist(id, connectMS)
		v.Logf("%q: probe %.1f ms, dialling took %v", id, h.Mean()/1e6, took)
		if h.Count() != 1 || h.Mean() > float64(took) || float64(took)-h.Mean() > .1*float64(took) || took < 500*time.Millisecond {
			v.Errorf("connect time of %q is %v, dialling took %v", id, h.Mean(), took)
		}
	}
	want(v, r, ns.Target, "tcpev.retransmits", 1)
	want(v, r, ns.Target, "tcpev.connects", 1)
	want(v, r, ns.Target, "tcpev.connect_failures", 0)
}

// A client's answer that is lost makes the server send its SYN-ACK again after a second.
func TestHandshakeTime(t *testing.T) { tries(t, handshakeTime) }

func handshakeTime(v *verdict) {
	ns := hosttest.FreshNetns(v)
	p := load(v, ns)
	l := listen(v.T, ns, "127.0.0.1")
	const quick = 20
	for range quick {
		pair(v.T, ns, l, 0)
	}
	before := probetest.Read(v, p)
	want(v, before, ns.Target, "tcpev.handshakes", quick)
	h := before.Hist(ns.Target, handshakeMS)
	v.Logf("%d handshakes, p50 %.0f us, p95 %.0f us", h.Count(), h.Quantile(.5)/1e3, h.Quantile(.95)/1e3)
	if h.Count() != quick || h.Quantile(.5) > 20e6 {
		v.Errorf("%d handshakes with p50 %v ns, there were %d within microseconds", h.Count(), h.Quantile(.5), quick)
	}

	filter(v.T, l, answers()...)
	c, err := dial(ns, l.Addr(), 0)
	if err != nil {
		v.Fatal(err)
	}
	defer c.Close()
	stood := time.Now()
	filter2 := time.AfterFunc(300*time.Millisecond, func() { filter(v.T, l) })
	defer filter2.Stop()
	s, err := l.AcceptTCP()
	if err != nil {
		v.Fatal(err)
	}
	defer s.Close()
	took := time.Since(stood)
	r := probetest.Read(v, p)
	want(v, r, ns.Target, "tcpev.synack_retransmits", 1)
	want(v, r, ns.Target, "tcpev.handshakes", quick+1)
	if !has("tcp_sock", "total_rto_time") {
		v.Log("this kernel does not keep the time that timeouts took")
		return
	}
	late := r.Hist(ns.Target, handshakeMS, before)
	v.Logf("late handshake %.1f ms, the server had it after %v", late.Mean()/1e6, took)
	if late.Count() != 1 || !near(late.Mean(), float64(took), .1) {
		v.Errorf("the late handshake took %v ns, %v in truth", late.Mean(), took)
	}
}

func TestResets(t *testing.T) { tries(t, resets) }

func resets(v *verdict) {
	ns := hosttest.FreshNetns(v)
	p := load(v, ns)
	l := listen(v.T, ns, "127.0.0.1")
	const refused, aborted = 150, 40
	for range aborted {
		client, server := pair(v.T, ns, l, 0)
		if err := errors.Join(client.SetLinger(0), client.Close()); err != nil {
			v.Fatal(err)
		}
		if _, err := server.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
			v.Fatalf("the server read %v", err)
		}
	}
	l.Close()
	for range refused {
		if _, err := dial(ns, l.Addr(), 0); !errors.Is(err, unix.ECONNREFUSED) {
			v.Fatalf("a closed port gave %v", err)
		}
	}
	r := probetest.Read(v, p)
	want(v, r, ns.Target, "tcpev.resets_received", refused+aborted)
	want(v, r, ns.Target, "tcpev.connect_failures", refused)
	want(v, r, ns.Target, "tcpev.connects", aborted)
	if has("trace_event_raw_tcp_send_reset", "reason") {
		want(v, r, ns.Target, "tcpev.resets_sent", refused+aborted)
		want(v, r, ns.Target, "tcpev.resets_sent", snmp(v.T, ns)["OutRsts"])
		want(v, r, "", "tcpev.resets_sent.no_socket", refused)
	} else {
		want(v, r, ns.Target, "tcpev.resets_sent", aborted)
	}
	known := map[string]bool{}
	for _, s := range New().Signals {
		known[s.Entity+s.Name] = true
	}
	if err := p.Spec.Read(p, checked{v.T, known}); err != nil {
		v.Errorf("%v", err)
	}
}

// checked holds what is handed over against Spec.Signals. A namespace's counters hold for the host too.
type checked struct {
	t     *testing.T
	known map[string]bool
}

func (c checked) look(of probe.Subject, name string) {
	if !c.known[of.Kind+name] && !(of.Kind == "" && c.known[tune.EntityNetns+name]) {
		c.t.Errorf("%s of %q is handed over and not described", name, of.Kind)
	}
}
func (c checked) Hist(of probe.Subject, name string, _ probe.Hist) { c.look(of, name) }
func (c checked) Counter(of probe.Subject, name string, _ float64) { c.look(of, name) }
func (c checked) Seconds(_ probe.Subject, name string, _ float64)  { c.t.Errorf("%s is no time", name) }
func (c checked) Gauge(_ probe.Subject, name string, _ float64)    { c.t.Errorf("%s is no gauge", name) }

// The smoothed round trip times that segments meet are those the sockets tell of.
func TestRoundTrips(t *testing.T) {
	ns := hosttest.FreshNetns(t)
	p := load(t, ns)
	if err := p.Set("sample_every", uint32(1)); err != nil {
		t.Fatal(err)
	}
	client, server := pair(t, ns, listen(t, ns, "127.0.0.1"), 0)
	before := probetest.Read(t, p)
	var told []float64
	b := make([]byte, 100)
	for i := range 1500 {
		for _, way := range [][2]*net.TCPConn{{client, server}, {server, client}} {
			told = append(told, float64(info(t, way[1]).Rtt)) // what the segment will meet
			if _, err := way[0].Write(b); err != nil {
				t.Fatal(err)
			}
			if _, err := way[1].Read(b); err != nil {
				t.Fatal(err)
			}
		}
		if i%3 == 0 {
			time.Sleep(50 * time.Microsecond)
		}
	}
	h := probetest.Read(t, p).Hist(ns.Target, srttUS, before)
	slices.Sort(told)
	for _, q := range []float64{.2, .8} { // the middle lies between the client's times and the server's
		truth, got := told[int(q*float64(len(told)))], h.Quantile(q)/1e3
		t.Logf("p%.0f of %d: probe %.1f us, TCP_INFO %.1f us", 100*q, h.Count(), got, truth)
		if math.Abs(got-truth) > .05*truth+2 {
			t.Errorf("p%.0f of the round trip time is %.1f us, TCP_INFO says %.1f us", 100*q, got, truth)
		}
	}
}

// A connection that was begun before a pause has no time, whether it came to stand meanwhile or after, and
// leaves nothing behind.
func TestPauseInTheMiddle(t *testing.T) {
	ns := hosttest.FreshNetns(t)
	p := load(t, ns)
	for _, after := range []bool{false, true} {
		l := listen(t, ns, "127.0.0.1")
		filter(t, l, everything()...)
		done := make(chan error, 1)
		go func() {
			c, err := dial(ns, l.Addr(), 0)
			if err == nil {
				c.Close()
			}
			done <- err
		}()
		time.Sleep(200 * time.Millisecond)
		if n := begun(t, p); n != 1 {
			t.Fatalf("%d connections are begun, not one", n)
		}
		filter(t, l)
		if err := p.Pause(); err != nil {
			t.Fatal(err)
		}
		var err error
		if !after {
			err = <-done
		}
		if err := p.Resume(); err != nil {
			t.Fatal(err)
		}
		if after {
			err = <-done
		}
		if err != nil {
			t.Fatal(err)
		}
		r := probetest.Read(t, p)
		if n := r.Hist("", connectMS).Count(); n != 0 {
			t.Errorf("%d connect times", n)
		}
		if n := begun(t, p); n != 0 {
			t.Errorf("%d connections are kept as begun", n)
		}
	}
}

func begun(t *testing.T, p *probe.Probe) int {
	t.Helper()
	n := 0
	var key uint64
	var value [16]byte
	it := p.Map(bpfMapStarts).Iterate()
	for it.Next(&key, &value) {
		n++
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	return n
}

// Namespaces are forgotten only when room runs short, and only idle ones.
func TestForgetsNamespaces(t *testing.T) {
	now := uint64(time.Hour)
	var known []namespace
	for i := range 10 {
		known = append(known, namespace{uint32(i), now - uint64(i)*uint64(2*time.Minute)})
	}
	if got := stale(known, 20, now); len(got) != 0 {
		t.Errorf("with room for all, %v are forgotten", got)
	}
	if got := stale(known, 19, now); !slices.Equal(got, []uint32{9, 8, 7, 6}) {
		t.Errorf("%v are forgotten, not those idle for more than ten minutes", got)
	}
	if got := stale(known, 19, 0); len(got) != 0 {
		t.Errorf("without a clock, %v are forgotten", got)
	}
}

func TestRefusesProcessScope(t *testing.T) {
	_, err := probe.Load(New(), probe.Options{Scope: probe.Scope{Comm: "nginx"}})
	if !errors.Is(err, tune.ErrUnsupported) && !errors.Is(err, tune.ErrNotPermitted) {
		t.Errorf("a scope of processes gave %v", err)
	}
}

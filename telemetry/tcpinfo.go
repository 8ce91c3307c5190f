package telemetry

import (
	"context"
	"fmt"
	"slices"

	"semantos/internal/tune"
)

type tcpinfoCollector struct {
	*env
	spaces map[string]*tcpSpace
}

// tcpSpace is what is remembered of one namespace's connections: where each stood at the last tick, and
// the sums of their progress, which grow like a kernel counter.
type tcpSpace struct {
	last     map[uint64]TCPInfo
	next     map[uint64]TCPInfo
	complete bool // the last tick saw all: a connection it lacks is new
	started  bool
	sum      tcpSums
}

type tcpSums struct {
	busy, rwnd, sndbuf        float64 // microseconds
	sent, received            float64 // bytes
	segsOut, retrans, elapsed float64
}

func newTCPInfo(e *env) collector {
	return &tcpinfoCollector{env: e, spaces: make(map[string]*tcpSpace)}
}

func (c *tcpinfoCollector) Name() string { return "tcpinfo" }

func (c *tcpinfoCollector) Signals() []tune.Signal {
	return table(tune.EntityNetns, "sock_diag, TCP_INFO", `
tcpinfo.established | connections | established connections
tcpinfo.sending | connections | connections that sent data since the tick before
tcpinfo.receiving | connections | connections that received data since the tick before
tcpinfo.sent_bytes | +bytes | bytes sent by live connections
tcpinfo.recv_bytes | +bytes | bytes received by live connections
tcpinfo.busy_share | +share | connections that had data to send, on average (above 1 when several)
tcpinfo.rwnd_limited_share | share | sending time limited by the receiver's window
tcpinfo.sndbuf_limited_share | share | sending time limited by the own send buffer
tcpinfo.retrans_share | share | segments sent again by live connections
tcpinfo.rcv_rtt_us.p50 | us | round trip time seen by receivers, median of connections
tcpinfo.rtt_us.p50 | us | round trip time, median of connections
tcpinfo.rtt_us.p95 | us | round trip time, 95 % of connections
tcpinfo.min_rtt_us.p50 | us | smallest round trip time, median of connections
tcpinfo.cwnd.p50 | packets | congestion window, median of sending connections
tcpinfo.notsent_bytes | bytes | bytes written and not yet sent, all connections
tcpinfo.delivery_rate_bytes | bytes | delivery rate per second, median of sending connections
tcpinfo.rcv_space_bytes | bytes | receive space the kernel aims at, median of receiving connections
tcpinfo.rcvbuf_bytes.p50 | bytes | receive buffer, median of receiving connections
tcpinfo.sndbuf_bytes.p50 | bytes | send buffer, median of sending connections
tcpinfo.rcvbuf_full_share | share | receiving connections whose buffer is filled by three quarters
tcpinfo.rcvbuf_at_max_share | share | receiving connections whose buffer has grown to three quarters of the third element of tcp_rmem or beyond
tcpinfo.sndbuf_at_max_share | share | sending connections whose buffer has grown to three quarters of the third element of tcp_wmem or beyond`)
}

func (c *tcpinfoCollector) Collect(_ context.Context, f *frame) error {
	alive := make(map[string]*tcpSpace, len(c.spaces))
	err := c.eachNamespace(f, c.Name(), func(n nsview) error {
		s, err := c.sockets.of(n)
		if err != nil {
			return err
		}
		space := c.spaces[n.target]
		if space == nil {
			space = &tcpSpace{last: map[uint64]TCPInfo{}, next: map[uint64]TCPInfo{}}
		}
		alive[n.target] = space
		if s.cut {
			f.miss(c.Name(), fmt.Sprintf("%s: more than %d connections; %d of them are sampled",
				n.target, c.limits.Connections, len(s.conns)))
		}
		space.observe(n.entry(f), s)
		return nil
	})
	c.spaces = alive
	return err
}

// tcpTick gathers what one tick shows of the connections of a namespace.
type tcpTick struct {
	established, sending, receiving, notSent          float64
	rcvFull, rcvMax, rcvBufs, sndMax, sndBufs         float64
	rtt, minRTT, rcvRTT, cwnd, rate, rcvSpace, rb, sb []float64
}

func (p *tcpSpace) observe(e *entry, s *nsSockets) {
	var t tcpTick
	for i := range s.conns {
		d := &s.conns[i]
		if d.State == tcpEstablished {
			t.established++
		}
		if !d.HasInfo {
			continue
		}
		before, known := p.last[d.Cookie]
		p.next[d.Cookie] = d.Info
		if !known && !(p.started && p.complete) {
			t.point(d, TCPInfo{}, false, s)
			continue // its past is not this window's
		}
		t.point(d, before, true, s)
		p.sum.add(&d.Info, &before)
	}
	p.started, p.complete = true, !s.cut
	p.last, p.next = p.next, p.last
	clear(p.next)
	t.emit(e)
	p.sum.emit(e)
}

func grown(now, before uint64) float64 {
	if now < before {
		return 0
	}
	return float64(now - before)
}

func (s *tcpSums) add(now, before *TCPInfo) {
	s.busy += grown(now.BusyTime, before.BusyTime)
	s.rwnd += grown(now.RwndLimited, before.RwndLimited)
	s.sndbuf += grown(now.SndbufLimited, before.SndbufLimited)
	s.sent += grown(now.BytesOut, before.BytesOut)
	s.received += grown(now.BytesReceived, before.BytesReceived)
	s.segsOut += grown(uint64(now.SegsOut), uint64(before.SegsOut))
	s.retrans += grown(uint64(now.TotalRetrans), uint64(before.TotalRetrans))
}

func (s *tcpSums) emit(e *entry) {
	e.duty("tcpinfo.busy_share", s.busy/1e6)
	e.hidden("rwnd", s.rwnd/1e6)
	e.hidden("sndbuf", s.sndbuf/1e6)
	e.counter("tcpinfo.sent_bytes", s.sent)
	e.counter("tcpinfo.recv_bytes", s.received)
	e.hidden("segs_out", s.segsOut)
	e.hidden("retrans", s.retrans)
}

// point takes one connection. What it sent or received is told by the tick before.
func (t *tcpTick) point(d *DiagSocket, before TCPInfo, compare bool, s *nsSockets) {
	t.notSent += float64(d.Info.NotSent)
	if d.Info.RTT > 0 {
		t.rtt = append(t.rtt, float64(d.Info.RTT))
	}
	if d.Info.MinRTT > 0 && d.Info.MinRTT != ^uint32(0) {
		t.minRTT = append(t.minRTT, float64(d.Info.MinRTT))
	}
	if !compare {
		return
	}
	if d.Info.BytesReceived > before.BytesReceived {
		t.receiver(d, s)
	}
	if d.Info.BytesOut > before.BytesOut {
		t.sender(d, s)
	}
}

func (t *tcpTick) receiver(d *DiagSocket, s *nsSockets) {
	t.receiving++
	if d.Info.RcvRTT > 0 {
		t.rcvRTT = append(t.rcvRTT, float64(d.Info.RcvRTT))
	}
	t.rcvSpace = append(t.rcvSpace, float64(d.Info.RcvSpace))
	if !d.HasMemory || d.RcvBuf == 0 {
		return
	}
	t.rcvBufs++
	t.rb = append(t.rb, float64(d.RcvBuf))
	t.rcvFull += boolean(float64(d.RMem) >= 0.75*float64(d.RcvBuf))
	t.rcvMax += boolean(s.rmemMax > 0 && float64(d.RcvBuf) >= 0.75*s.rmemMax)
}

func (t *tcpTick) sender(d *DiagSocket, s *nsSockets) {
	t.sending++
	t.cwnd = append(t.cwnd, float64(d.Info.Cwnd))
	if d.Info.DeliveryRate > 0 {
		t.rate = append(t.rate, float64(d.Info.DeliveryRate))
	}
	if !d.HasMemory || d.SndBuf == 0 {
		return
	}
	t.sndBufs++
	t.sb = append(t.sb, float64(d.SndBuf))
	t.sndMax += boolean(s.wmemMax > 0 && float64(d.SndBuf) >= 0.75*s.wmemMax)
}

func (t *tcpTick) emit(e *entry) {
	e.gauge("tcpinfo.established", t.established)
	e.gauge("tcpinfo.sending", t.sending)
	e.gauge("tcpinfo.receiving", t.receiving)
	e.gauge("tcpinfo.notsent_bytes", t.notSent)
	quantile(e, "tcpinfo.rtt_us.p50", t.rtt, 0.5)
	quantile(e, "tcpinfo.rtt_us.p95", t.rtt, 0.95)
	quantile(e, "tcpinfo.min_rtt_us.p50", t.minRTT, 0.5)
	quantile(e, "tcpinfo.rcv_rtt_us.p50", t.rcvRTT, 0.5)
	quantile(e, "tcpinfo.cwnd.p50", t.cwnd, 0.5)
	quantile(e, "tcpinfo.delivery_rate_bytes", t.rate, 0.5)
	quantile(e, "tcpinfo.rcv_space_bytes", t.rcvSpace, 0.5)
	quantile(e, "tcpinfo.rcvbuf_bytes.p50", t.rb, 0.5)
	quantile(e, "tcpinfo.sndbuf_bytes.p50", t.sb, 0.5)
	share(e, "tcpinfo.rcvbuf_full_share", t.rcvFull, t.rcvBufs)
	share(e, "tcpinfo.rcvbuf_at_max_share", t.rcvMax, t.rcvBufs)
	share(e, "tcpinfo.sndbuf_at_max_share", t.sndMax, t.sndBufs)
}

// quantile adds the nearest-rank quantile, when there is anything to rank.
func quantile(e *entry, name string, v []float64, q float64) {
	if len(v) == 0 {
		return
	}
	slices.Sort(v)
	e.gauge(name, v[min(len(v)-1, int(q*float64(len(v))))])
}

func (c *tcpinfoCollector) Derive(v *view) {
	for _, s := range v.entities[tune.EntityNetns] {
		busy := []string{"tcpinfo.busy_share"}
		s.ratio("tcpinfo.rwnd_limited_share", []string{"rwnd"}, busy)
		s.ratio("tcpinfo.sndbuf_limited_share", []string{"sndbuf"}, busy)
		s.ratio("tcpinfo.retrans_share", []string{"retrans"}, []string{"segs_out"})
	}
}

package telemetry

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"semantos/internal/tune"
)

const (
	flowsFollowed = 64              // outgoing connections whose owners are asked for, those that move most
	ownersAge     = 3 * time.Second // between walks over all descriptors for sockets that are new
)

// procNet tells what processes do with the network. A connection to a listening port belongs to who
// listens there; who holds another is asked only when it lives longer than a tick, for those that come
// and go would cost a walk over all descriptors each time.
type procNet struct {
	*env
	last, next map[flowKey]progress
	owner      map[uint64]int // by inode; 0 when nobody visible holds it
	askedAt    time.Time
	moved      map[int]*procFlow
	seen       bool // this tick saw all connections
	before     bool // so did the one before: a connection it lacks is new
}

type flowKey struct {
	netns  string
	cookie uint64
}

// progress is how far a connection got: payload bytes, and segments with and without.
type progress struct{ sent, received, segsOut, segsIn float64 }

func (p *progress) add(o progress) {
	p.sent += o.sent
	p.received += o.received
	p.segsOut += o.segsOut
	p.segsIn += o.segsIn
}

// procFlow is what the connections of a process moved while we looked; it only grows.
type procFlow struct {
	progress
	udp      float64
	udpNetns string
}

func newProcNet(e *env) *procNet {
	return &procNet{env: e, last: map[flowKey]progress{}, next: map[flowKey]progress{}, owner: map[uint64]int{}, moved: map[int]*procFlow{}}
}

// flow is what a connection, or all those of a listener, moved since the tick before.
type flow struct {
	inode uint64
	progress
}

// look reads the sockets of all namespaces once per tick. A socket that several processes hold is said
// to be the busiest's.
func (p *procNet) look(tasks map[int]*task) {
	var flows, served []flow
	udp := map[uint64]string{}
	p.before, p.seen = p.seen, false
	whole := true
	for _, n := range p.ns {
		s, err := p.sockets.of(n)
		if err != nil {
			continue // that the sockets cannot be read, their own collectors say
		}
		p.seen, whole = true, whole && !s.cut
		flows, served = p.compare(n.target, s, flows, served)
		for i := range s.udp {
			if udpBound(&s.udp[i], s.ports) {
				udp[uint64(s.udp[i].Inode)] = n.target
			}
		}
	}
	p.seen = p.seen && whole
	p.last, p.next = p.next, p.last
	clear(p.next)
	slices.SortFunc(flows, func(a, b flow) int {
		return cmp.Or(cmp.Compare(b.sent+b.received, a.sent+a.received), cmp.Compare(a.inode, b.inode))
	})
	flows = append(served, flows[:min(len(flows), flowsFollowed)]...)
	p.own(flows, udp, tasks)
	for pid := range p.moved {
		if tasks[pid] == nil {
			delete(p.moved, pid)
		}
	}
	p.add(flows, udp)
}

// compare finds the connections that moved anything since the tick before, those of a listener as one.
func (p *procNet) compare(netns string, s *nsSockets, flows, served []flow) ([]flow, []flow) {
	byPort := make(map[uint16]int, len(s.listeners))
	for i := range s.listeners {
		port := s.listeners[i].Local.Port()
		if _, known := byPort[port]; !known && s.listeners[i].Inode != 0 {
			byPort[port] = len(served)
			served = append(served, flow{inode: uint64(s.listeners[i].Inode)})
		}
	}
	for i := range s.conns {
		d := &s.conns[i]
		if !d.HasInfo || d.Inode == 0 {
			continue
		}
		k := flowKey{netns, d.Cookie}
		now := progress{float64(d.Info.BytesOut), float64(d.Info.BytesReceived), float64(d.Info.SegsOut), float64(d.Info.SegsIn)}
		was, known := p.last[k]
		p.next[k] = now
		step := progress{now.sent - was.sent, now.received - was.received, now.segsOut - was.segsOut, now.segsIn - was.segsIn}
		if min(step.sent, step.received, step.segsOut, step.segsIn) < 0 || step.sent+step.received == 0 {
			continue
		}
		at, isServed := byPort[d.Local.Port()]
		switch {
		case isServed && (known || p.before):
			served[at].add(step)
		case !isServed && known:
			flows = append(flows, flow{uint64(d.Inode), step})
		}
	}
	return flows, served
}

// udpBound says that anybody may send to a socket: it is not connected, and its port is not one that the
// kernel gives to senders, or something waits in it.
func udpBound(d *DiagSocket, ports portUse) bool {
	if d.Inode == 0 || d.State != tcpClose || d.Remote.IsValid() && d.Remote.Port() != 0 {
		return false
	}
	return d.RMem > 0 || d.Drops > 0 || !ports.ephemeral(d.Local)
}

// own finds the owners of the sockets not known yet, at most every few seconds.
func (p *procNet) own(flows []flow, udp map[uint64]string, tasks map[int]*task) {
	var ask []uint64
	fresh := false
	note := func(inode uint64) {
		_, known := p.owner[inode]
		fresh = fresh || !known
		ask = append(ask, inode)
	}
	for _, f := range flows {
		note(f.inode)
	}
	for inode := range udp {
		note(inode)
	}
	slices.Sort(ask)
	age := p.at.Sub(p.askedAt)
	if !fresh || !p.askedAt.IsZero() && age >= 0 && age < ownersAge {
		return
	}
	p.askedAt = p.at
	clear(p.owner)
	owners := p.host.Owners(ask)
	for _, inode := range ask {
		p.owner[inode] = 0
		most := -1.0
		for _, pid := range owners[inode].Pids {
			if t := tasks[pid]; t != nil && t.recent > most {
				p.owner[inode], most = pid, t.recent
			}
		}
	}
}

func (p *procNet) add(flows []flow, udp map[uint64]string) {
	of := func(inode uint64) *procFlow {
		pid := p.owner[inode]
		if pid == 0 {
			return nil
		}
		m := p.moved[pid]
		if m == nil {
			m = &procFlow{}
			p.moved[pid] = m
		}
		return m
	}
	for _, m := range p.moved {
		m.udp, m.udpNetns = 0, ""
	}
	for _, f := range flows {
		if m := of(f.inode); m != nil {
			m.progress.add(f.progress)
		}
	}
	for inode, netns := range udp {
		if m := of(inode); m != nil {
			m.udp++
			m.udpNetns = max(m.udpNetns, netns)
		}
	}
}

// emit gives a process its part.
func (p *procNet) emit(e *entry, pid int) {
	if !p.seen {
		return
	}
	m := p.moved[pid]
	if m == nil {
		m = &procFlow{}
	}
	e.counter("process.tcp_sent_bytes", m.sent)
	e.counter("process.tcp_recv_bytes", m.received)
	e.hidden("segs_out", m.segsOut)
	e.hidden("segs_in", m.segsIn)
	e.gauge("process.udp_bound", m.udp)
	if m.udpNetns != "" {
		e.labels = unionLabels(e.labels, map[string]string{"udp_netns": m.udpNetns})
	}
}

// ephemeral says that the kernel chose the port, as far as its range is known.
func (u portUse) ephemeral(local netip.AddrPort) bool {
	return u.known && local.Port() >= u.low && local.Port() <= u.high
}

func netSignals() []tune.Signal {
	return table(tune.EntityProcess, "sock_diag, /proc/<pid>/fd", `
process.tcp_sent_bytes | +bytes | bytes sent by its TCP connections that a tick finds open (of outgoing ones, the 64 that move most of those two ticks find)
process.tcp_recv_bytes | +bytes | bytes received by its TCP connections, as far as those sent
process.tcp_segment_bytes | bytes | payload per segment of its TCP connections, in the direction that moves more
process.udp_bound | sockets | UDP sockets it holds that anybody may send to (label udp_netns: where)`)
}

// segments gives the payload of a segment: near the largest possible in a stream, a few hundred bytes
// where requests and answers go to and fro.
func (s *signals) segments() {
	sent, received := s.inc["process.tcp_sent_bytes"], s.inc["process.tcp_recv_bytes"]
	if sent > received {
		s.ratio("process.tcp_segment_bytes", []string{"process.tcp_sent_bytes"}, []string{"segs_out"})
	} else {
		s.ratio("process.tcp_segment_bytes", []string{"process.tcp_recv_bytes"}, []string{"segs_in"})
	}
}

package recognise

import (
	"math"

	"semantos/internal/tune"
)

// view finds what belongs to a process among the other entities.
type view struct {
	answered map[string]served       // by command
	counts   bool                    // servers' requests are counted at all
	cpu      map[string]float64      // of all processes of a command
	udpCPU   map[string]float64      // of all that hold UDP sockets, by namespace
	tcp      map[string]carried      // by command
	netns    map[string]*tune.Entity // by ID
}

// carried is what the TCP connections of a command moved. The socket of a server with workers is known
// to be one of theirs, not whose.
type carried struct {
	sent, received float64
	segment        float64 // of the process that moves most
	most           float64
	known          bool
}

// served is what the servers of a command answer.
type served struct {
	requests float64
	netns    map[string]bool
}

func newView(s tune.Snapshot) *view {
	v := &view{answered: map[string]served{}, cpu: map[string]float64{}, udpCPU: map[string]float64{},
		tcp: map[string]carried{}, netns: map[string]*tune.Entity{}}
	_, v.counts = number(s.Signals, "request.count")
	for i := range s.Entities[tune.EntityServer] {
		e := &s.Entities[tune.EntityServer][i]
		n, ok := number(e.Signals, "request.count")
		if !ok {
			continue
		}
		v.counts = true
		a := v.answered[e.Labels["comm"]]
		if a.netns == nil {
			a.netns = map[string]bool{}
		}
		a.requests += n
		if n > 0 {
			a.netns[e.Labels["netns"]] = true
		}
		v.answered[e.Labels["comm"]] = a
	}
	for i := range s.Entities[tune.EntityNetns] {
		e := &s.Entities[tune.EntityNetns][i]
		v.netns[e.ID] = e
	}
	for i := range s.Entities[tune.EntityProcess] {
		p := &s.Entities[tune.EntityProcess][i]
		cpu, _ := number(p.Signals, cpuShare)
		v.cpu[p.Labels["comm"]] += cpu
		if n, _ := number(p.Signals, "process.udp_bound"); n > 0 {
			v.udpCPU[p.Labels["udp_netns"]] += cpu
		}
		v.carry(p)
	}
	return v
}

func (v *view) carry(p *tune.Entity) {
	sent, ok := number(p.Signals, "process.tcp_sent_bytes")
	received, okReceived := number(p.Signals, "process.tcp_recv_bytes")
	if !ok || !okReceived {
		return
	}
	t := v.tcp[p.Labels["comm"]]
	t.known = true
	t.sent += sent
	t.received += received
	if size, ok := number(p.Signals, segment); ok && sent+received > t.most {
		t.most, t.segment = sent+received, size
	}
	v.tcp[p.Labels["comm"]] = t
}

// number gives a reading; one that is no number counts as missing.
func number(signals map[string]float64, name string) (float64, bool) {
	x, ok := signals[name]
	if !ok || math.IsNaN(x) || math.IsInf(x, 0) {
		return 0, false
	}
	return x, true
}

// readings gathers what is known of a process; false when it is idle and nothing marks it, or was seen
// only once.
func (v *view) readings(p *tune.Entity) (map[string]float64, bool) {
	out := map[string]float64{}
	for _, name := range [...]string{cpuShare, realtimeThreads, realtimeWakeups} {
		if x, ok := number(p.Signals, name); ok {
			out[name] = x
		}
	}
	cpu, ok := out[cpuShare]
	if !ok {
		return nil, false
	}
	v.servedBy(p, cpu, out)
	v.datagramsOf(p, cpu, out)
	v.moved(p, cpu, out)
	if cpu < busy && out[requests] < 1 && out[realtimeThreads] == 0 && out[datagrams] < 1 && out[tcpBytes] < 1<<20 {
		return nil, false
	}
	perCPU(p, cpu, out)
	return out, true
}

// perCPU relates what it does to its CPU time, where it has enough of it to tell.
func perCPU(p *tune.Entity, cpu float64, out map[string]float64) {
	if cpu < 0.01 {
		return
	}
	for name, of := range map[string]string{kernelPart: "process.system_share", waits: "process.vol_switches", faults: "process.minor_faults"} {
		if x, ok := number(p.Signals, of); ok {
			out[name] = x / cpu
		}
	}
	reads, ok := number(p.Signals, "process.read_calls")
	writes, okWrites := number(p.Signals, "process.write_calls")
	if ok && okWrites {
		out[calls] = (reads + writes) / cpu
	}
}

// servedBy gives a process its part of the requests its command's servers answer, by CPU time: the
// workers of a server have one name, and so has the master that only waits for them.
func (v *view) servedBy(p *tune.Entity, cpu float64, out map[string]float64) {
	if !v.counts {
		return
	}
	comm := p.Labels["comm"]
	out[requests] = 0
	a := v.answered[comm]
	if v.cpu[comm] <= 0 || a.requests <= 0 {
		return
	}
	out[requests] = a.requests * cpu / v.cpu[comm]
	opened, answered, known := 0.0, 0.0, true
	for netns := range a.netns {
		e := v.netns[netns]
		if e == nil {
			known = false
			continue
		}
		n, ok := number(e.Signals, "tcp.passive_opens")
		known = known && ok
		opened += n
	}
	for _, other := range v.answered {
		for netns := range other.netns {
			if a.netns[netns] {
				answered += other.requests
				break
			}
		}
	}
	if known && answered > 0 {
		out[freshShare] = min(1, opened/answered)
	}
}

// datagramsOf gives a process its part of the datagrams its namespace received.
func (v *view) datagramsOf(p *tune.Entity, cpu float64, out map[string]float64) {
	held, ok := number(p.Signals, "process.udp_bound")
	if !ok {
		return
	}
	out[datagrams] = 0
	netns := p.Labels["udp_netns"]
	if held == 0 || cpu <= 0 || v.udpCPU[netns] <= 0 {
		return
	}
	delete(out, datagrams)
	if e := v.netns[netns]; e != nil {
		sum, any := 0.0, false
		for _, name := range [...]string{"udp.in_datagrams", "udp6.in_datagrams"} {
			if n, ok := number(e.Signals, name); ok {
				sum, any = sum+n, true
			}
		}
		if any {
			out[datagrams] = sum * cpu / v.udpCPU[netns]
		}
	}
}

// moved adds what went over its command's connections, its part by CPU time, and what it wrote to storage.
func (v *view) moved(p *tune.Entity, cpu float64, out map[string]float64) {
	comm := p.Labels["comm"]
	n, counted := out[requests]
	if t := v.tcp[comm]; t.known && v.cpu[comm] > 0 {
		part := cpu / v.cpu[comm]
		out[tcpBytes] = max(t.sent, t.received) * part
		if counted {
			out[tcpPerRequest] = out[tcpBytes] / max(1, n) // a client answers none
		}
		if t.segment > 0 {
			out[segment] = t.segment
		}
		// Of connections that last for a request only, nothing is seen.
		if fresh, known := out[freshShare]; n > 0 && known && fresh < 0.1 && t.sent > 0 && t.received*part >= n {
			out[answerBytes] = t.sent * part / n
		}
	}
	if stored, ok := number(p.Signals, "process.write_bytes"); ok && n > 0 {
		out[storedRequest] = stored / n
	}
}

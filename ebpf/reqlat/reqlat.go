package reqlat

import (
	"fmt"

	"github.com/cilium/ebpf"

	"semantos/ebpf/probe"
	"semantos/internal/tune"
)

// The signals.
const (
	latency    = "request.latency_ms"
	wait       = "request.wait_ms"
	service    = "request.service_ms"
	acceptWait = "request.accept_wait_ms"
	count      = "request.count"
)

// The programs that see an answer; one of them is loaded.
const (
	early = "sending" // tracepoint tcp_sendmsg_locked, Linux 6.16
	late  = "sent"    // tracepoint sock_send_length, Linux 6.3
)

// New describes the probe. Each result remembers which process a server was last known by, so one is
// for one loaded probe.
func New() probe.Spec { return describe(newServers()) }

func describe(s *servers) probe.Spec {
	return probe.Spec{
		Name:       "reqlat",
		Answers:    "how long do servers take to answer, and how much of it do requests wait in the socket",
		Signals:    signals(),
		Collection: loadBpf,
		Optional:   []string{early, late},
		Prepare:    prepare,
		Read:       s.read,
	}
}

func signals() []tune.Signal {
	source := "tracepoints sk_data_ready, sock_recv_length, tcp_sendmsg_locked or sock_send_length"
	var out []tune.Signal
	for _, entity := range [...]string{"", tune.EntityServer} {
		whose := ""
		if entity == "" {
			whose = ", all servers"
		}
		out = append(out,
			probe.HistSignal(latency, entity, "ms", "first bytes of a request in to first bytes of its answer out"+whose, source),
			tune.Signal{Name: count, Entity: entity, Unit: "requests", Counter: true, Help: "requests answered" + whose, Source: source})
	}
	for _, h := range [...][2]string{
		{wait, "first bytes of a request in to the server's first read"},
		{service, "the server's first read of a request to first bytes of its answer out"},
		{acceptWait, "first bytes of a connection in to its first read, where they came before the server accepted it"},
	} {
		out = append(out, probe.HistSignal(h[0], tune.EntityServer, "ms", h[1], source))
	}
	return out
}

// prepare keeps one of the two programs that see an answer, the one that sees it before the bytes leave.
func prepare(spec *ebpf.CollectionSpec, _ probe.Options) error {
	switch {
	case spec.Programs[early] != nil:
		delete(spec.Programs, late)
	case spec.Programs[late] == nil:
		return fmt.Errorf("%w: this kernel has neither tracepoint tcp_sendmsg_locked nor sock_send_length", tune.ErrUnsupported)
	}
	return nil
}

// hostValue is struct host.
type hostValue struct {
	Count   uint64
	Latency probe.Raw
}

// Requests is what all servers in a probe's scope have answered since it was loaded.
type Requests struct {
	Latency probe.Hist // ns, first bytes in to first bytes out
	// Count is how many requests were answered. Latency has fewer where a request's bytes came before
	// the probe was attached.
	Count uint64
}

// Since gives what was answered after an earlier reading of the same probe.
func (r Requests) Since(earlier Requests) Requests {
	return Requests{Latency: r.Latency.Since(earlier.Latency), Count: r.Count - earlier.Count}
}

// Totals reads what all servers in the probe's scope answered.
func Totals(p *probe.Probe) (Requests, error) {
	var perCPU []hostValue
	if err := p.Map(bpfMapHost).Lookup(uint32(0), &perCPU); err != nil {
		return Requests{}, fmt.Errorf("read request latency: %w", err)
	}
	var r Requests
	raw := make([]probe.Raw, len(perCPU))
	for i := range perCPU {
		raw[i] = perCPU[i].Latency
		r.Count += perCPU[i].Count
	}
	r.Latency = probe.Of(raw...)
	return r, nil
}

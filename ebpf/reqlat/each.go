package reqlat

import (
	"fmt"

	"semantos/ebpf/probe"
)

// Server is where requests were answered, whatever the process is called.
type Server struct {
	Netns uint32 // inode
	Port  uint16
}

// Each reads what every server in the probe's scope answered since it was first seen.
func Each(p *probe.Probe) (map[Server]Requests, error) {
	var key serverKey
	var slot uint32
	var v serverValue
	out := map[Server]Requests{}
	it := p.Map(bpfMapServers).Iterate()
	for it.Next(&key, &slot) {
		if err := p.Map(bpfMapSlots).Lookup(slot, &v); err != nil {
			return nil, fmt.Errorf("read server %s on port %d: %w", comm(key), key.Port, err)
		}
		at := Server{key.Netns, key.Port}
		out[at] = out[at].And(Requests{Latency: probe.Of(v.Latency), Count: probe.Of(v.Service).Count()})
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("list servers: %w", err)
	}
	return out, nil
}

// And adds what other servers answered.
func (r Requests) And(more Requests) Requests {
	return Requests{Latency: r.Latency.Add(more.Latency), Count: r.Count + more.Count}
}

package blocklat

import (
	"bytes"
	"fmt"

	"semantos/ebpf/probe"
)

// Each reads how long reads and writes of each device took since the probe was loaded, in ns.
func Each(p *probe.Probe) (map[string]probe.Hist, error) {
	out := map[string]probe.Hist{}
	var key diskKey
	var h diskHist
	names := kinds()
	it := p.Map(bpfMapDisks).Iterate()
	for it.Next(&key, &h) {
		if kind := names[key.Kind]; kind == "read" || kind == "write" {
			disk := string(bytes.TrimRight(key.Disk[:], "\x00"))
			out[disk] = out[disk].Add(probe.Of(h.Latency))
		}
	}
	if err := probe.Whole(it); err != nil {
		return nil, fmt.Errorf("read block latencies by device: %w", err)
	}
	return out, nil
}

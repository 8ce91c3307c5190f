package ebpf

import (
	"semantos/ebpf/blocklat"
	"semantos/ebpf/drops"
	"semantos/ebpf/fsync"
	"semantos/ebpf/offcpu"
	"semantos/ebpf/probe"
	"semantos/ebpf/reclaim"
	"semantos/ebpf/reqlat"
	"semantos/ebpf/runqlat"
	"semantos/ebpf/softirq"
	"semantos/ebpf/syscalls"
	"semantos/ebpf/tcp"
	"semantos/ebpf/throttle"
)

// All lists the probes, sorted by name. It loads nothing.
func All() []probe.Spec {
	return []probe.Spec{
		blocklat.New(),
		drops.New(),
		fsync.New(),
		offcpu.New(),
		reclaim.New(),
		reqlat.New(),
		runqlat.New(),
		softirq.New(),
		syscalls.New(),
		tcp.New(),
		throttle.New(),
	}
}

// weight is what a probe counts for where not all can count all the time. Request latency is what people
// ask for first, and what suffers most from pauses: a request longer than a slice is not seen.
func weight(name string) float64 {
	if name == "reqlat" {
		return 4
	}
	return 1
}

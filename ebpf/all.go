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

package ebpf

import (
	"semantos/ebpf/probe"
	"semantos/ebpf/runqlat"
	"semantos/ebpf/syscalls"
	"semantos/ebpf/tcp"
)

// All lists the probes, sorted by name. It loads nothing.
func All() []probe.Spec {
	return []probe.Spec{
		runqlat.New(),
		syscalls.New(),
		tcp.New(),
	}
}

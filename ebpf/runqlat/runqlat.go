package runqlat

import (
	"fmt"

	"github.com/cilium/ebpf"

	"semantos/ebpf/probe"
	"semantos/internal/tune"
)

const signal = "sched.runq_latency_us"

// New describes the probe.
func New() probe.Spec {
	return probe.Spec{
		Name:    "runqlat",
		Answers: "how long do runnable tasks wait for a CPU",
		Signals: []tune.Signal{probe.HistSignal(signal, "", "us", "time runnable tasks wait for a CPU",
			"tracepoint sched_switch, task_struct.sched_info")},
		Collection: loadBpf,
		Prepare:    prepare,
		Read:       read,
	}
}

// prepare says in words what the verifier would only refuse.
func prepare(_ *ebpf.CollectionSpec, opts probe.Options) error {
	return opts.Types.Need("sched_info", "last_queued", "CONFIG_SCHED_INFO")
}

func read(p *probe.Probe, out probe.Sink) error {
	var perCPU []probe.Raw
	if err := p.Map(bpfMapWaits).Lookup(uint32(0), &perCPU); err != nil {
		return fmt.Errorf("read run-queue waits: %w", err)
	}
	out.Hist(probe.Subject{}, signal, probe.Of(perCPU...))
	return nil
}

package runqlat

import (
	"fmt"

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
			"tracepoints sched_wakeup, sched_wakeup_new, sched_switch")},
		Collection: loadBpf,
		Read:       read,
	}
}

func read(p *probe.Probe, out probe.Sink) error {
	var perCPU []probe.Raw
	if err := p.Map(bpfMapWaits).Lookup(uint32(0), &perCPU); err != nil {
		return fmt.Errorf("read run-queue waits: %w", err)
	}
	out.Hist(probe.Subject{}, signal, probe.Of(perCPU...))
	return nil
}

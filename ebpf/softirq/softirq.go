package softirq

import (
	"fmt"

	"github.com/cilium/ebpf"

	"semantos/ebpf/probe"
	"semantos/internal/tune"
)

// vectors gives the names by number (include/linux/interrupt.h); the numbers are the kernel's for good.
func vectors() []string {
	return []string{"hi", "timer", "net_tx", "net_rx", "block", "irq_poll", "tasklet", "sched", "hrtimer", "rcu"}
}

// New describes the probe.
func New() probe.Spec {
	s := probe.Spec{
		Name:       "softirq",
		Answers:    "how long do soft interrupts wait and run, per vector",
		Collection: loadBpf,
		Prepare:    prepare,
		Read:       read,
	}
	for _, v := range vectors() {
		s.Signals = append(s.Signals,
			probe.HistSignal(latencyName(v), "", "us", "time from raising "+v+" to its handler", "tracepoints irq:softirq_raise, softirq_entry"),
			probe.HistSignal(timeName(v), "", "us", "time one run of the "+v+" handler takes", "tracepoints irq:softirq_entry, softirq_exit"),
			tune.Signal{Name: shareName(v), Unit: "share", Counter: true, Help: "time in the " + v + " handler, of one CPU",
				Source: "tracepoints irq:softirq_entry, softirq_exit"})
	}
	return s
}

func latencyName(vector string) string { return "softirq." + vector + "_latency_us" }
func timeName(vector string) string    { return "softirq." + vector + "_time_us" }
func shareName(vector string) string   { return "softirq." + vector + "_share" }

func prepare(_ *ebpf.CollectionSpec, opts probe.Options) error {
	if opts.Scope != (probe.Scope{}) {
		return fmt.Errorf("%w: a soft interrupt belongs to no process, group or namespace: it cannot be narrowed to a scope", tune.ErrUnsupported)
	}
	return nil
}

// vector is struct vector of one CPU.
type vector struct {
	Raised, Entered           uint64
	RaisedEpoch, EnteredEpoch uint32
	Latency, Run              probe.Raw
}

// read hands over every vector that has run at least once; the others have nothing to say.
func read(p *probe.Probe, out probe.Sink) error {
	var host probe.Subject
	var perCPU []vector
	for i, name := range vectors() {
		if err := p.Map(bpfMapVectors).Lookup(uint32(i), &perCPU); err != nil {
			return fmt.Errorf("read soft interrupt %s: %w", name, err)
		}
		latency := probe.Sum(len(perCPU), func(i int) *probe.Raw { return &perCPU[i].Latency })
		run := probe.Sum(len(perCPU), func(i int) *probe.Raw { return &perCPU[i].Run })
		if run.Count() == 0 {
			continue
		}
		out.Hist(host, latencyName(name), latency)
		out.Hist(host, timeName(name), run)
		out.Seconds(host, shareName(name), float64(run.Sum)/1e9)
	}
	return nil
}

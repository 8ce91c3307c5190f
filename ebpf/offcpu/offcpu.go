package offcpu

import (
	"fmt"
	"strconv"

	"github.com/cilium/ebpf"

	"semantos/ebpf/probe"
	"semantos/internal/tune"
)

// reason is why a thread is off the CPU; the order is that of enum reason.
type reason struct{ name, help string }

func reasons() []reason {
	return []reason{
		{"sleep", "asleep in another or an unknown system call"},
		{"runnable", "waiting for a CPU"},
		{"io", "waiting for block I/O"},
		{"uninterruptible", "in uninterruptible sleep that is not I/O"},
		{"stopped", "stopped, traced or frozen"},
		{"futex", "waiting for a futex"},
		{"poll", "in poll, select or epoll_wait"},
		{"read", "in a read or receive"},
		{"write", "in a write or send"},
		{"nanosleep", "sleeping for a time"},
		{"accept", "in accept"},
		{"wait", "waiting for a child process"},
		{"io_uring", "in io_uring_enter"},
	}
}

const (
	source   = "tracepoint sched_switch, task_struct"
	maxCalls = 512 // CALLS
)

func waitName(r string) string  { return "offcpu." + r + "_us" }
func shareName(r string) string { return "offcpu." + r + "_share" }

// New describes the probe. It counts one process (or all of one name), which the scope must name.
func New() probe.Spec {
	var of probe.Subject
	s := probe.Spec{
		Name:       "offcpu",
		Answers:    "what do the threads of a chosen process wait for",
		Costly:     true,
		Collection: loadBpf,
		Prepare: func(spec *ebpf.CollectionSpec, opts probe.Options) (err error) {
			of, err = prepare(spec, opts)
			return err
		},
		Read: func(p *probe.Probe, out probe.Sink) error { return read(p, of, out) },
	}
	for _, r := range reasons() {
		s.Signals = append(s.Signals,
			probe.HistSignal(waitName(r.name), tune.EntityProcess, "us", "time a thread was "+r.help, source),
			tune.Signal{Name: shareName(r.name), Entity: tune.EntityProcess, Unit: "share", Counter: true,
				Help: "time its threads were " + r.help + ", of one thread", Source: source})
	}
	return s
}

// prepare checks that a process is chosen, tells the program the numbers of this machine's system calls,
// and gives the thing the readings belong to.
func prepare(spec *ebpf.CollectionSpec, opts probe.Options) (probe.Subject, error) {
	of := probe.Subject{Kind: tune.EntityProcess}
	switch {
	case opts.Scope.TGID != 0:
		pid := strconv.FormatUint(uint64(opts.Scope.TGID), 10)
		of.ID = "pid:" + pid
		of.Labels = map[string]string{"process": of.ID, "pid": pid}
	case opts.Scope.Comm != "":
		of.ID = "comm:" + opts.Scope.Comm
		of.Labels = map[string]string{"process": of.ID, "comm": opts.Scope.Comm}
	default:
		return of, fmt.Errorf("%w: off-CPU time is that of a chosen process: name one by its id or its name", tune.ErrUsage)
	}
	if err := opts.Types.Need("sched_info", "last_queued", "CONFIG_SCHED_INFO"); err != nil {
		return of, err
	}
	index := map[string]uint8{}
	for i, r := range reasons() {
		index[r.name] = uint8(i)
	}
	var table [maxCalls]uint8
	for name, numbers := range calls() {
		for _, nr := range numbers {
			table[nr] = index[name]
		}
	}
	if err := spec.Variables[bpfVarCalls].Set(table); err != nil {
		return of, fmt.Errorf("set system calls: %w", err)
	}
	return of, nil
}

// read hands over the reasons that have been seen.
func read(p *probe.Probe, of probe.Subject, out probe.Sink) error {
	var perCPU []probe.Raw
	for i, r := range reasons() {
		if err := p.Map(bpfMapWaits).Lookup(uint32(i), &perCPU); err != nil {
			return fmt.Errorf("read waits of %s: %w", r.name, err)
		}
		h := probe.Of(perCPU...)
		if h.Count() == 0 {
			continue
		}
		out.Hist(of, waitName(r.name), h)
		out.Seconds(of, shareName(r.name), float64(h.Sum)/1e9)
	}
	return nil
}

package telemetry

import (
	"context"
	"fmt"
	"strconv"

	"github.com/prometheus/procfs"

	"semantos/internal/tune"
)

// schedstatCollector reads /proc/schedstat, which kernels without CONFIG_SCHEDSTATS lack; the busiest
// processes' own waits are with the processes.
type schedstatCollector struct {
	*env
	labels map[int64]map[string]string
}

func newSchedstat(e *env) collector {
	return &schedstatCollector{env: e, labels: make(map[int64]map[string]string)}
}

func (c *schedstatCollector) Name() string { return "schedstat" }

func (c *schedstatCollector) Signals() []tune.Signal {
	const lines = `
sched.runq_wait_share | share | time tasks waited for a CPU, of the time they wanted one
sched.runq_wait_us | us | time a task waited for a CPU before each turn
sched.timeslices | +turns | turns tasks had on a CPU`
	return append(table("", "/proc/schedstat", lines), table(tune.EntityCPU, "/proc/schedstat", lines)...)
}

func (c *schedstatCollector) Collect(_ context.Context, f *frame) error {
	fs, err := procfs.NewFS(c.host.Path("proc"))
	if err != nil {
		return fileError("/proc", err)
	}
	st, err := fs.Schedstat()
	if err != nil {
		return fileError("proc/schedstat", err)
	}
	if len(st.CPUs) == 0 {
		return fmt.Errorf("proc/schedstat names no CPU: %w", tune.ErrCorrupt)
	}
	var ran, waited, turns float64
	add := func(e *entry, ran, waited, turns float64) {
		e.hidden("sched_ran_us", ran/1000)
		e.hidden("sched_waited_us", waited/1000)
		e.counter("sched.timeslices", turns)
	}
	for _, cpu := range st.CPUs {
		id, err := strconv.ParseInt(cpu.CPUNum, 10, 64)
		if err != nil {
			return corrupt("cpu of schedstat", []byte(cpu.CPUNum))
		}
		r, w, n := float64(cpu.RunningNanoseconds), float64(cpu.WaitingNanoseconds), float64(cpu.RunTimeslices)
		add(cpuEntry(f, c.labels, id), r, w, n)
		ran, waited, turns = ran+r, waited+w, turns+n
	}
	add(f.host(), ran, waited, turns)
	return nil
}

func (c *schedstatCollector) Derive(v *view) {
	for _, s := range append([]*signals{v.host}, v.entities[tune.EntityCPU]...) {
		s.ratio("sched.runq_wait_share", []string{"sched_waited_us"}, []string{"sched_waited_us", "sched_ran_us"})
		s.ratio("sched.runq_wait_us", []string{"sched_waited_us"}, []string{"sched.timeslices"})
	}
}

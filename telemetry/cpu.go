package telemetry

import (
	"context"
	"fmt"
	"sort"
	"strconv"

	"github.com/prometheus/procfs"

	"semantos/internal/tune"
)

type cpuCollector struct {
	*env
	labels map[int64]map[string]string
}

func newCPU(e *env) collector {
	return &cpuCollector{env: e, labels: make(map[int64]map[string]string)}
}

func (c *cpuCollector) Name() string { return "cpu" }

func (c *cpuCollector) Signals() []tune.Signal {
	host := table("", "/proc/stat", `
cpu.user_share | share | CPU time in user space
cpu.nice_share | share | CPU time of niced tasks in user space
cpu.system_share | share | CPU time in the kernel
cpu.idle_share | share | idle CPU time
cpu.iowait_share | share | idle CPU time while a task waited for I/O
cpu.irq_share | share | CPU time in hard interrupts
cpu.softirq_share | share | CPU time in soft interrupts
cpu.steal_share | share | CPU time the hypervisor gave to others
cpu.busy_share | share | CPU time not idle
cpu.busiest_softirq_share | share | soft-interrupt time of the CPU that has most of it
cpu.busiest_busy_share | share | busy time of the busiest CPU
cpu.context_switches | +switches | context switches
cpu.forks | +tasks | tasks created
cpu.interrupts | +interrupts | interrupts served
cpu.procs_running | tasks | runnable tasks
cpu.procs_blocked | tasks | tasks waiting for I/O
cpu.load1 | tasks | load average of the last minute
cpu.load5 | tasks | load average of the last five minutes
cpu.load15 | tasks | load average of the last fifteen minutes`)
	return append(host, table(tune.EntityCPU, "/proc/stat", `
cpu.busy_share | share | time this CPU was not idle
cpu.softirq_share | share | time this CPU spent in soft interrupts`)...)
}

func (c *cpuCollector) Collect(_ context.Context, f *frame) error {
	fs, err := procfs.NewFS(c.host.Path("proc"))
	if err != nil {
		return fileError("/proc", err)
	}
	st, err := fs.Stat()
	if err != nil {
		return fileError("proc/stat", err)
	}
	if len(st.CPU) == 0 {
		return fmt.Errorf("proc/stat names no CPU: %w", tune.ErrCorrupt)
	}
	h := f.host()
	t := st.CPUTotal
	for _, p := range [...]struct {
		name string
		v    float64
	}{{"user", t.User}, {"nice", t.Nice}, {"system", t.System}, {"idle", t.Idle}, {"iowait", t.Iowait},
		{"irq", t.IRQ}, {"softirq", t.SoftIRQ}, {"steal", t.Steal}} {
		h.hidden(p.name, p.v)
	}
	h.counter("cpu.context_switches", float64(st.ContextSwitches))
	h.counter("cpu.forks", float64(st.ProcessCreated))
	h.counter("cpu.interrupts", float64(st.IRQTotal))
	h.gauge("cpu.procs_running", float64(st.ProcessesRunning))
	h.gauge("cpu.procs_blocked", float64(st.ProcessesBlocked))
	ids := make([]int64, 0, len(st.CPU))
	for id := range st.CPU {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })
	for _, id := range ids {
		s := st.CPU[id]
		e := cpuEntry(f, c.labels, id)
		busy := s.User + s.Nice + s.System + s.IRQ + s.SoftIRQ + s.Steal
		e.hidden("cpu.busy", busy)
		e.hidden("cpu.softirq", s.SoftIRQ)
		e.hidden("cpu.all", busy+s.Idle+s.Iowait)
	}
	return c.load(f, fs)
}

func (c *cpuCollector) load(f *frame, fs procfs.FS) error {
	l, err := fs.LoadAvg()
	if err != nil {
		f.miss(c.Name(), err.Error())
		return nil
	}
	f.host().gauge("cpu.load1", l.Load1)
	f.host().gauge("cpu.load5", l.Load5)
	f.host().gauge("cpu.load15", l.Load15)
	return nil
}

// cpuEntry gives the entry of one CPU; its labels are made once.
func cpuEntry(f *frame, cache map[int64]map[string]string, id int64) *entry {
	labels := cache[id]
	if labels == nil {
		labels = map[string]string{"cpu": strconv.FormatInt(id, 10), "device": "cpu" + strconv.FormatInt(id, 10)}
		cache[id] = labels
	}
	return f.entity(tune.EntityCPU, labels["device"], 0, labels)
}

func (c *cpuCollector) Derive(v *view) {
	modes := []string{"user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"}
	for _, m := range modes {
		v.host.ratio("cpu."+m+"_share", []string{m}, modes)
	}
	v.host.ratio("cpu.busy_share", []string{"user", "nice", "system", "irq", "softirq", "steal"}, modes)
	for _, s := range v.entities[tune.EntityCPU] {
		s.ratio("cpu.busy_share", []string{"cpu.busy"}, []string{"cpu.all"})
		s.ratio("cpu.softirq_share", []string{"cpu.softirq"}, []string{"cpu.all"})
		v.host.largest("cpu.busiest_softirq_share", s, "cpu.softirq_share")
		v.host.largest("cpu.busiest_busy_share", s, "cpu.busy_share")
	}
}

package telemetry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"semantos/internal/host"
	"semantos/internal/tune"
)

const (
	largeProcesses = 4  // whose memory is looked at in detail
	mapsProcesses  = 8  // whose mappings are counted
	taskBudget     = 48 // threads whose run-queue wait is read per tick
	detailAge      = 5 * time.Second
	mapsAge        = 10 * time.Second
)

// process is what is remembered of a shown process beyond its task.
type process struct {
	labels    map[string]string
	start     uint64
	detailAt  time.Time
	anon      float64
	huge      float64
	hasDetail bool
	mapsAt    time.Time
	maps      float64
	fdLimit   float64
	limitAt   time.Time
	usageAt   time.Time
	realtime  []string // its threads of a real-time class
	classesAt time.Time
	denied    bool // its I/O is not ours to see
}

type processesCollector struct {
	*env
	scan     *procScan
	shown    map[int]*process
	pageSize float64
	sized    bool // see sizedFDs
	asked    bool
	net      *procNet
}

func newProcesses(e *env, scan *procScan) collector {
	return &processesCollector{env: e, scan: scan, shown: make(map[int]*process), pageSize: float64(os.Getpagesize()), net: newProcNet(e)}
}

func (c *processesCollector) Name() string { return "processes" }

func (c *processesCollector) Signals() []tune.Signal {
	return slices.Concat(table(tune.EntityProcess, "/proc/<pid>/stat", `
process.cpu_share | +share | CPU time of the process, of one CPU
process.system_share | +share | CPU time of the process in the kernel, of one CPU
process.rss_bytes | bytes | resident memory
process.minor_faults | +faults | page faults served without I/O
process.major_faults | +faults | page faults that needed I/O
process.threads | tasks | threads
process.realtime_threads | tasks | threads of a real-time scheduling class (processes of up to 16 threads, every 5 s)
process.realtime_switches | +switches | times its real-time threads gave up the CPU by themselves
process.blkio_wait_share | +share | time waiting for block I/O (needs kernel.task_delayacct)`),
		table(tune.EntityProcess, "/proc/<pid>/status, io, fd, limits", `
process.anon_bytes | bytes | resident anonymous memory
process.swap_bytes | bytes | memory swapped out
process.vol_switches | +switches | times its first thread gave up the CPU by itself
process.invol_switches | +switches | times its first thread was taken off the CPU
process.read_bytes | +bytes | bytes read from storage
process.write_bytes | +bytes | bytes that will be written to storage
process.read_calls | +calls | read(2) and its like, on sockets and pipes too; recv(2) and its like do not count
process.write_calls | +calls | write(2) and its like, sendfile(2) included; send(2) and its like do not count
process.read_call_bytes | +bytes | bytes that read(2) and its like gave
process.write_call_bytes | +bytes | bytes that write(2) and its like took
process.fds | files | open descriptors
process.fds_share | share | open descriptors of its soft limit`),
		table(tune.EntityProcess, "/proc/<pid>/schedstat, smaps_rollup, maps", `
process.runq_wait_share | share | time its threads wanted to run and waited for a CPU, of the time they wanted to run
process.huge_share | share | anonymous memory mapped by huge pages (largest processes, every 5 s)
process.maps | maps | memory mappings (largest processes, every 10 s)
process.maps_share | share | memory mappings of vm.max_map_count`), netSignals())
}

func (c *processesCollector) Collect(ctx context.Context, f *frame) error {
	if err := c.scan.run(); err != nil {
		return err
	}
	if !c.asked {
		c.asked, c.sized = true, sizedFDs(c.host.Path("proc"))
	}
	if c.scan.bad != nil {
		f.miss(c.Name(), c.scan.bad.Error())
	}
	chosen, large := c.choose()
	accounting := c.sysctl("proc/sys/kernel/task_delayacct") == 1
	maxMaps := c.sysctl("proc/sys/vm/max_map_count")
	fresh := make(map[int]*process, len(chosen))
	c.net.look(c.scan.tasks)
	budget := taskBudget
	for _, t := range chosen {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := c.shown[t.pid]
		if p == nil || p.start != t.start {
			p = c.describe(t)
		}
		fresh[t.pid] = p
		e := f.entity(tune.EntityProcess, p.labels["process"], t.start, p.labels)
		e.duty("process.cpu_share", t.cpu)
		e.duty("process.system_share", t.system)
		e.counter("process.minor_faults", t.minor)
		e.counter("process.major_faults", t.major)
		e.gauge("process.rss_bytes", t.rss*c.pageSize)
		e.gauge("process.threads", t.threads)
		if accounting {
			e.duty("process.blkio_wait_share", t.blkio)
		}
		if age := c.at.Sub(p.usageAt); t.gained > 0 || p.usageAt.IsZero() || age >= sceneAge || age < 0 {
			p.usageAt = c.at // of the idle ones little changes, and reading it is most of the cost
			c.usage(e, p)
		}
		c.classes(e, t, p)
		c.net.emit(e, t.pid)
		budget = c.waits(e, t, budget)
		rank := slices.Index(large, t)
		c.memory(e, t, p, rank, maxMaps)
	}
	c.shown = fresh
	c.sayDenied(f)
	return nil
}

func (c *processesCollector) sayDenied(f *frame) {
	denied := 0
	for _, p := range c.shown {
		if p.denied {
			denied++
		}
	}
	if denied > 0 {
		f.miss(c.Name(), fmt.Sprintf("I/O, descriptors and memory of %d of %d processes are not permitted to be read", denied, len(c.shown)))
	}
}

// choose gives the busiest and the largest processes, ordered by pid, and the large ones by size.
func (c *processesCollector) choose() (chosen, large []*task) {
	list := make([]*task, 0, len(c.scan.tasks))
	for _, t := range c.scan.tasks {
		if !t.kernel {
			list = append(list, t)
		}
	}
	bySize := func(a, b *task) int { return cmp.Or(cmp.Compare(b.rss, a.rss), cmp.Compare(a.pid, b.pid)) }
	byUse := func(a, b *task) int { return cmp.Or(cmp.Compare(b.recent, a.recent), bySize(a, b)) }
	slices.SortFunc(list, bySize)
	large = slices.Clone(list[:min(len(list), mapsProcesses)])
	chosen = slices.Clone(large)
	slices.SortFunc(list, byUse)
	for _, t := range list {
		if len(chosen) >= c.limits.Processes {
			break
		}
		if !slices.Contains(chosen, t) {
			chosen = append(chosen, t)
		}
	}
	slices.SortFunc(chosen, byUse) // the budget of the run-queue goes to the busiest
	return chosen, large
}

func (c *processesCollector) describe(t *task) *process {
	pid := strconv.Itoa(t.pid)
	labels := map[string]string{"pid": pid, "comm": t.comm, "process": "pid:" + pid, "cgroup": ""}
	if b, err := c.files.once("proc/" + pid + "/cgroup"); err == nil {
		labels["cgroup"] = parseProcCgroup(b)
	}
	return &process{labels: labels, start: t.start}
}

func (c *processesCollector) sysctl(rel string) float64 {
	b, err := c.files.read(rel)
	if err != nil {
		return 0
	}
	var v [1]float64
	if _, err := parseNumbers(b, v[:]); err != nil {
		return 0
	}
	return v[0]
}

// usage reads what the process did with memory, storage and descriptors. What is not permitted or
// gone by now is left out.
func (c *processesCollector) usage(e *entry, p *process) {
	dir := "proc/" + p.labels["pid"]
	if b, err := c.files.once(dir + "/status"); err == nil {
		s := parseProcStatus(b)
		if s.hasMemory {
			e.gauge("process.anon_bytes", s.anon)
			e.gauge("process.swap_bytes", s.swap)
		}
		if s.hasSwitches {
			e.counter("process.vol_switches", s.voluntary)
			e.counter("process.invol_switches", s.involuntary)
		}
	}
	b, err := c.files.once(dir + "/io")
	n, counted := -1.0, false
	if errors.Is(err, tune.ErrNotPermitted) && c.aid != nil {
		var use host.ProcessUse
		if use, err = c.look(p, host.UseWanted{IO: true}); err == nil {
			b, n, counted = []byte(use.IO), float64(use.FDs), use.FDs >= 0
			if use.IO == "" {
				err = fmt.Errorf("%s/io: %w", dir, tune.ErrNotPermitted)
			}
		}
	} else {
		n, counted = countFDs(c.host.Path(dir+"/fd"), c.sized)
	}
	p.denied = errors.Is(err, tune.ErrNotPermitted)
	if err == nil {
		if p, err := parseProcIO(b); err == nil {
			e.counter("process.read_bytes", p.read)
			e.counter("process.write_bytes", p.written)
			e.counter("process.read_calls", p.readCalls)
			e.counter("process.write_calls", p.writeCalls)
			e.counter("process.read_call_bytes", p.readChars)
			e.counter("process.write_call_bytes", p.writeChars)
		}
	}
	if counted {
		e.gauge("process.fds", n)
		if age := c.at.Sub(p.limitAt); p.limitAt.IsZero() || age >= sceneAge || age < 0 {
			p.limitAt = c.at
			p.fdLimit = 0
			if b, err := c.files.once(dir + "/limits"); err == nil {
				p.fdLimit = parseFDLimit(b)
			}
		}
		share(e, "process.fds_share", n, p.fdLimit)
	}
}

// look asks the aid for what is not ours to see of a process.
func (c *processesCollector) look(p *process, want host.UseWanted) (host.ProcessUse, error) {
	pid, err := strconv.Atoi(p.labels["pid"])
	if err != nil {
		return host.ProcessUse{FDs: -1, Maps: -1}, err
	}
	return c.aid.ProcessUse(pid, p.start, want)
}

// waits adds up how long the threads ran and waited for a CPU, within the budget of files.
func (c *processesCollector) waits(e *entry, t *task, budget int) int {
	idle := t.recent == 0 && c.scan.round > 1 // at the first tick nobody has shown yet
	if idle || int(t.threads) > budget {
		return budget
	}
	dir := "proc/" + strconv.Itoa(t.pid) + "/task"
	names, err := readDirNames(c.host.Path(dir), budget)
	if err != nil || len(names) > budget {
		return budget
	}
	var ran, waited float64
	for _, n := range names {
		b, err := c.files.once(dir + "/" + n + "/schedstat")
		if err != nil {
			continue // the thread ended
		}
		var v [3]float64
		if n, err := parseNumbers(b, v[:]); err != nil || n < 3 {
			continue
		}
		ran += v[0]
		waited += v[1]
	}
	e.hidden("ran", ran/1e9)
	e.hidden("waited", waited/1e9)
	return budget - len(names)
}

// memory looks closer at the largest processes; the kernel walks their page tables for it, so seldom.
func (c *processesCollector) memory(e *entry, t *task, p *process, rank int, maxMaps float64) {
	dir := "proc/" + p.labels["pid"]
	due := func(at, now time.Time, age time.Duration) bool {
		return at.IsZero() || now.Sub(at) >= age || now.Before(at)
	}
	if rank >= 0 && rank < largeProcesses && due(p.detailAt, c.at, detailAge) {
		p.detailAt = c.at
		p.hasDetail = false
		b, err := c.files.once(dir + "/smaps_rollup")
		if errors.Is(err, tune.ErrNotPermitted) && c.aid != nil {
			var use host.ProcessUse
			use, err = c.look(p, host.UseWanted{Smaps: true})
			b = []byte(use.Smaps)
		}
		if err == nil {
			p.anon, p.huge, err = parseSmapsRollup(b)
			p.hasDetail = err == nil
		}
	}
	if rank >= 0 && due(p.mapsAt, c.at, mapsAge) {
		p.mapsAt = c.at
		p.maps = 0
		b, err := c.files.once(dir + "/maps")
		switch {
		case err == nil || errors.Is(err, tune.ErrCorrupt):
			p.maps = countLines(b)
		case errors.Is(err, tune.ErrNotPermitted) && c.aid != nil:
			if use, err := c.look(p, host.UseWanted{Maps: true}); err == nil {
				p.maps = max(0, float64(use.Maps))
			}
		}
	}
	if p.hasDetail {
		share(e, "process.huge_share", p.huge, p.anon)
	}
	if p.maps > 0 {
		e.gauge("process.maps", p.maps)
		share(e, "process.maps_share", p.maps, maxMaps)
	}
}

func (c *processesCollector) Derive(v *view) {
	for _, s := range v.entities[tune.EntityProcess] {
		s.ratio("process.runq_wait_share", []string{"waited"}, []string{"waited", "ran"})
		s.segments()
	}
}

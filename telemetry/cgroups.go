package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"sort"
	"time"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

const (
	cgroupsPerTick = 16 // read in turns
	cgroupDepth    = 5
)

// cgroup is one group; dirs are its directories below the host's root, by controller ("" is v2).
type cgroup struct {
	path   string
	gen    uint64
	dirs   map[string]string
	labels map[string]string
}

type cgroupsCollector struct {
	*env
	at     time.Time
	groups []*cgroup
	more   bool
	turn   int
}

func newCgroups(e *env) collector { return &cgroupsCollector{env: e} }

func (c *cgroupsCollector) Name() string { return "cgroups" }

func (c *cgroupsCollector) Signals() []tune.Signal {
	return table(tune.EntityCgroup, "cgroup file system", `
cgroup.cpu_share | +share | CPU time of the group, of one CPU
cgroup.cpu_periods | +periods | enforcement periods that passed with tasks to run
cgroup.cpu_throttled_share | share | periods in which the group was throttled
cgroup.cpu_throttled_us | +us | time in which the group was throttled
cgroup.cpu_limit_cpus | cpus | CPU bandwidth limit
cgroup.memory_bytes | bytes | memory charged
cgroup.memory_limit_bytes | bytes | memory limit
cgroup.memory_share | share | memory charged of the limit
cgroup.memory_high_bytes | bytes | memory.high: above it the group is slowed down and reclaimed
cgroup.memory_high_events | +events | times the group was held back at memory.high
cgroup.memory_max_events | +events | times the group was about to go beyond its limit
cgroup.oom_kills | +kills | processes of the group killed for want of memory
cgroup.pids | tasks | tasks in the group
cgroup.pids_share | share | tasks of the limit
cgroup.pids_max_events | +events | forks refused at the limit
cgroup.psi_cpu_some_share | +share | time in which some task of the group waited for a CPU
cgroup.psi_memory_some_share | +share | time in which some task of the group was stalled by missing memory
cgroup.psi_io_some_share | +share | time in which some task of the group waited for I/O`)
}

func (c *cgroupsCollector) Collect(_ context.Context, f *frame) error {
	now := c.env.at
	if age := now.Sub(c.at); c.at.IsZero() || age >= sceneAge || age < 0 {
		c.at = now
		c.find()
	}
	if len(c.groups) == 0 {
		return fmt.Errorf("no control group below the root: %w", tune.ErrNoData)
	}
	if c.more {
		f.miss(c.Name(), fmt.Sprintf("more than %d control groups; the rest is not watched", c.limits.Cgroups))
	}
	for i, g := range c.groups {
		e := f.entity(tune.EntityCgroup, g.path, g.gen, g.labels)
		if k := (i - c.turn + len(c.groups)) % len(c.groups); k >= cgroupsPerTick {
			continue // another tick's turn; it stays in the snapshot by what was read before
		}
		if err := c.read(e, g); err != nil {
			return err
		}
	}
	c.turn = (c.turn + cgroupsPerTick) % len(c.groups)
	return nil
}

// find lists the groups breadth first, in the unified hierarchy and in the controllers of version 1.
func (c *cgroupsCollector) find() {
	byPath := make(map[string]*cgroup)
	c.more = false
	const root = "sys/fs/cgroup"
	hierarchies := []struct{ controller, dir string }{{"", root}, {"", root + "/unified"},
		{"memory", root + "/memory"}, {"cpu", root + "/cpu"}, {"pids", root + "/pids"}}
	for _, h := range hierarchies {
		if h.controller == "" {
			var st unix.Stat_t
			if unix.Stat(c.host.Path(h.dir+"/cgroup.controllers"), &st) != nil {
				continue
			}
		}
		c.walk(h.controller, h.dir, byPath)
	}
	c.groups = c.groups[:0]
	for _, g := range byPath {
		c.groups = append(c.groups, g)
	}
	sort.Slice(c.groups, func(i, j int) bool { return c.groups[i].path < c.groups[j].path })
}

func (c *cgroupsCollector) walk(controller, root string, byPath map[string]*cgroup) {
	level := []string{"/"}
	for depth := 0; depth < cgroupDepth && len(level) > 0; depth++ {
		var next []string
		for _, p := range level {
			entries, err := os.ReadDir(c.host.Path(root + p))
			if err != nil {
				continue // went away, or is not ours to see
			}
			for _, d := range entries {
				if d.IsDir() {
					next = append(next, path.Join(p, d.Name()))
				}
			}
		}
		for _, p := range next {
			c.join(controller, root, p, byPath)
		}
		level = next
	}
}

func (c *cgroupsCollector) join(controller, root, p string, byPath map[string]*cgroup) {
	g := byPath[p]
	if g == nil {
		if len(byPath) >= c.limits.Cgroups {
			c.more = true
			return
		}
		version := "2"
		if controller != "" {
			version = "1"
		}
		g = &cgroup{path: p, dirs: map[string]string{}, labels: map[string]string{"cgroup": p, "version": version}}
		var st unix.Stat_t
		if unix.Stat(c.host.Path(root+p), &st) == nil {
			g.gen = st.Ino
		}
		byPath[p] = g
	}
	g.dirs[controller] = root + p
}

// value reads a file of one number; ok is false for "max", an absent file and a group that has gone.
func (c *cgroupsCollector) value(file string) (v float64, ok bool, err error) {
	b, err := c.files.once(file)
	if err != nil {
		return 0, false, ignoreAbsent(err)
	}
	b = bytes.TrimSpace(b)
	if string(b) == "max" {
		return 0, false, nil
	}
	v, ok = number(b)
	if !ok {
		return 0, false, corrupt(file, b)
	}
	return v, true, nil
}

func ignoreAbsent(err error) error {
	if errors.Is(err, tune.ErrNoData) || errors.Is(err, tune.ErrNotPermitted) {
		return nil
	}
	return err
}

// pairs reads a file of "key value" lines; absent files have none.
func (c *cgroupsCollector) pairs(file string, visit func(key string, v float64)) error {
	b, err := c.files.once(file)
	if err != nil {
		return ignoreAbsent(err)
	}
	if len(b) == 0 {
		return nil
	}
	return parseKeyValues(b, func(key []byte, v float64) { visit(string(key), v) })
}

func (c *cgroupsCollector) read(e *entry, g *cgroup) error {
	var errs []error
	if dir, ok := g.dirs[""]; ok {
		errs = append(errs, c.readCPU(e, dir, 1e6), c.readMemory(e, dir), c.readPressure(e, dir))
	}
	if dir, ok := g.dirs["cpu"]; ok {
		errs = append(errs, c.readCPU(e, dir, 1e9))
	}
	if dir, ok := g.dirs["memory"]; ok {
		errs = append(errs, c.readMemoryV1(e, dir))
	}
	for _, controller := range [...]string{"", "pids"} {
		if dir, ok := g.dirs[controller]; ok {
			errs = append(errs, c.readPids(e, dir))
		}
	}
	return errors.Join(errs...)
}

func (c *cgroupsCollector) readCPU(e *entry, dir string, perSecond float64) error {
	err := c.pairs(dir+"/cpu.stat", func(key string, v float64) {
		switch key {
		case "usage_usec":
			e.duty("cgroup.cpu_share", v/1e6)
		case "nr_periods":
			e.counter("cgroup.cpu_periods", v)
		case "nr_throttled":
			e.hidden("throttled", v)
		case "throttled_usec", "throttled_time":
			e.counter("cgroup.cpu_throttled_us", v/perSecond*1e6)
		}
	})
	if err != nil {
		return err
	}
	if b, err := c.files.once(dir + "/cpu.max"); err == nil {
		var v [2]float64
		if n, err := parseNumbers(b, v[:]); err == nil && n == 2 { // "max 100000" is no limit
			share(e, "cgroup.cpu_limit_cpus", v[0], v[1])
		}
		return nil
	}
	quota, ok, err := c.value(dir + "/cpu.cfs_quota_us")
	if err != nil || !ok || quota <= 0 {
		return err
	}
	period, ok, err := c.value(dir + "/cpu.cfs_period_us")
	if ok {
		share(e, "cgroup.cpu_limit_cpus", quota, period)
	}
	return err
}

func (c *cgroupsCollector) readMemory(e *entry, dir string) error {
	used, ok, err := c.value(dir + "/memory.current")
	if err != nil || !ok {
		return err
	}
	e.gauge("cgroup.memory_bytes", used)
	for _, l := range [...]struct{ file, name, of string }{
		{"/memory.max", "cgroup.memory_limit_bytes", "cgroup.memory_share"}, {"/memory.high", "cgroup.memory_high_bytes", ""}} {
		limit, ok, err := c.value(dir + l.file)
		if err != nil {
			return err
		}
		if ok {
			e.gauge(l.name, limit)
			if l.of != "" {
				share(e, l.of, used, limit)
			}
		}
	}
	return c.pairs(dir+"/memory.events", func(key string, v float64) {
		switch key {
		case "high":
			e.counter("cgroup.memory_high_events", v)
		case "max":
			e.counter("cgroup.memory_max_events", v)
		case "oom_kill":
			e.counter("cgroup.oom_kills", v)
		}
	})
}

func (c *cgroupsCollector) readMemoryV1(e *entry, dir string) error {
	used, ok, err := c.value(dir + "/memory.usage_in_bytes")
	if err != nil || !ok {
		return err
	}
	e.gauge("cgroup.memory_bytes", used)
	limit, ok, err := c.value(dir + "/memory.limit_in_bytes")
	if err != nil {
		return err
	}
	if ok && limit < 1<<60 { // version 1 spells "no limit" as the largest page-aligned number
		e.gauge("cgroup.memory_limit_bytes", limit)
		share(e, "cgroup.memory_share", used, limit)
	}
	if fails, ok, err := c.value(dir + "/memory.failcnt"); err != nil {
		return err
	} else if ok {
		e.counter("cgroup.memory_max_events", fails)
	}
	return c.pairs(dir+"/memory.oom_control", func(key string, v float64) {
		if key == "oom_kill" {
			e.counter("cgroup.oom_kills", v)
		}
	})
}

func (c *cgroupsCollector) readPids(e *entry, dir string) error {
	used, ok, err := c.value(dir + "/pids.current")
	if err != nil || !ok {
		return err
	}
	e.gauge("cgroup.pids", used)
	limit, ok, err := c.value(dir + "/pids.max")
	if err != nil {
		return err
	}
	if ok {
		share(e, "cgroup.pids_share", used, limit)
	}
	return c.pairs(dir+"/pids.events", func(key string, v float64) {
		if key == "max" {
			e.counter("cgroup.pids_max_events", v)
		}
	})
}

func (c *cgroupsCollector) readPressure(e *entry, dir string) error {
	for _, r := range [...]string{"cpu", "memory", "io"} {
		b, err := c.files.once(dir + "/" + r + ".pressure")
		if err != nil {
			if err := ignoreAbsent(err); err != nil {
				return err
			}
			continue
		}
		p, err := parsePSI(b)
		if err != nil {
			return err
		}
		e.duty("cgroup.psi_"+r+"_some_share", p.some/1e6)
	}
	return nil
}

func (c *cgroupsCollector) Derive(v *view) {
	for _, s := range v.entities[tune.EntityCgroup] {
		s.ratio("cgroup.cpu_throttled_share", []string{"throttled"}, []string{"cgroup.cpu_periods"})
	}
}

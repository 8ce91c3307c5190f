package telemetry

import (
	"bytes"
	"context"
	"strings"

	"semantos/internal/tune"
)

// memFields are the keys of /proc/meminfo of the kernels in use. Those with a unit are sizes.
const memFields = `MemTotal MemFree MemAvailable Buffers Cached SwapCached Active Inactive Active(anon) Inactive(anon)
Active(file) Inactive(file) Unevictable Mlocked SwapTotal SwapFree Zswap Zswapped Dirty Writeback AnonPages Mapped Shmem
KReclaimable Slab SReclaimable SUnreclaim KernelStack ShadowCallStack PageTables SecPageTables NFS_Unstable Bounce WritebackTmp
CommitLimit Committed_AS VmallocTotal VmallocUsed VmallocChunk Percpu EarlyMemtestBad HardwareCorrupted AnonHugePages
ShmemHugePages ShmemPmdMapped FileHugePages FilePmdMapped CmaTotal CmaFree Unaccepted Balloon GPUActive GPUReclaim
Hugepagesize Hugetlb DirectMap4k DirectMap2M DirectMap4M DirectMap1G`

const memCounts = `HugePages_Total HugePages_Free HugePages_Rsvd HugePages_Surp`

type meminfoCollector struct {
	*env
	names map[string]string
}

func newMeminfo(e *env) collector {
	c := &meminfoCollector{env: e, names: make(map[string]string)}
	for _, f := range strings.Fields(memFields) {
		c.names[f] = "mem." + snake(f) + "_bytes"
	}
	for _, f := range strings.Fields(memCounts) {
		c.names[f] = "mem." + snake(f)
	}
	return c
}

func (c *meminfoCollector) Name() string { return "meminfo" }

func (c *meminfoCollector) Signals() []tune.Signal {
	var out []tune.Signal
	for _, f := range strings.Fields(memFields + " " + memCounts) {
		unit := "bytes"
		if strings.HasPrefix(f, "HugePages_") {
			unit = "pages"
		}
		out = append(out, tune.Signal{Name: c.names[f], Unit: unit, Help: f + " of meminfo", Source: "/proc/meminfo"})
	}
	return append(out, table("", "/proc/meminfo", `
mem.available_share | share | memory available without swapping, of all
mem.committed_share | share | promised memory over the commit limit
mem.swap_used_share | share | swap in use, of all swap
mem.anon_huge_share | share | anonymous memory mapped by huge pages`)...)
}

func (c *meminfoCollector) Collect(_ context.Context, f *frame) error {
	b, err := c.files.read("proc/meminfo")
	if err != nil {
		return err
	}
	h := f.host()
	var total, available, committed, limit, swap, swapFree, anon, huge float64
	places := map[string]*float64{"MemTotal": &total, "MemAvailable": &available, "Committed_AS": &committed,
		"CommitLimit": &limit, "SwapTotal": &swap, "SwapFree": &swapFree, "AnonPages": &anon, "AnonHugePages": &huge}
	available = -1
	if err := parseMeminfo(b, func(key []byte, v float64) {
		if name, ok := c.names[string(key)]; ok {
			h.gauge(name, v)
		}
		if p := places[string(key)]; p != nil {
			*p = v
		}
	}); err != nil {
		return err
	}
	if available >= 0 {
		share(h, "mem.available_share", available, total)
	}
	share(h, "mem.committed_share", committed, limit)
	share(h, "mem.swap_used_share", swap-swapFree, swap)
	share(h, "mem.anon_huge_share", huge, anon)
	return nil
}

// share adds part/whole as a gauge, when there is a whole.
func share(e *entry, name string, part, whole float64) {
	if whole > 0 {
		e.gauge(name, part/whole)
	}
}

// parseMeminfo gives each key with its value in bytes where the kernel printed a unit.
func parseMeminfo(b []byte, visit func(key []byte, v float64)) error {
	lines := 0
	for len(b) > 0 {
		var l []byte
		if l, b = line(b); len(bytes.TrimSpace(l)) == 0 {
			continue
		}
		key, rest, found := bytes.Cut(l, []byte{':'})
		w, rest := word(rest)
		v, ok := number(w)
		if !found || !ok {
			return corrupt("line", l)
		}
		if unit, _ := word(rest); string(unit) == "kB" {
			v *= 1024
		} else if len(unit) > 0 {
			return corrupt("unit", l)
		}
		visit(key, v)
		lines++
	}
	if lines == 0 {
		return corrupt("file", b)
	}
	return nil
}

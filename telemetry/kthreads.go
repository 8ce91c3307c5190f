package telemetry

import (
	"context"
	"fmt"
	"strings"

	"semantos/internal/tune"
)

// kthreadGroups are the kernel threads whose CPU time says something about a tunable; those of every
// CPU, node or device count together.
var kthreadGroups = []struct{ name, prefix, help string }{
	{"kswapd", "kswapd", "reclaiming memory in the background"},
	{"ksmd", "ksmd", "merging equal pages"},
	{"khugepaged", "khugepaged", "collapsing small pages into huge ones"},
	{"kcompactd", "kcompactd", "compacting memory in the background"},
	{"ksoftirqd", "ksoftirqd/", "soft interrupts that did not fit into their turn"},
	{"kworker_flush", "kworker/", "writing back dirty pages"},
	{"kworker", "kworker/", "other work queues"},
	{"jbd2", "jbd2/", "committing the ext4 journal"},
	{"xfsaild", "xfsaild/", "pushing the XFS log"},
	{"migration", "migration/", "moving tasks between CPUs"},
	{"rcu", "rcu", "read-copy-update callbacks"},
	{"napi", "napi/", "threaded packet reception"},
	{"kdamond", "kdamond.", "watching memory access"},
	{"irq", "irq/", "threaded interrupts"},
}

type kthreadsCollector struct {
	*env
	scan   *procScan
	used   []float64 // seconds since the start, by group
	labels []map[string]string
}

func newKthreads(e *env, scan *procScan) collector {
	c := &kthreadsCollector{env: e, scan: scan, used: make([]float64, len(kthreadGroups))}
	for _, g := range kthreadGroups {
		c.labels = append(c.labels, map[string]string{"comm": g.name})
	}
	return c
}

func (c *kthreadsCollector) Name() string { return "kthreads" }

func (c *kthreadsCollector) Signals() []tune.Signal {
	out := table(tune.EntityKthread, "/proc/<pid>/stat", "kthread.cpu_share | +share | CPU time of these kernel threads, of one CPU")
	for _, g := range kthreadGroups {
		out = append(out, tune.Signal{Name: "kthread." + g.name + ".cpu_share", Unit: "share", Counter: true,
			Help: "CPU time of kernel threads " + g.help + ", of one CPU", Source: "/proc/<pid>/stat"})
	}
	return out
}

func (c *kthreadsCollector) Collect(_ context.Context, f *frame) error {
	if err := c.scan.run(); err != nil {
		return err
	}
	present := make([]bool, len(kthreadGroups))
	found := false
	for _, t := range c.scan.tasks {
		if !t.kernel {
			continue
		}
		if g := kthreadGroup(t.comm); g >= 0 {
			present[g] = true
			found = true
			c.used[g] += t.gained
		}
	}
	if !found {
		return fmt.Errorf("no kernel thread is visible: %w", tune.ErrNoData)
	}
	for g := range kthreadGroups {
		// a work queue thread bears a flush only while it works on it, so that group is always there
		if !present[g] && kthreadGroups[g].name != "kworker_flush" {
			continue
		}
		f.host().duty("kthread."+kthreadGroups[g].name+".cpu_share", c.used[g])
		f.entity(tune.EntityKthread, kthreadGroups[g].name, 0, c.labels[g]).duty("kthread.cpu_share", c.used[g])
	}
	return nil
}

// kthreadGroup gives the group of a kernel thread's name, -1 for those nobody asks about.
func kthreadGroup(comm string) int {
	for i, g := range kthreadGroups {
		if !strings.HasPrefix(comm, g.prefix) {
			continue
		}
		if g.name == "kworker_flush" && !strings.Contains(comm, "flush-") {
			continue
		}
		return i
	}
	return -1
}

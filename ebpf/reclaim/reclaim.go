package reclaim

import (
	"fmt"
	"slices"

	"semantos/ebpf/probe"
	"semantos/internal/tune"
)

// New describes the probe.
func New() probe.Spec {
	return probe.Spec{
		Name:       "reclaim",
		Answers:    "how long do tasks look for memory themselves, reclaiming and compacting",
		Signals:    signals(),
		Collection: loadBpf,
		Optional:   []string{"memcg_begin", "memcg_end", "node_begin", "node_end", "compaction_begin", "compaction_end", "throttled", "wakeup_kswapd"},
		Read:       read,
	}
}

const (
	wakeups   = "mm.kswapd_wakeups"
	throttled = "mm.reclaim_throttled"
)

// kind is one kind of time, in the order of the C file's enum kind.
type kind struct{ name, help, tracepoint string }

func kinds() []kind {
	return []kind{
		{"mm.direct_reclaim", "tasks reclaim memory of the host before they get any", "mm_vmscan_direct_reclaim_end"},
		{"mm.memcg_reclaim", "tasks reclaim memory of a cgroup at its limit", "mm_vmscan_memcg_reclaim_end"},
		{"mm.node_reclaim", "tasks reclaim memory of their NUMA node before they take another's", "mm_vmscan_node_reclaim_end"},
		{"mm.compaction", "tasks compact memory for a large allocation, one zone at a time", "mm_compaction_end"},
	}
}

func signals() []tune.Signal {
	var out []tune.Signal
	for i, k := range kinds() {
		source := "tracepoint " + k.tracepoint + " and its beginning"
		out = append(out,
			probe.HistSignal(k.name+"_us", "", "us", "time in which "+k.help, source),
			tune.Signal{Name: k.name, Unit: "share", Counter: true, Help: "time in which " + k.help + ", all of them together", Source: source})
		if i < reclaims {
			out = append(out, tune.Signal{Name: k.name + "_pages", Unit: "pages", Counter: true, Help: "pages reclaimed where " + k.help, Source: source})
		}
	}
	const source, help = "tracepoint mm_vmscan_throttled", "time in which reclaiming tasks are held back: for writeback, or because nothing can be freed"
	return append(out,
		probe.HistSignal(throttled+"_us", "", "us", help, source),
		tune.Signal{Name: throttled, Unit: "share", Counter: true, Help: help + ", all of them together", Source: source},
		tune.Signal{Name: wakeups, Unit: "events", Counter: true, Help: "times an allocation woke the host's own reclaim",
			Source: "tracepoint mm_vmscan_wakeup_kswapd"})
}

const (
	timed    = 4 // kinds
	reclaims = 3 // of them count pages
)

// spent is the struct of that name in the C file.
type spent struct {
	Pages   [timed]uint64
	Wakeups uint64
	Time    [timed]probe.Raw
	Held    probe.Raw
}

func read(p *probe.Probe, out probe.Sink) error {
	var perCPU []spent
	if err := p.Map(bpfMapSpents).Lookup(uint32(0), &perCPU); err != nil {
		return fmt.Errorf("read reclaim times: %w", err)
	}
	var host probe.Subject
	hist := func(name string, of func(*spent) *probe.Raw) {
		h := probe.Sum(len(perCPU), func(i int) *probe.Raw { return of(&perCPU[i]) })
		out.Hist(host, name+"_us", h)
		out.Seconds(host, name, float64(h.Sum)/1e9)
	}
	for i, k := range kinds() {
		if slices.Contains(p.Missing, k.tracepoint) {
			continue
		}
		hist(k.name, func(s *spent) *probe.Raw { return &s.Time[i] })
		if i < reclaims {
			var n uint64
			for c := range perCPU {
				n += perCPU[c].Pages[i]
			}
			out.Counter(host, k.name+"_pages", float64(n))
		}
	}
	if !slices.Contains(p.Missing, "mm_vmscan_throttled") {
		hist(throttled, func(s *spent) *probe.Raw { return &s.Held })
	}
	if !slices.Contains(p.Missing, "mm_vmscan_wakeup_kswapd") {
		var n uint64
		for i := range perCPU {
			n += perCPU[i].Wakeups
		}
		out.Counter(host, wakeups, float64(n))
	}
	return nil
}

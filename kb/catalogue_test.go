package kb

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"semantos/internal/tune"
)

// loadedOnce spares each test the load: a catalogue is immutable.
var loadedOnce = sync.OnceValues(func() (*Catalogue, error) { return Load(Options{}) })

func loaded(t *testing.T) *Catalogue {
	t.Helper()
	c, err := loadedOnce()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func vmHost() tune.Facts {
	return tune.Facts{Num: map[string]float64{"mem_total_bytes": 24 << 30, "cpus": 2, "numa_nodes": 1, "swap_total_bytes": 0,
		"page_size": 4096, "kernel": 6018, "is_zram_swap": 0, "rotational_any": 1}, Text: map[string]string{}}
}

func TestCatalogueIsLarge(t *testing.T) {
	t.Parallel()
	all := loaded(t).All()
	if len(all) < 140 {
		t.Errorf("%d tunables, want at least 140", len(all))
	}
	t.Logf("%d tunables", len(all))
	if !slices.IsSortedFunc(all, func(a, b *tune.Tunable) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("not sorted by name")
	}
}

// The list of the facts: every knob has an entry under the name people use.
func TestCatalogueHasTheKnownTunables(t *testing.T) {
	t.Parallel()
	c := loaded(t)
	names := strings.Fields(`
		vm.swappiness vm.dirty_ratio vm.dirty_background_ratio vm.dirty_bytes vm.dirty_background_bytes
		vm.dirty_expire_centisecs vm.dirty_writeback_centisecs vm.vfs_cache_pressure vm.min_free_kbytes
		vm.watermark_scale_factor vm.watermark_boost_factor vm.compaction_proactiveness vm.extfrag_threshold
		vm.page-cluster vm.stat_interval mm/transparent_hugepage/enabled mm/transparent_hugepage/defrag
		mm/transparent_hugepage/khugepaged/scan_sleep_millisecs mm/transparent_hugepage/khugepaged/pages_to_scan
		vm.nr_hugepages vm.nr_overcommit_hugepages vm.zone_reclaim_mode vm.overcommit_memory vm.max_map_count
		vm.percpu_pagelist_high_fraction vm.laptop_mode net.core.somaxconn net.core.netdev_max_backlog
		net.core.netdev_budget net.core.netdev_budget_usecs net.core.flow_limit_cpu_bitmap net.core.flow_limit_table_len
		net.core.busy_read net.core.busy_poll net.core.rmem_max net.core.wmem_max net.core.rmem_default net.core.wmem_default
		net.core.default_qdisc net.core.rps_sock_flow_entries net/eth0/queues/rx-0/rps_cpus net/eth0/queues/rx-0/rps_flow_cnt
		net.ipv4.tcp_max_syn_backlog net.ipv4.tcp_syncookies net.ipv4.tcp_abort_on_overflow net.ipv4.tcp_rmem net.ipv4.tcp_wmem
		net.ipv4.tcp_notsent_lowat net.ipv4.tcp_congestion_control net.ipv4.tcp_moderate_rcvbuf net.ipv4.tcp_mem net.ipv4.udp_mem
		net.ipv4.udp_rmem_min net.ipv4.tcp_fastopen net.ipv4.tcp_slow_start_after_idle net.ipv4.tcp_tw_reuse
		net.ipv4.ip_local_port_range net.ipv4.tcp_max_tw_buckets net.ipv4.tcp_fin_timeout net.ipv4.tcp_keepalive_time
		net.ipv4.tcp_keepalive_intvl net.ipv4.tcp_keepalive_probes net.ipv4.tcp_autocorking net.ipv4.tcp_ecn
		net.ipv4.tcp_limit_output_bytes net.ipv4.tcp_mtu_probing net.ipv4.tcp_retries2 net.ipv4.tcp_thin_linear_timeouts
		net.ipv4.tcp_no_metrics_save net.ipv4.neigh.default.gc_thresh1 net.ipv4.neigh.default.gc_thresh2
		net.ipv4.neigh.default.gc_thresh3 net.ipv4.ipfrag_high_thresh net.unix.max_dgram_qlen sched/base_slice_ns
		sched/migration_cost_ns kernel.sched_autogroup_enabled kernel.sched_rt_runtime_us kernel.sched_rt_period_us
		kernel.sched_cfs_bandwidth_slice_us kernel.sched_rr_timeslice_ms kernel.numa_balancing kernel.timer_migration
		kernel.nmi_watchdog kernel.watchdog_thresh kernel.hung_task_timeout_secs kernel.sem kernel.shmmax kernel.shmall
		kernel.shmmni kernel.pid_max kernel.threads-max kernel.perf_event_max_sample_rate kernel.perf_cpu_time_max_percent
		fs.file-max fs.nr_open fs.aio-max-nr fs.inotify.max_user_watches fs.inotify.max_user_instances
		fs.epoll.max_user_watches net.netfilter.nf_conntrack_max block/vda/queue/scheduler block/vda/queue/read_ahead_kb
		block/vda/queue/nr_requests block/vda/queue/rq_affinity block/vda/queue/nomerges block/vda/queue/wbt_lat_usec
		block/vda/queue/iosched/read_expire block/vda/queue/iosched/low_latency block/vda/queue/iosched/read_lat_nsec
		block/vda/queue/io_poll cpu/cpu0/cpufreq/scaling_governor cpu/cpu0/cpufreq/energy_performance_preference
		dev/cpu_dma_latency net/eth0/napi_defer_hard_irqs net/eth0/gro_flush_timeout net/eth0/threaded net/eth0/tx_queue_len
		mm/ksm/run mm/ksm/pages_to_scan mm/ksm/sleep_millisecs mm/ksm/merge_across_nodes module/zswap/enabled
		cgroup/cpu.weight cgroup/cpu.max cgroup/cpu.cfs_quota_us cgroup/memory.high cgroup/memory.max cgroup/io.weight
		cgroup/pids.max socket/listen_backlog socket/rcvbuf socket/sndbuf`)
	for _, n := range names {
		if _, _, err := c.Lookup(n); err != nil {
			t.Errorf("%s: %v", n, err)
		}
	}
}

// An instance's name gives back its entry and target, and no two entries claim one instance.
func TestNamesRoundTrip(t *testing.T) {
	t.Parallel()
	c := loaded(t)
	for _, tn := range c.All() {
		target := strings.Join([]string{"vda", "rx-0", "x"}[:len(templateWords(tn.Name))], "/")
		name := tn.Instance(target)
		got, gotTarget, err := c.Lookup(name)
		if err != nil || got != tn || gotTarget != target {
			t.Errorf("%s on %q is %q, found as %v on %q (%v)", tn.Name, target, name, got, gotTarget, err)
		}
		if strings.Contains(tn.PathOf(target), "{") {
			t.Errorf("%s: path %q keeps a word", tn.Name, tn.PathOf(target))
		}
	}
}

func TestLookupSpellings(t *testing.T) {
	t.Parallel()
	c := loaded(t)
	tests := []struct{ in, name, target string }{
		{"vm.swappiness", "vm.swappiness", ""},
		{" vm.swappiness ", "vm.swappiness", ""},
		{"vm/swappiness", "vm.swappiness", ""},
		{"/proc/sys/vm/swappiness", "vm.swappiness", ""},
		{"net.nf_conntrack_max", "net.netfilter.nf_conntrack_max", ""},
		{"kernel.sched_min_granularity_ns", "sched/base_slice_ns", ""},
		{"/sys/kernel/mm/ksm/run", "mm/ksm/run", ""},
		{"/sys/block/sda/queue/nr_requests", "block/{device}/queue/nr_requests", "sda"},
		{"block/sda/queue/nr_requests", "block/{device}/queue/nr_requests", "sda"},
		{"net/eth0/queues/rx-3/rps_cpus", "net/{device}/queues/{queue}/rps_cpus", "eth0/rx-3"},
		{"memory.max", "cgroup/memory.max", ""},
	}
	for _, tt := range tests {
		got, target, err := c.Lookup(tt.in)
		if err != nil || got.Name != tt.name || target != tt.target {
			t.Errorf("Lookup(%q) = %v, %q, %v; want %s on %q", tt.in, got, target, err, tt.name, tt.target)
		}
	}
}

func TestLookupUnknownHints(t *testing.T) {
	t.Parallel()
	c := loaded(t)
	tests := []struct{ in, near string }{
		{"vm.swapiness", "vm.swappiness"},
		{"net.core.somaxcon", "net.core.somaxconn"},
		{"swappiness", "vm.swappiness"},
		{"block/vda/queue/readahead_kb", "semantos tunables"},
		{"block/../queue/read_ahead_kb", ""},
		{"", ""},
	}
	for _, tt := range tests {
		_, _, err := c.Lookup(tt.in)
		if !errors.Is(err, tune.ErrUnknown) {
			t.Errorf("Lookup(%q): %v, want ErrUnknown", tt.in, err)
		}
		if h := tune.Hint(err); tt.near != "semantos tunables" && !strings.Contains(h, tt.near) {
			t.Errorf("hint of %q is %q, want %q in it", tt.in, h, tt.near)
		}
	}
}

func TestRanges(t *testing.T) {
	t.Parallel()
	c := loaded(t)
	facts := vmHost()
	tests := []struct {
		name string
		i    int
		x    float64
		hard bool // inside
		safe bool // inside
	}{
		{"net.core.somaxconn", 0, 8, true, false}, {"net.core.somaxconn", 0, 4096, true, true}, {"net.core.somaxconn", 0, 0, false, false},
		{"net.ipv4.tcp_rmem", 2, 16384, true, false}, {"net.ipv4.tcp_rmem", 2, 33554432, true, true},
		{"vm.dirty_bytes", 0, 8192, true, false}, {"vm.dirty_bytes", 0, 1 << 20, true, false}, {"vm.dirty_bytes", 0, 512 << 20, true, true},
		{"block/{device}/queue/read_ahead_kb", 0, 0, true, false}, {"block/{device}/queue/read_ahead_kb", 0, 8192, true, true},
		{"vm.swappiness", 0, 0, true, false}, {"vm.swappiness", 0, 200, true, false}, {"vm.swappiness", 0, 60, true, true}, {"vm.swappiness", 0, 201, false, false},
		{"net.core.rmem_max", 0, 4608, true, false}, {"net.core.rmem_max", 0, 100, false, false},
		{"vm.watermark_scale_factor", 0, 3001, false, false}, {"vm.percpu_pagelist_high_fraction", 0, 7, false, false},
	}
	for _, tt := range tests {
		tn, _, err := c.Lookup(tt.name)
		if err != nil {
			t.Fatal(err)
		}
		safe, err := c.Safe(tn, facts)
		if err != nil {
			t.Fatal(err)
		}
		hard, _ := tn.HardAt(tt.i)
		in := func(r tune.Range) bool { return tt.x >= r.Min && tt.x <= r.Max }
		if in(hard) != tt.hard || in(safe[tt.i]) != tt.safe {
			t.Errorf("%s[%d] = %v: hard %v %t, safe %v %t; want %t and %t", tt.name, tt.i, tt.x, hard, in(hard), safe[tt.i], in(safe[tt.i]), tt.hard, tt.safe)
		}
	}
}

// The kernel's own default must pass Parse everywhere, and lie in the safe range unless the entry is
// never written: advice to leave a default alone would be a veto otherwise.
func TestDefaultsAreAcceptable(t *testing.T) {
	t.Parallel()
	c := loaded(t)
	n := 0
	for _, tn := range c.All() {
		v, err := c.Default(tn, vmHost())
		if errors.Is(err, tune.ErrNoData) {
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tn.Name, err)
			continue
		}
		n++
		if got, err := tn.Parse(string(v)); err != nil || got != v {
			t.Errorf("%s: default %q parses as %q, %v", tn.Name, v, got, err)
		}
		safe, err := c.Safe(tn, vmHost())
		if err != nil {
			t.Errorf("%s: %v", tn.Name, err)
		}
		for i, f := range v.Fields() {
			if _, special := tn.SpecialOf(f); special || len(safe) == 0 || tn.Protected {
				continue
			}
			x, err := tune.Value(f).Numbers()
			if err != nil || x[0] < safe[i].Min || x[0] > safe[i].Max {
				t.Errorf("%s: default %q outside safe %v", tn.Name, v, safe[i])
			}
		}
	}
	t.Logf("%d defaults", n)
}

func TestKnownDefaults(t *testing.T) {
	t.Parallel()
	c := loaded(t)
	old := vmHost()
	old.Num["kernel"] = 5010
	tests := []struct {
		name  string
		facts tune.Facts
		want  tune.Value
	}{
		{"net.ipv4.tcp_rmem", vmHost(), "4096 131072 33554432"},
		{"net.ipv4.tcp_rmem", old, "4096 131072 6291456"},
		{"net.core.rmem_max", vmHost(), "4194304"},
		{"net.core.rmem_max", old, "212992"},
		{"vm.dirty_ratio", vmHost(), "20"},
		{"vm.dirty_bytes", vmHost(), "0"},
		{"kernel.shmmax", vmHost(), "18446744073692774399"},
		{"cgroup/cpu.max", vmHost(), "max 100000"},
		{"mm/transparent_hugepage/defrag", vmHost(), "madvise"},
	}
	for _, tt := range tests {
		tn, _, err := c.Lookup(tt.name)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.Default(tn, tt.facts); err != nil || got != tt.want {
			t.Errorf("default of %s = %q, %v; want %q", tt.name, got, err, tt.want)
		}
	}
}

func TestEdges(t *testing.T) {
	t.Parallel()
	c := loaded(t)
	edges := c.Edges()
	find := func(from string, kind tune.EdgeType, to string) (tune.Edge, bool) {
		i := slices.IndexFunc(edges, func(e tune.Edge) bool { return e.From == from && e.Type == kind && e.To == to })
		if i < 0 {
			return tune.Edge{}, false
		}
		return edges[i], true
	}
	for _, tt := range []struct {
		from   string
		kind   tune.EdgeType
		to     string
		sign   int
		weight float64
	}{
		{"vm.dirty_ratio", tune.ConflictsWith, "vm.dirty_bytes", -1, 1},
		{"net.ipv4.tcp_rmem", tune.DependsOn, "net.ipv4.tcp_moderate_rcvbuf", 1, 0.9},
		{"vm.swappiness", tune.DependsOn, "fact:swap", 1, 1},
		{"net.core.somaxconn", tune.Affects, "tcp.listen_overflows", -1, 0.9},
	} {
		e, ok := find(tt.from, tt.kind, tt.to)
		if !ok || e.Sign != tt.sign || e.Weight != tt.weight || e.Source == "" {
			t.Errorf("%s %s %s = %+v, %t", tt.from, tt.kind, tt.to, e, ok)
		}
	}
	again, err := Load(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(edges, again.Edges()) {
		t.Error("edges differ from load to load")
	}
	t.Logf("%d edges", len(edges))
}

func TestMarkdownNamesEveryTunable(t *testing.T) {
	t.Parallel()
	c := loaded(t)
	var b bytes.Buffer
	if err := WriteMarkdown(&b, c); err != nil {
		t.Fatal(err)
	}
	for _, tn := range c.All() {
		if !strings.Contains(b.String(), "| `"+tn.Name+"` |") {
			t.Errorf("%s is not in the page", tn.Name)
		}
	}
	for i, line := range strings.Split(b.String(), "\n") {
		if strings.HasPrefix(line, "| `") && strings.Count(strings.ReplaceAll(line, "\\|", ""), "|") != 9 {
			t.Errorf("line %d is no row of 8 cells: %s", i+1, line)
		}
	}
}

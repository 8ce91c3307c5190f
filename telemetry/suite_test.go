package telemetry_test

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"semantos/internal/tune"
	"semantos/telemetry"
	"semantos/telemetry/telemetrytest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const (
	fixture = "testdata/fixture"
	later   = "testdata/later"
)

// fakeSockets grows between its first and second use: one listener fills up, a connection moves bytes.
type fakeSockets struct{ dumps int }

func (f *fakeSockets) DumpUnix(most int, visit func(telemetry.UnixSocket)) error {
	return (&telemetrytest.Sockets{UDP: make([]telemetry.DiagSocket, 3)}).DumpUnix(most, visit)
}

func (f *fakeSockets) Dump(q telemetry.DiagQuery, visit func(*telemetry.DiagSocket)) (bool, error) {
	f.dumps++
	tick := uint64(1)
	if f.dumps <= 6 { // three protocols' worth of dumps for each of two families
		tick = 0
	}
	ap := netip.MustParseAddrPort
	s := &telemetrytest.Sockets{}
	s.TCP = []telemetry.DiagSocket{
		{State: 10, Local: ap("0.0.0.0:80"), Cookie: 0x4f, Inode: 11, RQueue: uint32(9 * tick), WQueue: 8},
		{State: 10, Local: ap("[::]:443"), Cookie: 0x50, Inode: 12, RQueue: 1, WQueue: 511},
		{State: 1, Local: ap("10.0.0.1:40001"), Remote: ap("10.0.0.2:5432"), Cookie: 1, HasMemory: true, RcvBuf: 6291456,
			RMem: 6000000, SndBuf: 87040, HasInfo: true, Info: telemetry.TCPInfo{RTT: 900, MinRTT: 100, RcvRTT: 1500, RcvSpace: 65536,
				Cwnd: 10, SegsOut: uint32(100 + 900*tick), TotalRetrans: uint32(9 * tick), BytesReceived: 1000 + 1_000_000*tick,
				BytesOut: 500 + 500_000*tick, BusyTime: 4_000_000 * tick, RwndLimited: 3_000_000 * tick, SndbufLimited: 1_000_000 * tick,
				DeliveryRate: 123456, NotSent: 77}},
		{State: 6, Local: ap("10.0.0.1:40002"), Remote: ap("10.0.0.2:5432")},
		{State: 6, Local: ap("10.0.0.1:40003"), Remote: ap("10.0.0.3:5432")},
		{State: 1, Local: ap("10.0.0.1:80"), Remote: ap("10.0.0.9:50000"), Cookie: 2},
	}
	s.UDP = []telemetry.DiagSocket{
		{State: 7, Local: ap("0.0.0.0:514"), Cookie: 0x60, Inode: 13, HasMemory: true, RMem: 2000, RcvBuf: 2304, Drops: uint32(5 + 500*tick)},
		{State: 7, Local: ap("0.0.0.0:53"), Cookie: 0x61, Inode: 14, HasMemory: true, RcvBuf: 212992},
	}
	return s.Dump(q, visit)
}

func cases() []telemetrytest.Case {
	files := map[string][]string{
		"buddy": {"proc/buddyinfo"}, "cgroups": {"sys/fs/cgroup/"}, "conntrack": {"proc/net/stat/nf_conntrack", "proc/sys/net/netfilter/"},
		"cpu": {"proc/stat", "proc/loadavg"}, "diskstats": {"proc/diskstats", "sys/block/"}, "ksm": {"sys/kernel/mm/ksm/"},
		"kthreads": {"proc/40/", "proc/60/"}, "listeners": nil, "meminfo": {"proc/meminfo"}, "neigh": {"proc/net/stat/arp_cache",
			"proc/net/stat/ndisc_cache", "proc/sys/net/ipv4/neigh/"}, "netdev": {"proc/net/dev", "sys/devices/"},
		"netstat": {"proc/net/snmp", "proc/net/netstat", "proc/net/snmp6"}, "ports": {"proc/sys/net/ipv4/ip_local_port_range"},
		"processes": {"proc/900/"}, "schedstat": {"proc/schedstat"}, "psi": {"proc/pressure/"}, "sockstat": {"proc/net/sockstat", "proc/net/sockstat6", "proc/sys/net/ipv4/tcp_mem"},
		"softnet": {"proc/net/softnet_stat"}, "tables": {"proc/sys/fs/", "proc/loadavg", "proc/key-users"},
		"tcpinfo": {"proc/sys/net/ipv4/tcp_rmem"}, "udpsockets": {"proc/sys/net/core/rmem_default"}, "unixsockets": nil, "vmstat": {"proc/vmstat"},
	}
	core := map[string][]string{
		"buddy": {"buddy.high_order_share"},
		"cgroups": {"cgroup:cgroup.cpu_throttled_share", "cgroup:cgroup.cpu_throttled_us", "cgroup:cgroup.cpu_periods", "cgroup:cgroup.memory_bytes",
			"cgroup:cgroup.memory_limit_bytes", "cgroup:cgroup.memory_share", "cgroup:cgroup.memory_high_events", "cgroup:cgroup.memory_max_events",
			"cgroup:cgroup.oom_kills", "cgroup:cgroup.pids", "cgroup:cgroup.pids_share", "cgroup:cgroup.pids_max_events",
			"cgroup:cgroup.psi_cpu_some_share", "cgroup:cgroup.psi_memory_some_share", "cgroup:cgroup.psi_io_some_share"},
		"conntrack": {"netns:conntrack.count", "netns:conntrack.max", "netns:conntrack.share", "netns:conntrack.drop",
			"netns:conntrack.early_drop", "netns:conntrack.insert_failed", "conntrack.drop"},
		"cpu": {"cpu.user_share", "cpu.steal_share", "cpu.softirq_share", "cpu.busiest_softirq_share", "cpu.context_switches", "cpu.forks",
			"cpu.interrupts", "cpu.procs_running", "cpu.procs_blocked", "cpu.load1", "cpu.load5", "cpu.load15", "cpu:cpu.softirq_share", "cpu:cpu.busy_share"},
		"diskstats": {"device:block.read_ios", "device:block.flush_ios", "device:block.write_bytes", "device:block.read_wait_ms",
			"device:block.util_share", "device:block.queue_depth", "device:block.inflight", "device:block.write_kb_per_io", "device:block.rotational"},
		"ksm": {"ksm.pages_shared", "ksm.pages_sharing", "ksm.pages_scanned", "ksm.full_scans"},
		"kthreads": {"kthread.kswapd.cpu_share", "kthread.ksmd.cpu_share", "kthread.ksoftirqd.cpu_share", "kthread.kworker_flush.cpu_share",
			"kthread.jbd2.cpu_share", "kthread:kthread.cpu_share"},
		"listeners": {"listener:listener.queue", "listener:listener.queue.max", "listener:listener.backlog", "listener:listener.full_share",
			"listener:listener.at_limit_share"},
		"meminfo": {"mem.mem_available_bytes", "mem.dirty_bytes", "mem.anon_huge_pages_bytes", "mem.committed_as_bytes",
			"mem.commit_limit_bytes", "mem.huge_pages_free", "mem.available_share"},
		"neigh":  {"netns:neigh.entries", "netns:neigh.table_fulls", "netns:neigh.forced_gc_runs", "neigh.table_fulls"},
		"netdev": {"netdev:netdev.rx_dropped", "netdev:netdev.tx_bytes", "netdev:netdev.tx_queue_len", "netdev:netdev.is_virtual"},
		"netstat": {"tcp.listen_overflows", "tcp.listen_overflows.total", "netns:tcp.listen_drops", "netns:tcp.req_q_full_drop",
			"netns:tcp.req_q_full_do_cookies", "netns:tcp.prune_called", "netns:tcp.rcv_pruned", "netns:tcp.rcv_collapsed",
			"netns:tcp.to_zero_window_adv", "netns:tcp.want_zero_window_adv", "netns:tcp.memory_pressures", "netns:tcp.time_wait_overflow",
			"netns:tcp.retrans_segs", "netns:tcp.abort_on_memory", "netns:tcp.backlog_drop", "netns:tcp.tw", "netns:tcp.slow_start_retrans",
			"netns:udp.rcvbuf_errors", "netns:udp6.rcvbuf_errors", "netns:ip.reasm_fails", "netns:icmp.in_msgs"},
		"ports": {"netns:ports.used", "netns:ports.range", "netns:ports.used_share", "netns:tcp.time_wait"},
		"processes": {"process:process.cpu_share", "process:process.runq_wait_share", "process:process.rss_bytes", "process:process.anon_bytes",
			"process:process.huge_share", "process:process.minor_faults", "process:process.major_faults", "process:process.vol_switches",
			"process:process.invol_switches", "process:process.threads", "process:process.maps", "process:process.maps_share", "process:process.fds",
			"process:process.fds_share", "process:process.read_bytes", "process:process.write_bytes", "process:process.blkio_wait_share"},
		"psi":       {"psi.cpu_some_share", "psi.memory_full_share", "psi.io_full_share"},
		"schedstat": {"sched.runq_wait_share", "sched.runq_wait_us", "cpu:sched.runq_wait_share"},
		"sockstat": {"netns:sockstat.sockets_used", "netns:sockstat.tcp_inuse", "netns:sockstat.tcp_orphan", "netns:sockstat.tcp_tw",
			"netns:sockstat.tcp_alloc", "netns:sockstat.tcp_mem_pages", "netns:sockstat.udp_inuse", "netns:sockstat.udp_mem_pages",
			"netns:sockstat.frag_inuse", "netns:sockstat.frag_memory_bytes"},
		"softnet": {"softnet.processed", "softnet.dropped", "softnet.time_squeeze", "softnet.flow_limit", "cpu:softnet.dropped"},
		"tables":  {"table.files_share", "table.inodes_used", "table.pids_max", "table.threads_share", "table.aio_used", "table.keys_share", "table.dentries_used"},
		"tcpinfo": {"netns:tcpinfo.established", "netns:tcpinfo.rwnd_limited_share", "netns:tcpinfo.sndbuf_limited_share", "netns:tcpinfo.rcv_rtt_us.p50",
			"netns:tcpinfo.rtt_us.p50", "netns:tcpinfo.rtt_us.p95", "netns:tcpinfo.retrans_share", "netns:tcpinfo.notsent_bytes",
			"netns:tcpinfo.delivery_rate_bytes", "netns:tcpinfo.rcv_space_bytes", "netns:tcpinfo.rcvbuf_full_share", "netns:tcpinfo.busy_share",
			"netns:tcpinfo.cwnd.p50", "netns:tcpinfo.rcvbuf_at_max_share", "netns:tcpinfo.sndbuf_at_max_share", "netns:tcpinfo.receiving",
			"netns:tcpinfo.sending", "netns:tcpinfo.rcvbuf_bytes.p50", "netns:tcpinfo.recv_bytes", "netns:tcpinfo.sent_bytes"},
		"udpsockets": {"udpsocket:udpsock.drops", "udpsocket:udpsock.queue_bytes", "udpsocket:udpsock.queue_bytes.max",
			"udpsocket:udpsock.rcvbuf_bytes", "udpsocket:udpsock.full_share"},
		"unixsockets": {"netns:unix.dgram_sockets", "netns:unix.dgram_waiting"},
		"vmstat": {"vm.pgscan_kswapd", "vm.pgscan_direct", "vm.allocstall", "vm.pgmajfault", "vm.nr_dirty", "vm.nr_dirty.max", "vm.nr_dirtied",
			"vm.dirtied_bytes", "vm.written_bytes", "vm.direct_reclaim_share", "vm.dirty_of_limit_share", "vm.reclaim_efficiency"},
	}
	beside := map[string][]string{"cpu": {"tables"}, "tables": {"cpu"}, "kthreads": {"processes"}}
	var out []telemetrytest.Case
	for name := range telemetry.CollectorSignals() {
		out = append(out, telemetrytest.Case{Name: name, Fixture: []string{fixture}, Later: later, Files: files[name], Core: core[name],
			Beside:  beside[name],
			Sockets: func() telemetry.SocketSource { return &fakeSockets{} }})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

func TestCollectors(t *testing.T) {
	for _, c := range cases() {
		if len(c.Core) == 0 {
			t.Errorf("collector %s has no case", c.Name)
		}
		t.Run(c.Name, func(t *testing.T) { telemetrytest.Suite(t, c) })
	}
}

// TestGolden compares every number of the fixture, a file per collector.
func TestGolden(t *testing.T) {
	tree := telemetrytest.NewTree(t, fixture)
	r := telemetrytest.NewRun(t, tree, &fakeSockets{})
	r.Tick(t, 0)
	tree.Overlay(t, later)
	r.Tick(t, 10*time.Second)
	snap := r.Sampler.Snapshot()
	if len(snap.Missing) > 0 {
		t.Errorf("missing on the fixture: %v", snap.Missing)
	}
	for name, table := range telemetry.CollectorSignals() {
		path := filepath.Join("testdata", "golden", name+".txt")
		got := render(snap, table)
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: -golden +got\n%s", name, cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")))
		}
	}
}

// render prints what is not zero of a collector's signals, one a line, labels first.
func render(snap tune.Snapshot, table []tune.Signal) []byte {
	own := make(map[string]bool)
	for _, s := range table {
		own[s.Entity+":"+s.Name] = true
	}
	var lines []string
	put := func(kind, id string, values map[string]float64) bool {
		any := false
		for name, v := range values {
			base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, ".total"), ".max"), ".last")
			if v != 0 && (own[kind+":"+base] || own[kind+":"+name]) {
				lines = append(lines, fmt.Sprintf("%s %s %s %.6g", kind, id, name, v))
				any = true
			}
		}
		return any
	}
	put("", "host", snap.Signals)
	for kind, list := range snap.Entities {
		for _, e := range list {
			if put(kind, e.ID, e.Signals) {
				for k, v := range e.Labels {
					lines = append(lines, fmt.Sprintf("%s %s label %s=%q", kind, e.ID, k, v))
				}
			}
		}
	}
	sort.Strings(lines)
	return []byte(strings.Join(lines, "\n") + "\n")
}

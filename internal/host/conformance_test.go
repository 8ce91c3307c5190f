package host_test

import (
	"testing"

	"semantos/internal/host"
	"semantos/internal/host/hosttest"
	"semantos/internal/tune"
)

func number(name, path string, scope tune.Scope) *tune.Tunable {
	return &tune.Tunable{Name: name, Path: path, Scope: scope, Method: tune.MethodSysctl, Kind: tune.KindInteger, Arity: 1}
}

func tcpRmem() *tune.Tunable {
	return &tune.Tunable{Name: "net.ipv4.tcp_rmem", Path: "net/ipv4/tcp_rmem", Scope: tune.ScopeNetns,
		Method: tune.MethodSysctl, Kind: tune.KindVector, Of: tune.KindBytes, Arity: 3}
}

// laws are the cases that hold on plain files and in a real namespace alike.
func laws(target string) []hosttest.Case {
	return []hosttest.Case{
		{Name: "number", Tunable: number("net.core.somaxconn", "net/core/somaxconn", tune.ScopeNetns), Target: target,
			Accepts: []tune.Value{"8", "4096", "65535"},
			Refused: map[tune.Value]error{"": tune.ErrType, "1 2": tune.ErrType, "1\x00": tune.ErrType}},
		{Name: "vector", Tunable: tcpRmem(), Target: target,
			Accepts: []tune.Value{"4096 16384 16384", "4096 131072 6291456"},
			Refused: map[tune.Value]error{"8192": tune.ErrType, "8192 16384": tune.ErrType, "1 2 3 4": tune.ErrType}},
		{Name: "text", Tunable: &tune.Tunable{Name: "net.ipv4.tcp_congestion_control", Path: "net/ipv4/tcp_congestion_control",
			Scope: tune.ScopeNetns, Method: tune.MethodSysctl, Kind: tune.KindText, Pattern: "[a-z]+", Arity: 1},
			Target: target, Accepts: []tune.Value{"reno"}},
		{Name: "read-only", Tunable: &tune.Tunable{Name: "net.ipv4.tcp_available_congestion_control",
			Path: "net/ipv4/tcp_available_congestion_control", Scope: tune.ScopeNetns, Method: tune.MethodSysctl, Kind: tune.KindText},
			Target: target, Locked: tune.ErrReadOnly},
		{Name: "absent", Tunable: number("net.ipv4.tcp_no_such", "net/ipv4/tcp_no_such", tune.ScopeNetns),
			Target: target, Fails: tune.ErrUnsupported},
		{Name: "denied", Tunable: number("kernel.core_pattern", "kernel/core_pattern", tune.ScopeHost), Fails: tune.ErrDenied},
		{Name: "denied below", Tunable: number("kernel.yama", "kernel/yama/ptrace_scope", tune.ScopeHost), Fails: tune.ErrDenied},
		{Name: "denied with a star", Tunable: number("fs.protected", "fs/protected_hardlinks", tune.ScopeHost), Fails: tune.ErrDenied},
		{Name: "dots", Tunable: number("out", "net/../kernel/core_pattern", tune.ScopeHost), Fails: tune.ErrDenied},
		{Name: "dots out", Tunable: number("out", "../self/oom_score_adj", tune.ScopeHost), Fails: tune.ErrDenied},
		{Name: "absolute", Tunable: number("out", "/etc/passwd", tune.ScopeHost), Fails: tune.ErrDenied},
		{Name: "directory", Tunable: number("dir", "net/core", tune.ScopeHost), Fails: tune.ErrDenied},
		{Name: "method", Tunable: &tune.Tunable{Name: "x", Method: "poke", Scope: tune.ScopeHost}, Fails: tune.ErrUnsupported},
	}
}

func TestConformanceTree(t *testing.T) {
	t.Parallel()
	tree := func(t testing.TB) *host.Host {
		return hosttest.Tree(t, map[string]string{
			"proc/sys/net/core/somaxconn":                              "128\n",
			"proc/sys/net/ipv4/tcp_rmem":                               "4096\t131072\t6291456\n",
			"proc/sys/net/ipv4/tcp_congestion_control":                 "cubic\n",
			"proc/sys/net/ipv4/tcp_available_congestion_control!":      "reno cubic\n",
			"proc/sys/kernel/core_pattern":                             "core\n",
			"proc/sys/kernel/yama/ptrace_scope":                        "1\n",
			"proc/sys/fs/protected_hardlinks":                          "1\n",
			"proc/self/oom_score_adj":                                  "0\n",
			"sys/block/vda/queue/scheduler":                            "none [mq-deadline] kyber\n",
			"sys/block/vda/queue/read_ahead_kb":                        "128\n",
			"sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep": "10000\n",
		})
	}
	hosttest.Run(t, tree, append(laws(""), hosttest.Case{
		Name: "other namespace", Tunable: tcpRmem(), Target: "netns:12345", Fails: tune.ErrUnsupported,
	}, hosttest.Case{
		Name: "device", Accepts: []tune.Value{"0", "4096"}, Target: "vda",
		Tunable: &tune.Tunable{Name: "block/{device}/queue/read_ahead_kb", Path: "block/{device}/queue/read_ahead_kb",
			Scope: tune.ScopeDevice, Method: tune.MethodSysfs, Kind: tune.KindInteger},
	}, hosttest.Case{
		Name: "device gone", Fails: tune.ErrGone, Target: "vdz",
		Tunable: &tune.Tunable{Name: "block/{device}/queue/read_ahead_kb", Path: "block/{device}/queue/read_ahead_kb",
			Scope: tune.ScopeDevice, Method: tune.MethodSysfs, Kind: tune.KindInteger},
	}, hosttest.Case{
		Name: "socket", Fails: tune.ErrUnsupported, Target: "tcp:0.0.0.0:80;netns=1;cookie=1",
		Tunable: &tune.Tunable{Name: "socket/listen_backlog", Scope: tune.ScopeSocket, Method: tune.MethodBacklog, Kind: tune.KindInteger},
	}, hosttest.Case{
		Name: "latency", Fails: tune.ErrUnsupported,
		Tunable: &tune.Tunable{Name: "dev/cpu_dma_latency", Scope: tune.ScopeHost, Method: tune.MethodDMALatency, Kind: tune.KindInteger},
	}))
}

func TestConformanceNetns(t *testing.T) {
	t.Parallel()
	ns := hosttest.FreshNetns(t)
	realHost := func(testing.TB) *host.Host { return host.New(host.Config{}) }
	cases := append(laws(ns.Target),
		// The kernel sets the first two elements before it refuses the third.
		hosttest.Case{Name: "vector half written", Tunable: tcpRmem(), Target: ns.Target,
			Refused: map[tune.Value]error{"8192 262144 4294967296": tune.ErrOutOfRange, "8192 x 16384": tune.ErrOutOfRange}},
		hosttest.Case{Name: "range", Tunable: number("net.ipv4.tcp_tw_reuse", "net/ipv4/tcp_tw_reuse", tune.ScopeNetns),
			Target: ns.Target, Accepts: []tune.Value{"0", "1"},
			Refused: map[tune.Value]error{"3": tune.ErrOutOfRange, "-1": tune.ErrOutOfRange, "many": tune.ErrOutOfRange}},
		hosttest.Case{Name: "reversed", Target: ns.Target, Refused: map[tune.Value]error{"60000 50000": tune.ErrOutOfRange},
			Tunable: &tune.Tunable{Name: "net.ipv4.ip_local_port_range", Path: "net/ipv4/ip_local_port_range", Arity: 2,
				Scope: tune.ScopeNetns, Method: tune.MethodSysctl, Kind: tune.KindVector, Of: tune.KindInteger}},
		hosttest.Case{Name: "no such word", Target: ns.Target, Refused: map[tune.Value]error{"nosuch": tune.ErrOutOfRange},
			Tunable: &tune.Tunable{Name: "net.ipv4.tcp_congestion_control", Path: "net/ipv4/tcp_congestion_control",
				Scope: tune.ScopeNetns, Method: tune.MethodSysctl, Kind: tune.KindText}},
		hosttest.Case{Name: "read-only in a namespace", Target: ns.Target, Locked: tune.ErrReadOnly, Accepts: []tune.Value{"262144"},
			Tunable: number("net.core.rmem_max", "net/core/rmem_max", tune.ScopeNetns)},
		hosttest.Case{Name: "absent in a namespace", Target: ns.Target, Fails: tune.ErrUnsupported,
			Tunable: number("net.core.netdev_budget", "net/core/netdev_budget", tune.ScopeNetns)},
		hosttest.Case{Name: "gone namespace", Target: "netns:1", Fails: tune.ErrGone, Tunable: tcpRmem()},
	)
	hosttest.Run(t, realHost, cases)
}

package main

import (
	"context"
	"fmt"
	"time"

	"semantos/workloads"
	"semantos/workloads/fileio"
	"semantos/workloads/keyvalue"
	"semantos/workloads/stream"
	"semantos/workloads/web"
)

// candidate is a change that hurts a host that is well, and one like it that changes nothing to speak of.
type candidate struct {
	name  string
	says  string
	unit  string  // of the work that is counted
	scale float64 // of one operation in that unit; 0: the requests of the clients beside the load are the work
	build func(ctx context.Context, p *place) error
	load  func(p *place) workloads.Load
	// The file whose text tells whether the change stands.
	watch func(p *place) string
	// What apply --set is given.
	bad, equal func(ctx context.Context, p *place) ([]string, error)
	// stage is the shortest stage of which 5 % hold a slot.
	stage time.Duration
}

const (
	mebibyte   = 1.0 / (1 << 20)
	fioBlock   = 64 << 10
	storePort  = 7399
	storeKeys  = 70000
	storeLimit = 160 // MiB
)

// candidates are the harmful changes, all inside the hard range of their tunable.
func candidates() []candidate {
	disk := func(ctx context.Context, p *place) error { return p.addDisk(ctx) }
	netns := func(ctx context.Context, p *place) error { return p.addNetns(ctx) }
	return []candidate{
		{
			name: "backlog", says: "somaxconn 1 and the live backlog with it, under nginx and wrk, one connection per request",
			unit: "requests", build: netns, stage: 30 * time.Second,
			load: func(p *place) workloads.Load {
				return &web.Load{Dir: p.dir, Netns: p.netns, Port: webPort, Clients: 256, Prober: p.self, Args: []string{"probe"}}
			},
			watch: func(*place) string { return "/proc/sys/net/core/somaxconn" },
			bad:   func(ctx context.Context, p *place) ([]string, error) { return backlog(ctx, p, 1) },
			equal: func(ctx context.Context, p *place) ([]string, error) { return backlog(ctx, p, 4095) },
		},
		{
			name: "rcvbuf", says: "tcp_rmem of at most 16 KiB, under TCP streams that connect anew",
			unit: "MiB", scale: mebibyte, build: netns, stage: 80 * time.Second,
			load:  func(p *place) workloads.Load { return &stream.Load{Netns: p.netns, Port: streamPort, Streams: 4} },
			watch: func(*place) string { return "/proc/sys/net/ipv4/tcp_rmem" },
			bad:   inNetns("net.ipv4.tcp_rmem", "4096 16384 16384"),
			equal: inNetns("net.ipv4.tcp_rmem", "4096 131072 33000000"),
		},
		{
			name: "dirty", says: "dirty_bytes 1 MiB, under fio's buffered writes",
			unit: "MiB", scale: fioBlock * mebibyte, build: disk, stage: 80 * time.Second,
			load:  func(p *place) workloads.Load { return &fileio.Load{Dir: p.mount, Write: true, SizeMB: 512} },
			watch: func(*place) string { return "/proc/sys/vm/dirty_ratio" }, // 0 while bytes are in force
			bad:   always("vm.dirty_bytes=1048576"),
			equal: always("vm.dirty_ratio=21"),
		},
		{
			name: "readahead", says: "read_ahead_kb 0, under fio's sequential reads of a file that is opened anew",
			unit: "MiB", scale: fioBlock * mebibyte, build: disk, stage: 80 * time.Second,
			load:  func(p *place) workloads.Load { return &fileio.Load{Dir: p.mount, SizeMB: 1024} },
			watch: func(p *place) string { return p.readAhead() },
			bad:   onDevice("0"),
			equal: onDevice("132"),
		},
		{
			name: "swappiness", says: "swappiness 200 of a limited control group with redis and a reader of files",
			unit: "requests", stage: 80 * time.Second,
			build: func(ctx context.Context, p *place) error {
				if err := p.addSwap(ctx); err != nil {
					return err
				}
				return p.addCgroup(ctx, storeLimit, "10")
			},
			load: func(p *place) workloads.Load {
				return &keyvalue.Load{Dir: p.disk, Cgroup: memoryTree + p.cgroup, Port: storePort, Keys: storeKeys, FileMB: 256, RateMB: 400}
			},
			watch: func(p *place) string { return memoryTree + p.cgroup + "/memory.swappiness" },
			bad:   inCgroup("200"),
			equal: inCgroup("11"),
		},
	}
}

func backlog(ctx context.Context, p *place, n int) ([]string, error) {
	ns, err := p.netnsTarget()
	if err != nil {
		return nil, err
	}
	socket, err := p.listener(ctx, webPort)
	return []string{fmt.Sprintf("net.core.somaxconn@%s=%d", ns, n), fmt.Sprintf("socket/listen_backlog@%s=%d", socket, n)}, err
}

func always(set string) func(context.Context, *place) ([]string, error) {
	return func(context.Context, *place) ([]string, error) { return []string{set}, nil }
}

func inNetns(name, value string) func(context.Context, *place) ([]string, error) {
	return func(_ context.Context, p *place) ([]string, error) {
		ns, err := p.netnsTarget()
		return []string{name + "@" + ns + "=" + value}, err
	}
}

func onDevice(value string) func(context.Context, *place) ([]string, error) {
	return func(_ context.Context, p *place) ([]string, error) {
		return []string{"block/" + p.device + "/queue/read_ahead_kb=" + value}, nil
	}
}

func inCgroup(value string) func(context.Context, *place) ([]string, error) {
	return func(_ context.Context, p *place) ([]string, error) {
		return []string{"cgroup/memory.swappiness@" + p.cgroup + "=" + value}, nil
	}
}

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"semantos/workloads"
	"semantos/workloads/datagram"
	"semantos/workloads/fileio"
	"semantos/workloads/stream"
	"semantos/workloads/web"
)

// scenario is one mistuned host: what is wrong, what good looks like, and which tunables are the cause.
type scenario struct {
	name    string
	says    string
	netns   bool // the tunables hold in a namespace of the lab's own
	mistune []setting
	good    []setting
	cause   []string // the first recommendation must change one of them
	each    time.Duration
	load    func(e *env) workloads.Load
}

// setting is one tunable file below / and its text.
type setting struct{ path, value string }

// env is where a trial works.
type env struct {
	dir   string // scratch, removed at the end
	disk  string // scratch on the block device under test
	netns string
	self  string // this program
}

const (
	webPort      = 8088
	streamPort   = 5299
	datagramPort = 9559
)

// scenarios lists the mistuned hosts; dev is the block device that holds the scratch files.
func scenarios(dev string) []scenario {
	readAhead := "/sys/block/" + dev + "/queue/read_ahead_kb"
	return []scenario{
		{
			name: "web", says: "nginx and wrk, one connection per request, under somaxconn 8",
			netns:   true,
			mistune: []setting{{"/proc/sys/net/core/somaxconn", "8"}},
			good:    []setting{{"/proc/sys/net/core/somaxconn", "4096"}},
			cause:   []string{"net.core.somaxconn", "socket/listen_backlog"}, each: 2 * time.Second,
			load: func(e *env) workloads.Load {
				return &web.Load{Dir: e.dir, Netns: e.netns, Port: webPort, Clients: 256, Prober: e.self, Args: []string{"probe"}}
			},
		},
		{
			name: "stream", says: "TCP streams under tcp_rmem of at most 16 KiB",
			netns:   true,
			mistune: []setting{{"/proc/sys/net/ipv4/tcp_rmem", "4096 16384 16384"}},
			good:    []setting{{"/proc/sys/net/ipv4/tcp_rmem", "4096 131072 6291456"}},
			cause:   []string{"net.ipv4.tcp_rmem"}, each: time.Second,
			load: func(e *env) workloads.Load {
				return &stream.Load{Netns: e.netns, Port: streamPort, Streams: 4}
			},
		},
		{
			name: "write", says: "fio's buffered writes under dirty_bytes of 1 MiB",
			mistune: []setting{{"/proc/sys/vm/dirty_bytes", "1048576"}},
			good:    []setting{{"/proc/sys/vm/dirty_ratio", "20"}},
			cause:   []string{"vm.dirty_bytes", "vm.dirty_ratio"}, each: time.Second,
			load: func(e *env) workloads.Load { return &fileio.Load{Dir: e.disk, Write: true, SizeMB: 512} },
		},
		{
			name: "read", says: "fio's sequential reads under read_ahead_kb 0",
			mistune: []setting{{readAhead, "0"}},
			good:    []setting{{readAhead, "128"}},
			cause:   []string{"block/" + dev + "/queue/read_ahead_kb"}, each: time.Second,
			load: func(e *env) workloads.Load { return &fileio.Load{Dir: e.disk, SizeMB: 1024} },
		},
		{
			name: "datagram", says: "a UDP receiver that was started under a receive buffer of 4 KiB",
			mistune: []setting{{"/proc/sys/net/core/rmem_default", "4096"}},
			good:    []setting{{"/proc/sys/net/core/rmem_default", "212992"}},
			cause:   []string{"net.core.rmem_default", "socket/rcvbuf"}, each: 2 * time.Second,
			load: func(e *env) workloads.Load {
				return &datagram.Load{Port: datagramPort, Receiver: e.self, Args: []string{"receive"}}
			},
		},
	}
}

// blockDevice names the whole disk that holds dir ("vda"), as /sys/block spells it.
func blockDevice(dir string) (string, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("find block device: %w", err)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find block device: %w", err)
	}
	best, number := "", ""
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if len(f) < 5 {
			continue
		}
		inside := f[4] == "/" || abs == f[4] || strings.HasPrefix(abs, f[4]+"/")
		if inside && len(f[4]) >= len(best) {
			best, number = f[4], f[2]
		}
	}
	link, err := filepath.EvalSymlinks("/sys/dev/block/" + number)
	if err != nil {
		return "", fmt.Errorf("find block device of %s: %w", dir, err)
	}
	if _, err := os.Stat(filepath.Join(link, "partition")); err == nil {
		link = filepath.Dir(link)
	}
	return filepath.Base(link), nil
}

package meter

import (
	"fmt"
	"strconv"
	"strings"

	"semantos/internal/tune"
)

// Traffic says whose requests an ebpf: meter measures; what several fields name must all hold.
type Traffic struct {
	Comm   string // name of the server's process, at most 15 bytes
	Port   uint16 // local port the server answers on
	PID    int
	Cgroup string // path below the unified hierarchy's root, from /
	Netns  string // inode of a network namespace, or a name of /run/netns
}

const ebpfForms = "ebpf:comm=NAME, ebpf:port=N, ebpf:pid=N, ebpf:cgroup=PATH or ebpf:netns=NAME, several between commas"

// ParseTraffic reads rest, what stands behind the colon of spec: KEY=VALUE between commas.
func ParseTraffic(spec, rest string) (Traffic, error) {
	var t Traffic
	bad := func(err error, hint string) (Traffic, error) { return Traffic{}, refuse(spec, err, hint) }
	seen := map[string]bool{}
	for _, part := range strings.Split(rest, ",") {
		key, value, found := strings.Cut(strings.TrimSpace(part), "=")
		if !found || value == "" {
			return bad(tune.ErrUsage, "give "+ebpfForms)
		}
		if seen[key] {
			return bad(fmt.Errorf("%s is given twice: %w", key, tune.ErrUsage), "give "+ebpfForms)
		}
		seen[key] = true
		switch key {
		case "comm":
			if len(value) > 15 {
				return bad(fmt.Errorf("%q: %w", value, tune.ErrOutOfRange), "the kernel keeps 15 bytes of a process's name: give those, as /proc/PID/comm shows them")
			}
			t.Comm = value
		case "port":
			n, err := strconv.ParseUint(value, 10, 16)
			if err != nil || n == 0 {
				return bad(fmt.Errorf("port %q: %w", value, tune.ErrOutOfRange), "a port is a number from 1 to 65535")
			}
			t.Port = uint16(n)
		case "pid":
			n, err := strconv.ParseUint(value, 10, 22)
			if err != nil || n == 0 {
				return bad(fmt.Errorf("pid %q: %w", value, tune.ErrOutOfRange), "give the number of a process")
			}
			t.PID = int(n)
		case "cgroup":
			if !strings.HasPrefix(value, "/") {
				return bad(fmt.Errorf("cgroup %q: %w", value, tune.ErrType), "a cgroup's path begins with /, such as /system.slice/nginx.service")
			}
			t.Cgroup = value
		case "netns":
			t.Netns = strings.TrimPrefix(value, "netns:")
		default:
			return bad(fmt.Errorf("%q: %w", key, tune.ErrUnknown), "give "+ebpfForms)
		}
	}
	return t, nil
}

package telemetry

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"semantos/internal/host"
	"semantos/internal/tune"
)

type listenersCollector struct {
	*env
	labels map[string]map[string]string
}

func newListeners(e *env) collector {
	return &listenersCollector{env: e, labels: make(map[string]map[string]string)}
}

func (c *listenersCollector) Name() string { return "listeners" }

func (c *listenersCollector) Signals() []tune.Signal {
	return append(table(tune.EntityListener, "sock_diag", `
listener.queue | connections | connections waiting to be accepted
listener.backlog | connections | how many may wait
listener.drops | +connections | arrivals this very listener dropped (its socket's own count)
listener.full_share | share | longest queue seen over the backlog
listener.at_limit_share | share | ticks at which the queue had reached the backlog`),
		table(tune.EntityNetns, "sock_diag", "listener.count | sockets | listening TCP sockets")...)
}

func (c *listenersCollector) Collect(_ context.Context, f *frame) error {
	fresh := make(map[string]map[string]string, len(c.labels))
	err := c.eachNamespace(f, c.Name(), func(n nsview) error {
		s, err := c.sockets.of(n)
		if err != nil {
			return err
		}
		n.entry(f).gauge("listener.count", float64(len(s.listeners)))
		if len(s.listeners) >= maxListeners {
			f.miss(c.Name(), fmt.Sprintf("%s: more than %d listeners; the rest is not watched", n.target, maxListeners))
		}
		owners := c.host.Owners(inodes(s.listeners))
		for i := range s.listeners {
			l := &s.listeners[i]
			target := socketTarget("tcp", n, l)
			labels := c.labels[target]
			owner := owners[uint64(l.Inode)]
			if labels == nil || labels["pid"] != firstPid(owner) {
				labels = socketLabels("tcp", n, l, owner, target)
			}
			fresh[target] = labels
			e := f.entity(tune.EntityListener, target, 0, labels)
			queue, backlog := float64(l.RQueue), float64(l.WQueue)
			e.gauge("listener.queue", queue)
			e.gauge("listener.backlog", backlog)
			e.counter("listener.drops", float64(l.Drops))
			e.gauge("listener.at_limit_share", boolean(queue > 0 && queue >= backlog))
		}
		return nil
	})
	c.labels = fresh
	return err
}

func (c *listenersCollector) Derive(v *view) {
	for _, s := range v.entities[tune.EntityListener] {
		longest, ok := s.values["listener.queue.max"]
		backlog, okb := s.values["listener.backlog.last"]
		if ok && okb && backlog > 0 {
			s.values["listener.full_share"] = longest / backlog
		}
	}
}

func inodes(list []DiagSocket) []uint64 {
	out := make([]uint64, 0, len(list))
	for i := range list {
		if list[i].Inode != 0 {
			out = append(out, uint64(list[i].Inode))
		}
	}
	return out
}

// socketTarget spells the socket as internal/host does.
func socketTarget(proto string, n nsview, d *DiagSocket) string {
	ino, err := strconv.ParseUint(strings.TrimPrefix(n.target, "netns:"), 10, 64)
	if err != nil {
		ino = 0 // a tree without namespaces
	}
	return host.SocketTarget{Proto: proto, Local: d.Local, Netns: ino, Cookie: d.Cookie}.String()
}

func socketLabels(proto string, n nsview, d *DiagSocket, o host.Owner, target string) map[string]string {
	return map[string]string{"netns": n.target, "proto": proto, "addr": d.Local.Addr().String(),
		"port": strconv.Itoa(int(d.Local.Port())), "comm": o.Comm, "pid": firstPid(o), "socket": target}
}

func firstPid(o host.Owner) string {
	if len(o.Pids) == 0 {
		return ""
	}
	return strconv.Itoa(o.Pids[0])
}

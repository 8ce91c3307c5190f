package telemetry

import (
	"context"
	"fmt"
	"sort"

	"semantos/internal/tune"
)

// shownUDPSockets bounds the UDP sockets that become entities.
const shownUDPSockets = 64

type udpsocketsCollector struct {
	*env
	active map[string]map[string]string // sockets once seen with data or drops, by target
}

func newUDPSockets(e *env) collector {
	return &udpsocketsCollector{env: e, active: make(map[string]map[string]string)}
}

func (c *udpsocketsCollector) Name() string { return "udpsockets" }

func (c *udpsocketsCollector) Signals() []tune.Signal {
	return table(tune.EntityUDPSocket, "sock_diag", `
udpsock.drops | +datagrams | datagrams dropped because the socket's receive buffer was full
udpsock.queue_bytes | bytes | memory of datagrams waiting to be read
udpsock.rcvbuf_bytes | bytes | size of the receive buffer, as the kernel accounts it
udpsock.full_share | share | fullest the buffer was seen, of its size
udpsock.locked | bool | 1 when the application set the size by SO_RCVBUF: the default would be another`)
}

func (c *udpsocketsCollector) Collect(_ context.Context, f *frame) error {
	fresh := make(map[string]map[string]string, len(c.active))
	standard := 0.0
	if b, err := c.files.once("proc/sys/net/core/rmem_default"); err == nil {
		var v [1]float64
		if _, err := parseNumbers(b, v[:]); err == nil {
			standard = v[0]
		}
	}
	err := c.eachNamespace(f, c.Name(), func(n nsview) error {
		s, err := c.sockets.of(n)
		if err != nil {
			return err
		}
		if len(s.udp) >= maxUDPSockets {
			f.miss(c.Name(), fmt.Sprintf("%s: more than %d UDP sockets; the rest is not watched", n.target, maxUDPSockets))
		}
		c.namespace(f, n, s.udp, fresh, standard)
		return nil
	})
	c.active = fresh
	return err
}

// namespace shows the sockets that ever had something waiting or dropped while we looked.
func (c *udpsocketsCollector) namespace(f *frame, n nsview, udp []DiagSocket, fresh map[string]map[string]string, standard float64) {
	var busy []int
	for i := range udp {
		d := &udp[i]
		if !d.HasMemory {
			continue
		}
		if d.Drops > 0 || d.RMem > 0 || c.active[socketTarget("udp", n, d)] != nil {
			busy = append(busy, i)
		}
	}
	sort.SliceStable(busy, func(i, j int) bool { return udp[busy[i]].Drops > udp[busy[j]].Drops })
	if room := shownUDPSockets - len(fresh); len(busy) > room {
		busy = busy[:max(0, room)]
	}
	ask := make([]uint64, 0, len(busy))
	for _, i := range busy {
		ask = append(ask, uint64(udp[i].Inode))
	}
	owners := c.host.Owners(ask)
	for _, i := range busy {
		d := &udp[i]
		target := socketTarget("udp", n, d)
		labels := c.active[target]
		owner := owners[uint64(d.Inode)]
		if labels == nil || labels["pid"] != firstPid(owner) {
			labels = socketLabels("udp", n, d, owner, target)
		}
		fresh[target] = labels
		e := f.entity(tune.EntityUDPSocket, target, 0, labels)
		e.counter("udpsock.drops", float64(d.Drops))
		e.gauge("udpsock.queue_bytes", float64(d.RMem))
		e.gauge("udpsock.rcvbuf_bytes", float64(d.RcvBuf))
		if standard > 0 {
			e.gauge("udpsock.locked", boolean(float64(d.RcvBuf) != standard))
		}
	}
}

func (c *udpsocketsCollector) Derive(v *view) {
	for _, s := range v.entities[tune.EntityUDPSocket] {
		most, ok := s.values["udpsock.queue_bytes.max"]
		size, oks := s.values["udpsock.rcvbuf_bytes.last"]
		if ok && oks && size > 0 {
			s.values["udpsock.full_share"] = most / size
		}
	}
}

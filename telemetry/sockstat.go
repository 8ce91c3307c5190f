package telemetry

import (
	"context"

	"github.com/prometheus/procfs"

	"semantos/internal/tune"
)

type sockstatCollector struct{ *env }

func newSockstat(e *env) collector { return &sockstatCollector{e} }

func (c *sockstatCollector) Name() string { return "sockstat" }

func (c *sockstatCollector) Signals() []tune.Signal {
	return append(append(table(tune.EntityNetns, "/proc/net/sockstat", `
sockstat.sockets_used | sockets | sockets of any kind
sockstat.tcp_inuse | sockets | TCP sockets
sockstat.tcp_orphan | sockets | TCP sockets no process holds any more (counted for the whole host)
sockstat.tcp_tw | sockets | TCP connections in TIME_WAIT
sockstat.tcp_alloc | sockets | TCP sockets allocated (counted for the whole host)
sockstat.tcp_mem_pages | pages | memory of TCP buffers (counted for the whole host)
sockstat.udp_inuse | sockets | UDP sockets
sockstat.udp_mem_pages | pages | memory of UDP buffers (counted for the whole host)
sockstat.frag_inuse | packets | packets being put together from fragments
sockstat.frag_memory_bytes | bytes | memory of fragments`), table("", "/proc/net/sockstat", `
sockstat.tcp_orphan | sockets | TCP sockets no process holds any more
sockstat.tcp_alloc | sockets | TCP sockets allocated
sockstat.tcp_mem_pages | pages | memory of TCP buffers
sockstat.udp_mem_pages | pages | memory of UDP buffers
sockstat.tcp_mem_share | share | TCP buffers over the pressure threshold, the second element of tcp_mem
sockstat.tcp_mem_max_share | share | TCP buffers over the limit, the third element of tcp_mem
sockstat.udp_mem_max_share | share | UDP buffers over the limit, the third element of udp_mem
sockstat.tcp_orphan_share | share | orphans over net.ipv4.tcp_max_orphans`)...),
		table(tune.EntityNetns, "/proc/net/sockstat6", `
sockstat.tcp6_inuse | sockets | TCP sockets over IPv6
sockstat.udp6_inuse | sockets | UDP sockets over IPv6`)...)
}

func (c *sockstatCollector) Collect(_ context.Context, f *frame) error {
	return c.eachNamespace(f, c.Name(), func(n nsview) error {
		fs, err := procfs.NewFS(c.host.Path(n.proc))
		if err != nil {
			return fileError(n.proc, err)
		}
		st, err := fs.NetSockstat()
		if err != nil {
			return fileError(n.file("sockstat"), err)
		}
		if st.Used == nil || len(st.Protocols) == 0 {
			return corrupt(n.file("sockstat"), nil)
		}
		e := n.entry(f)
		e.gauge("sockstat.sockets_used", float64(*st.Used))
		for i := range st.Protocols {
			c.protocol(f, n, e, &st.Protocols[i])
		}
		if six, err := fs.NetSockstat6(); err == nil {
			for _, p := range six.Protocols {
				switch p.Protocol {
				case "TCP6":
					e.gauge("sockstat.tcp6_inuse", float64(p.InUse))
				case "UDP6":
					e.gauge("sockstat.udp6_inuse", float64(p.InUse))
				}
			}
		}
		return nil
	})
}

func (c *sockstatCollector) protocol(f *frame, n nsview, e *entry, p *procfs.NetSockstatProtocol) {
	opt := func(e *entry, name string, v *int) {
		if v != nil {
			e.gauge(name, float64(*v))
		}
	}
	h := f.host()
	switch p.Protocol {
	case "TCP":
		e.gauge("sockstat.tcp_inuse", float64(p.InUse))
		opt(e, "sockstat.tcp_orphan", p.Orphan)
		opt(e, "sockstat.tcp_tw", p.TW)
		opt(e, "sockstat.tcp_alloc", p.Alloc)
		opt(e, "sockstat.tcp_mem_pages", p.Mem)
		if n.own {
			opt(h, "sockstat.tcp_orphan", p.Orphan)
			opt(h, "sockstat.tcp_alloc", p.Alloc)
			opt(h, "sockstat.tcp_mem_pages", p.Mem)
			c.limit(h, "tcp_mem", 1, "sockstat.tcp_mem_share", p.Mem)
			c.limit(h, "tcp_mem", 2, "sockstat.tcp_mem_max_share", p.Mem)
			c.limit(h, "tcp_max_orphans", 0, "sockstat.tcp_orphan_share", p.Orphan)
		}
	case "UDP":
		e.gauge("sockstat.udp_inuse", float64(p.InUse))
		opt(e, "sockstat.udp_mem_pages", p.Mem)
		if n.own {
			opt(h, "sockstat.udp_mem_pages", p.Mem)
			c.limit(h, "udp_mem", 2, "sockstat.udp_mem_max_share", p.Mem)
		}
	case "FRAG":
		e.gauge("sockstat.frag_inuse", float64(p.InUse))
		opt(e, "sockstat.frag_memory_bytes", p.Memory)
	}
}

// limit adds the share that used is of one element of a sysctl, when both are there.
func (c *sockstatCollector) limit(h *entry, sysctl string, element int, name string, used *int) {
	if used == nil {
		return
	}
	b, err := c.files.read("proc/sys/net/ipv4/" + sysctl)
	if err != nil {
		return
	}
	var v [3]float64
	if n, err := parseNumbers(b, v[:]); err == nil && n > element {
		share(h, name, float64(*used), v[element])
	}
}

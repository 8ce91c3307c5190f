package telemetry

import (
	"context"
	"fmt"

	"semantos/internal/tune"
)

type portsCollector struct{ *env }

func newPorts(e *env) collector { return &portsCollector{e} }

func (c *portsCollector) Name() string { return "ports" }

func (c *portsCollector) Signals() []tune.Signal {
	return append(table(tune.EntityNetns, "sock_diag", `
ports.used | ports | ephemeral ports in use towards the destination that uses most (label busiest_destination)
ports.range | ports | ports in net.ipv4.ip_local_port_range
ports.used_share | share | ports in use towards that destination, of the range
tcp.time_wait | connections | TCP connections in TIME_WAIT`), table("", "sock_diag", `
ports.used_share | share | ephemeral ports in use towards the busiest destination of any namespace, of its range
tcp.time_wait | connections | TCP connections in TIME_WAIT in all namespaces`)...)
}

func (c *portsCollector) Collect(_ context.Context, f *frame) error {
	waiting, share, known := 0.0, 0.0, false
	err := c.eachNamespace(f, c.Name(), func(n nsview) error {
		s, err := c.sockets.of(n)
		if err != nil {
			return err
		}
		p := s.ports
		e := n.entry(f)
		e.gauge("tcp.time_wait", p.timeWait)
		waiting += p.timeWait
		if p.cut {
			f.miss(c.Name(), fmt.Sprintf("%s: more than %d sockets; ports in use are at least the number given", n.target, maxPortScan))
		}
		if !p.known {
			return nil
		}
		known = true
		e.gauge("ports.used", p.used)
		e.gauge("ports.range", p.span)
		e.gauge("ports.used_share", p.used/p.span)
		share = max(share, p.used/p.span)
		if p.used > 0 {
			e.labels = unionLabels(e.labels, map[string]string{"busiest_destination": p.dest.String()})
		}
		return nil
	})
	if err != nil {
		return err
	}
	f.host().gauge("tcp.time_wait", waiting)
	if known {
		f.host().gauge("ports.used_share", share)
	}
	return nil
}

package telemetry

import (
	"context"
	"fmt"
	"os"
	"sort"
	"strings"

	"github.com/prometheus/procfs"

	"semantos/internal/tune"
)

const maxNetdevs = 64

type netdevCollector struct {
	*env
	labels map[string]map[string]string
}

func newNetdev(e *env) collector {
	return &netdevCollector{env: e, labels: make(map[string]map[string]string)}
}

func (c *netdevCollector) Name() string { return "netdev" }

func (c *netdevCollector) Signals() []tune.Signal {
	return append(table(tune.EntityNetdev, "/proc/net/dev", `
netdev.rx_bytes | +bytes | bytes received
netdev.rx_packets | +packets | packets received
netdev.rx_dropped | +packets | packets dropped after reception
netdev.rx_errors | +packets | packets received wrongly
netdev.rx_fifo | +packets | packets the device's ring had no room for
netdev.tx_bytes | +bytes | bytes sent
netdev.tx_packets | +packets | packets sent
netdev.tx_dropped | +packets | packets dropped before they were sent
netdev.tx_errors | +packets | packets that could not be sent`),
		table(tune.EntityNetdev, "/sys/class/net", `
netdev.tx_queue_len | packets | length of the device's transmit queue
netdev.mtu | bytes | largest packet
netdev.is_virtual | bool | 1 when no hardware is behind it`)...)
}

func (c *netdevCollector) Collect(_ context.Context, f *frame) error {
	seen := 0
	return c.eachNamespace(f, c.Name(), func(n nsview) error {
		fs, err := procfs.NewFS(c.host.Path(n.proc))
		if err != nil {
			return fileError(n.proc, err)
		}
		devs, err := fs.NetDev()
		if err != nil {
			return fileError(n.file("dev"), err)
		}
		if len(devs) == 0 {
			return corrupt(n.file("dev"), nil)
		}
		names := make([]string, 0, len(devs))
		for name := range devs {
			names = append(names, name)
		}
		sort.Strings(names)
		for _, name := range names {
			if seen++; seen > maxNetdevs {
				f.miss(c.Name(), fmt.Sprintf("more than %d network devices; the rest is not watched", maxNetdevs))
				return nil
			}
			c.device(f, n, devs[name])
		}
		return nil
	})
}

func (c *netdevCollector) device(f *frame, n nsview, d procfs.NetDevLine) {
	id := d.Name
	if !n.own {
		id += "@" + n.target
	}
	labels := c.labels[id]
	if labels == nil {
		labels = map[string]string{"device": d.Name, "netns": n.target}
		c.labels[id] = labels
	}
	e := f.entity(tune.EntityNetdev, id, 0, labels)
	e.counter("netdev.rx_bytes", float64(d.RxBytes))
	e.counter("netdev.rx_packets", float64(d.RxPackets))
	e.counter("netdev.rx_dropped", float64(d.RxDropped))
	e.counter("netdev.rx_errors", float64(d.RxErrors))
	e.counter("netdev.rx_fifo", float64(d.RxFIFO))
	e.counter("netdev.tx_bytes", float64(d.TxBytes))
	e.counter("netdev.tx_packets", float64(d.TxPackets))
	e.counter("netdev.tx_dropped", float64(d.TxDropped))
	e.counter("netdev.tx_errors", float64(d.TxErrors))
	if !n.own {
		return // /sys shows the devices of the namespace it was mounted in
	}
	dir := "sys/class/net/" + d.Name
	if target, err := os.Readlink(c.host.Path(dir)); err == nil {
		e.gauge("netdev.is_virtual", boolean(strings.Contains(target, "/virtual/")))
	}
	for _, q := range [...]struct{ file, name string }{{"tx_queue_len", "netdev.tx_queue_len"}, {"mtu", "netdev.mtu"}} {
		b, err := c.files.once(dir + "/" + q.file)
		if err != nil {
			continue
		}
		var v [1]float64
		if _, err := parseNumbers(b, v[:]); err == nil {
			e.gauge(q.name, v[0])
		}
	}
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

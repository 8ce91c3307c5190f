package telemetry

import (
	"context"
	"errors"
	"fmt"

	"semantos/internal/tune"
)

type conntrackCollector struct{ *env }

func newConntrack(e *env) collector { return &conntrackCollector{e} }

func (c *conntrackCollector) Name() string { return "conntrack" }

func (c *conntrackCollector) Signals() []tune.Signal {
	gauges := `
conntrack.count | entries | connections tracked
conntrack.max | entries | net.netfilter.nf_conntrack_max
conntrack.share | share | connections tracked of the limit`
	const source = "/proc/sys/net/netfilter, /proc/net/stat/nf_conntrack"
	return append(append(table("", source, gauges), table(tune.EntityNetns, source, gauges)...),
		table(tune.EntityNetns, source, `
conntrack.drop | +packets | packets dropped because the table was full
conntrack.early_drop | +entries | entries dropped early to make room
conntrack.insert_failed | +entries | entries that could not be inserted
conntrack.invalid | +packets | packets that could not be tracked
conntrack.search_restart | +events | searches restarted because the table was being resized or is overfull`)...)
}

func (c *conntrackCollector) Collect(_ context.Context, f *frame) error {
	found := false
	err := c.eachNamespace(f, c.Name(), func(n nsview) error {
		ok, err := c.namespace(f, n)
		found = found || ok
		return err
	})
	if err == nil && !found {
		err = fmt.Errorf("connection tracking is not loaded: %w", tune.ErrNoData)
	}
	return err
}

func (c *conntrackCollector) namespace(f *frame, n nsview) (bool, error) {
	e := n.entry(f)
	b, err := c.readNet(n, "stat/nf_conntrack")
	if errors.Is(err, tune.ErrNoData) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	// procfs has a parser too, but it wants 17 columns and this file has had 16, 17 and 18.
	cols, err := parseHexTable(b)
	if err != nil {
		return false, err
	}
	for _, k := range [...]string{"drop", "early_drop", "insert_failed", "invalid", "search_restart"} {
		if col, ok := cols[k]; ok {
			e.counter("conntrack."+k, col.sum)
		}
	}
	count := cols["entries"].first
	e.gauge("conntrack.count", count)
	if n.own {
		f.host().gauge("conntrack.count", count)
	}
	// the limit is the first namespace's; the others are held to it too
	b, err = c.files.read("proc/sys/net/netfilter/nf_conntrack_max")
	if err != nil {
		return true, nil
	}
	var most [1]float64
	if _, err := parseNumbers(b, most[:]); err != nil {
		return false, err
	}
	e.gauge("conntrack.max", most[0])
	share(e, "conntrack.share", count, most[0])
	if n.own {
		f.host().gauge("conntrack.max", most[0])
		share(f.host(), "conntrack.share", count, most[0])
	}
	return true, nil
}

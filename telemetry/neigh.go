package telemetry

import (
	"bytes"
	"context"
	"errors"

	"semantos/internal/tune"
)

// neighCollector watches the neighbour tables; the kernel keeps one per address family for all
// namespaces and shows it in the first.
type neighCollector struct{ *env }

func newNeigh(e *env) collector { return &neighCollector{e} }

func (c *neighCollector) Name() string { return "neigh" }

func (c *neighCollector) Signals() []tune.Signal {
	var out []tune.Signal
	for _, entity := range [...]string{"", tune.EntityNetns} {
		out = append(out, table(entity, "/proc/net/stat/arp_cache", `
neigh.entries | entries | entries of the IPv4 neighbour table
neigh.max | entries | net.ipv4.neigh.default.gc_thresh3
neigh.share | share | entries of the limit
neigh6.entries | entries | entries of the IPv6 neighbour table
neigh6.max | entries | net.ipv6.neigh.default.gc_thresh3
neigh6.share | share | entries of the limit`)...)
	}
	return append(out, table(tune.EntityNetns, "/proc/net/stat/arp_cache", `
neigh.table_fulls | +events | entries refused because the table was full
neigh.forced_gc_runs | +runs | collections forced by a nearly full table
neigh.res_failed | +events | addresses that did not resolve
neigh6.table_fulls | +events | entries refused because the table was full
neigh6.forced_gc_runs | +runs | collections forced by a nearly full table
neigh6.res_failed | +events | addresses that did not resolve`)...)
}

func (c *neighCollector) Collect(_ context.Context, f *frame) error {
	found := false
	for _, t := range [...]struct{ file, family, prefix string }{
		{"arp_cache", "ipv4", "neigh."}, {"ndisc_cache", "ipv6", "neigh6."},
	} {
		b, err := c.files.read("proc/net/stat/" + t.file)
		if errors.Is(err, tune.ErrNoData) {
			continue
		}
		if err != nil {
			return err
		}
		rows, err := parseHexTable(b)
		if err != nil {
			return err
		}
		found = true
		e := c.ns[0].entry(f)
		entries := rows["entries"].first // each CPU's line repeats the table's size
		e.counter(t.prefix+"table_fulls", rows["table_fulls"].sum)
		e.counter(t.prefix+"forced_gc_runs", rows["forced_gc_runs"].sum)
		e.counter(t.prefix+"res_failed", rows["res_failed"].sum)
		e.gauge(t.prefix+"entries", entries)
		f.host().gauge(t.prefix+"entries", entries)
		b, err = c.files.read("proc/sys/net/" + t.family + "/neigh/default/gc_thresh3")
		if err != nil {
			continue
		}
		var most [1]float64
		if _, err := parseNumbers(b, most[:]); err != nil {
			return err
		}
		for _, x := range [...]*entry{e, f.host()} {
			x.gauge(t.prefix+"max", most[0])
			share(x, t.prefix+"share", entries, most[0])
		}
	}
	if !found {
		return fileError("/proc/net/stat", errNotExist)
	}
	return nil
}

// hexColumn is one column of a per-CPU table.
type hexColumn struct{ first, sum float64 }

// parseHexTable reads a table of /proc/net/stat: a line of names, then a line of hexadecimal numbers
// per CPU.
func parseHexTable(b []byte) (map[string]hexColumn, error) {
	head, b := line(b)
	names := bytes.Fields(head)
	if len(names) == 0 {
		return nil, corrupt("table", head)
	}
	out := make(map[string]hexColumn, len(names))
	rows := 0
	for len(b) > 0 {
		var l []byte
		if l, b = line(b); len(bytes.TrimSpace(l)) == 0 {
			continue
		}
		for i, n := range names {
			var w []byte
			w, l = word(l)
			v, ok := hexNumber(w)
			if !ok {
				return nil, corrupt("table line", w)
			}
			col := out[string(n)]
			if rows == 0 {
				col.first = float64(v)
			}
			col.sum += float64(v)
			out[string(names[i])] = col
		}
		rows++
	}
	if rows == 0 {
		return nil, corrupt("table without lines", head)
	}
	return out, nil
}

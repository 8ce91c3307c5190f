package telemetry

import (
	"context"
	"fmt"

	"github.com/prometheus/procfs/blockdevice"

	"semantos/internal/tune"
)

// maxDevices bounds the block devices watched.
const maxDevices = 64

type diskstatsCollector struct {
	*env
	known map[string]map[string]string // labels by device; nil for those not watched
}

func newDiskstats(e *env) collector {
	return &diskstatsCollector{env: e, known: make(map[string]map[string]string)}
}

func (c *diskstatsCollector) Name() string { return "diskstats" }

func (c *diskstatsCollector) Signals() []tune.Signal {
	return table(tune.EntityDevice, "/proc/diskstats, /sys/block", `
block.read_ios | +requests | reads completed
block.write_ios | +requests | writes completed
block.discard_ios | +requests | discards completed
block.flush_ios | +requests | flushes completed
block.read_bytes | +bytes | bytes read
block.write_bytes | +bytes | bytes written
block.read_merges | +requests | reads merged with a neighbour
block.write_merges | +requests | writes merged with a neighbour
block.read_wait_ms | ms | time of one read, waiting included
block.write_wait_ms | ms | time of one write, waiting included
block.discard_wait_ms | ms | time of one discard, waiting included
block.flush_wait_ms | ms | time of one flush
block.util_share | +share | time in which at least one request was under way
block.queue_depth | +requests | requests under way on average
block.inflight | requests | requests under way now
block.read_kb_per_io | KiB | size of one read
block.write_kb_per_io | KiB | size of one write
block.read_merge_share | share | reads merged, of all submitted
block.write_merge_share | share | writes merged, of all submitted
block.rotational | bool | 1 for a spinning disk
block.queue_limit | requests | nr_requests: how many may wait in the queue
block.read_ahead_kb | KiB | read-ahead of the device`)
}

func (c *diskstatsCollector) Collect(_ context.Context, f *frame) error {
	fs, err := blockdevice.NewFS(c.host.Path("proc"), c.host.Path("sys"))
	if err != nil {
		return fileError("/proc or /sys", err)
	}
	disks, err := fs.ProcDiskstats()
	if err != nil {
		return fileError("proc/diskstats", err)
	}
	watched := 0
	for i := range disks {
		d := &disks[i]
		labels, seen := c.known[d.DeviceName]
		if !seen || labels == nil && d.ReadIOs+d.WriteIOs > 0 {
			labels = c.describe(d)
			c.known[d.DeviceName] = labels
		}
		if labels == nil {
			continue
		}
		if watched++; watched > maxDevices {
			f.miss(c.Name(), fmt.Sprintf("more than %d block devices; the rest is not watched", maxDevices))
			break
		}
		c.device(f.entity(tune.EntityDevice, d.DeviceName, 0, labels), d)
	}
	if watched == 0 {
		return fmt.Errorf("no block device with a queue: %w", tune.ErrNoData)
	}
	return nil
}

// describe gives the labels of a device worth watching: partitions have no queue of their own, and a
// loop or ram device that never did any I/O is only a possibility.
func (c *diskstatsCollector) describe(d *blockdevice.Diskstats) map[string]string {
	if _, err := c.files.once("sys/block/" + d.DeviceName + "/queue/rotational"); err != nil {
		return nil
	}
	if d.ReadIOs+d.WriteIOs == 0 {
		return nil
	}
	return map[string]string{"device": d.DeviceName}
}

func (c *diskstatsCollector) device(e *entry, d *blockdevice.Diskstats) {
	const sector = 512 // diskstats counts in 512 bytes whatever the device's block size
	e.counter("block.read_ios", float64(d.ReadIOs))
	e.counter("block.write_ios", float64(d.WriteIOs))
	e.counter("block.read_bytes", float64(d.ReadSectors)*sector)
	e.counter("block.write_bytes", float64(d.WriteSectors)*sector)
	e.counter("block.read_merges", float64(d.ReadMerges))
	e.counter("block.write_merges", float64(d.WriteMerges))
	e.hidden("read_ms", float64(d.ReadTicks))
	e.hidden("write_ms", float64(d.WriteTicks))
	e.duty("block.util_share", float64(d.IOsTotalTicks)/1000)
	e.duty("block.queue_depth", float64(d.WeightedIOTicks)/1000)
	e.gauge("block.inflight", float64(d.IOsInProgress))
	if d.IoStatsCount >= 18 {
		e.counter("block.discard_ios", float64(d.DiscardIOs))
		e.hidden("discard_ms", float64(d.DiscardTicks))
	}
	if d.IoStatsCount >= 20 {
		e.counter("block.flush_ios", float64(d.FlushRequestsCompleted))
		e.hidden("flush_ms", float64(d.TimeSpentFlushing))
	}
	for _, q := range [...]struct{ file, name string }{{"rotational", "block.rotational"},
		{"nr_requests", "block.queue_limit"}, {"read_ahead_kb", "block.read_ahead_kb"}} {
		b, err := c.files.read("sys/block/" + d.DeviceName + "/queue/" + q.file)
		if err != nil {
			continue // this device lacks the file: no such signal
		}
		var v [1]float64
		if _, err := parseNumbers(b, v[:]); err == nil {
			e.gauge(q.name, v[0])
		}
	}
}

func (c *diskstatsCollector) Derive(v *view) {
	for _, s := range v.entities[tune.EntityDevice] {
		for _, op := range [...]string{"read", "write", "discard", "flush"} {
			s.ratio("block."+op+"_wait_ms", []string{op + "_ms"}, []string{"block." + op + "_ios"})
		}
		for _, op := range [...]string{"read", "write"} {
			ios := []string{"block." + op + "_ios"}
			s.ratio("block."+op+"_kb_per_io", []string{"block." + op + "_bytes"}, ios)
			if kb, ok := s.values["block."+op+"_kb_per_io"]; ok {
				s.values["block."+op+"_kb_per_io"] = kb / 1024
			}
			merges := "block." + op + "_merges"
			s.ratio("block."+op+"_merge_share", []string{merges}, []string{merges, ios[0]})
		}
	}
}

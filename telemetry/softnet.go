package telemetry

import (
	"context"

	"github.com/prometheus/procfs"

	"semantos/internal/tune"
)

type softnetCollector struct {
	*env
	labels map[int64]map[string]string
}

func newSoftnet(e *env) collector {
	return &softnetCollector{env: e, labels: make(map[int64]map[string]string)}
}

func (c *softnetCollector) Name() string { return "softnet" }

const softnetLines = `
softnet.processed | +packets | packets taken from the backlogs of the CPUs
softnet.dropped | +packets | packets dropped because a CPU's backlog was full
softnet.time_squeeze | +events | receive rounds that ended with work left
softnet.received_rps | +events | wake-ups by another CPU's receive steering
softnet.flow_limit | +packets | packets dropped by the flow limit`

func (c *softnetCollector) Signals() []tune.Signal {
	const source = "/proc/net/softnet_stat"
	return append(append(table("", source, softnetLines+"\nsoftnet.backlog_len | packets | packets waiting in the backlogs"),
		table(tune.EntityCPU, source, softnetLines)...),
		table("", source, "softnet.busiest_cpu_share | share | packets processed by the CPU that processes most")...)
}

func (c *softnetCollector) Collect(_ context.Context, f *frame) error {
	fs, err := procfs.NewFS(c.host.Path("proc"))
	if err != nil {
		return fileError("/proc", err)
	}
	rows, err := fs.NetSoftnetStat()
	if err != nil {
		return fileError("proc/net/softnet_stat", err)
	}
	if len(rows) == 0 {
		return corrupt("proc/net/softnet_stat", nil)
	}
	var sum [5]float64
	backlog := 0.0
	names := [...]string{"softnet.processed", "softnet.dropped", "softnet.time_squeeze", "softnet.received_rps", "softnet.flow_limit"}
	for _, r := range rows {
		e := cpuEntry(f, c.labels, int64(r.Index))
		for i, v := range [...]uint32{r.Processed, r.Dropped, r.TimeSqueezed, r.ReceivedRps, r.FlowLimitCount} {
			sum[i] += float64(v)
			e.counter(names[i], float64(v))
		}
		backlog += float64(r.SoftnetBacklogLen)
	}
	for i, n := range names {
		f.host().counter(n, sum[i])
	}
	f.host().gauge("softnet.backlog_len", backlog)
	return nil
}

func (c *softnetCollector) Derive(v *view) {
	all, ok := v.host.increase("softnet.processed")
	if !ok || all == 0 {
		return
	}
	for _, s := range v.entities[tune.EntityCPU] {
		if n, ok := s.increase("softnet.processed"); ok {
			v.host.values["softnet.busiest_cpu_share"] = max(v.host.values["softnet.busiest_cpu_share"], n/all)
		}
	}
}

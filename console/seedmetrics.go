package console

import "semantos/internal/tune"

// Metrics are the few numbers of a host under the names semantos has used from its beginning. What was
// not seen is absent.
type Metrics struct {
	MedianLatencyMS *float64 `json:"median_latency_ms,omitempty"` // of requests to all servers
	P95LatencyMS    *float64 `json:"p95_latency_ms,omitempty"`
	P95BlockIOMS    *float64 `json:"p95_block_io_ms,omitempty"`
	SysEnterRPS     *float64 `json:"sys_enter_rps,omitempty"` // system calls per second
	CPULoad1        *float64 `json:"cpu_load_1,omitempty"`
	CPULoad5        *float64 `json:"cpu_load_5,omitempty"`
	CPULoad15       *float64 `json:"cpu_load_15,omitempty"`
}

// MetricsOf reads them off a snapshot.
func MetricsOf(snap tune.Snapshot) Metrics {
	read := func(signal string, per float64) *float64 {
		v, ok := snap.Signals[signal]
		if !ok {
			return nil
		}
		v /= per
		return &v
	}
	return Metrics{
		MedianLatencyMS: read("request.latency_ms.p50", 1), P95LatencyMS: read("request.latency_ms.p95", 1),
		P95BlockIOMS: read("block.latency_us.p95", 1000), SysEnterRPS: read("sys.calls", 1),
		CPULoad1: read("cpu.load1.last", 1), CPULoad5: read("cpu.load5.last", 1), CPULoad15: read("cpu.load15.last", 1),
	}
}

// unixSeconds is a moment as the field ts has it.
func unixSeconds(snap tune.Snapshot) float64 { return float64(snap.Time.UnixMilli()) / 1000 }

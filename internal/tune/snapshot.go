package tune

import "time"

// Snapshot is what telemetry saw over one window, and what the reasoner diagnoses.
//
// Signals hold for the whole host; Entities carry those of one thing (a network namespace, a block
// device, a listener). A counter's signal is its rate per second over the window and Name+".total" its
// increase; a gauge's signal is the mean, Name+".max" and Name+".last" the largest and newest reading.
// An absent signal is "no data", never zero.
type Snapshot struct {
	Time     time.Time           `json:"time"`
	Window   float64             `json:"window_s"`
	Ticks    int                 `json:"ticks"`
	BootID   string              `json:"boot_id"`
	Facts    Facts               `json:"facts"`
	Signals  map[string]float64  `json:"signals"`
	Entities map[string][]Entity `json:"entities"` // by kind, sorted by ID
	Missing  []Missing           `json:"missing"`  // collectors that could not read, and why
	// Workloads says what kind of work busy processes and groups are like, the busiest first.
	Workloads []Workload `json:"workloads"`
}

// The kinds of work.
const (
	WorkloadWeb       = "web"
	WorkloadOLTP      = "oltp"
	WorkloadStreaming = "streaming"
	WorkloadSensor    = "sensor"
	WorkloadHPC       = "hpc_ml"
	WorkloadAudio     = "audio"
)

// Workload is what a busy process or cgroup is like: which kind, how well it fits in (0,1], since when,
// and the readings that say so.
type Workload struct {
	Kind     string    `json:"kind"`
	Entity   string    `json:"entity"`      // the ID of the process or cgroup
	Of       string    `json:"entity_kind"` // process or cgroup
	Name     string    `json:"name"`        // command, or path of the group
	Score    float64   `json:"score"`
	CPUShare float64   `json:"cpu_share"` // of one CPU
	Since    time.Time `json:"since"`
	Evidence []Fact    `json:"evidence"`
}

// Entity is one thing with signals of its own. Labels carry what a rule or sentence needs (comm, port)
// and the target of each scope it belongs to: "netns", "device", "cgroup", "process", "socket".
type Entity struct {
	Kind    string             `json:"kind"`
	ID      string             `json:"id"`
	Labels  map[string]string  `json:"labels"`
	Signals map[string]float64 `json:"signals"`
}

// The kinds of entities.
const (
	EntityNetns     = "netns"
	EntityListener  = "listener"
	EntityUDPSocket = "udpsocket"
	EntityDevice    = "device"
	EntityNetdev    = "netdev"
	EntityKthread   = "kthread"
	EntityProcess   = "process"
	EntityCgroup    = "cgroup"
	EntityCPU       = "cpu"
	// EntityServer is a process that answers requests on a listening port, as probes see it.
	EntityServer = "server"
)

// Missing says that a collector had no data, and why.
type Missing struct {
	Collector string `json:"collector"`
	Reason    string `json:"reason"`
}

// Facts are what does not change while a host runs: sizes in Num (mem_total_bytes, cpus, numa_nodes,
// swap_total_bytes, page_size, kernel as major*1000+minor), words in Text (kernel, virt, arch).
type Facts struct {
	Num  map[string]float64 `json:"num"`
	Text map[string]string  `json:"text"`
}

// Signal describes one series telemetry can deliver.
type Signal struct {
	Name    string `json:"name"`
	Entity  string `json:"entity,omitempty"` // "" holds for the host
	Unit    string `json:"unit"`
	Counter bool   `json:"counter"` // the series is a rate per second
	// Histogram signals are delivered as Name+".p50", ".p95", ".p99", ".mean" (in Unit) and ".rate"
	// (values per second).
	Histogram bool   `json:"histogram,omitempty"`
	Help      string `json:"help"`
	Source    string `json:"source"`
}

// Fact is one number that shows a symptom.
type Fact struct {
	Signal string  `json:"signal"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit,omitempty"`
}

// Symptom is a named condition that held: which resource is short, how badly, on which entity.
type Symptom struct {
	Name     string            `json:"name"`
	Resource string            `json:"resource"`
	Entity   string            `json:"entity,omitempty"` // the entity's ID, "" for the host
	Labels   map[string]string `json:"labels,omitempty"`
	Severity float64           `json:"severity"` // (0,1]
	Summary  string            `json:"summary"`  // a sentence a person would say, with the numbers
	Evidence []Fact            `json:"evidence"`
	Measure  Measure           `json:"measure"`
}

// Measure is the kernel-side signal that shows best whether a symptom was relieved.
type Measure struct {
	Signal string  `json:"signal"`
	Entity string  `json:"entity,omitempty"`
	Kind   string  `json:"kind,omitempty"` // the entity's kind
	Better string  `json:"better"`         // "lower" or "higher"
	Floor  float64 `json:"floor"`          // readings at or below it count as equal: ratios need it near zero
	// LossMS is what one counted event costs a client, in milliseconds (a dropped connection request
	// waits a second for its retransmit); 0 when the signal counts no loss.
	LossMS float64 `json:"loss_ms,omitempty"`
	// Per is the counter of what got through, on the same entity: lost / (lost + per) is the share of
	// attempts that were lost.
	Per string `json:"per,omitempty"`
	// Latency says what a meter of latency, throughput and errors, whose Signal is empty, means by its
	// latency: "" is the p95, [LatencyMean] the mean, and with [LatencyNone] it has none.
	Latency string `json:"latency,omitempty"`
}

// What a meter's latency is where it is no p95.
const (
	LatencyMean = "mean"
	LatencyNone = "none"
)

// MeterSample is one measurement of the workload from outside, over [Start, End].
// Throughput in completions per second; ErrorRate is the share of requests that failed, in [0,1];
// latencies in milliseconds. P95MS is what [Measure.Latency] of its meter says.
// Value is the one number of a single-signal meter (prom:, a kernel signal).
type MeterSample struct {
	Start      time.Time `json:"start"`
	End        time.Time `json:"end"`
	MedianMS   float64   `json:"median_ms"`
	P95MS      float64   `json:"p95_ms"`
	Throughput float64   `json:"throughput"`
	ErrorRate  float64   `json:"error_rate"`
	// Requests is how many ErrorRate is a share of; 0 where the meter does not count them. Throughput does not
	// tell it: its unit is the meter's own.
	Requests int64    `json:"requests,omitempty"`
	Value    *float64 `json:"value,omitempty"`
	// Lost is the share of attempts the kernel counted as lost meanwhile, in [0,1]; nil when nobody looked.
	Lost *float64 `json:"lost,omitempty"`
}

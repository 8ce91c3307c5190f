package recognise

import (
	"math"

	"semantos/internal/tune"
)

// trait is one reading a kind of work shows: how well it fits goes from 0 at none to 1 at full, on a log
// scale; none may be above or below full. Without a needed reading, or when it does not fit at all, the
// kind is out of the question.
type trait struct {
	reading    string
	none, full float64
	weight     float64
	needed     bool
}

// fit is how well a value fits, in [0,1].
func (t trait) fit(v float64) float64 {
	const least = 1e-6 // stands for zero on the log scale
	at := math.Log(max(v, least))
	from, to := math.Log(max(t.none, least)), math.Log(max(t.full, least))
	return min(1, max(0, (at-from)/(to-from)))
}

// The readings: the process's own signals, and what is derived from them.
const (
	cpuShare        = "process.cpu_share"
	realtimeThreads = "process.realtime_threads"
	realtimeWakeups = "process.realtime_switches"

	segment = "process.tcp_segment_bytes"

	requests      = "requests"                 // answered by its servers
	answerBytes   = "answer_bytes"             // sent per request, over connections that last
	freshShare    = "connections_per_request"  // opened, in the namespace of its servers
	storedRequest = "stored_bytes_per_request" // written to storage
	tcpBytes      = "tcp_bytes"                // by connections that last, the greater direction
	tcpPerRequest = "tcp_bytes_per_request"
	datagrams     = "datagrams"             // received by the UDP sockets of its namespace, its part by CPU time
	kernelPart    = "kernel_part"           // of its CPU time
	waits         = "switches_per_cpu_s"    // voluntary switches of the first thread per CPU second
	calls         = "calls_per_cpu_s"       // read and write calls per CPU second
	faults        = "page_faults_per_cpu_s" // without I/O, per CPU second
)

// unit of a reading, for people.
func unit(reading string) string {
	switch reading {
	case cpuShare, kernelPart, freshShare:
		return "share"
	case realtimeThreads:
		return "tasks"
	case answerBytes, storedRequest, tcpPerRequest, segment:
		return "bytes"
	case tcpBytes:
		return "bytes/s"
	}
	return "/s"
}

// portraits are the six kinds. The numbers separate what was measured of real programs
// (docs/workload-kinds.md, TestRealPrograms) and leave room where programs of a kind differ.
func portraits() map[string][]trait {
	return map[string][]trait{
		tune.WorkloadWeb: {
			{requests, 0.5, 5, 1, true},
			{answerBytes, 90, 140, 3, false}, // headers alone are that long
			{freshShare, 0.001, 0.05, 2, false},
			{storedRequest, 8192, 512, 1, false},
			{tcpPerRequest, 4 << 20, 1 << 19, 1, false},
			{realtimeThreads, 1, 0.5, 1, false},
		},
		tune.WorkloadOLTP: {
			{requests, 0.5, 5, 1, true},
			{answerBytes, 140, 90, 3, true}, // short answers, many of them
			{freshShare, 0.2, 0.02, 2, true},
			{realtimeThreads, 1, 0.5, 1, false},
		},
		tune.WorkloadStreaming: {
			{tcpBytes, 1 << 20, 4 << 20, 2, true},
			{segment, 500, 1000, 1, true}, // 1448 on Ethernet
			{tcpPerRequest, 1 << 17, 1 << 20, 2, true},
			{realtimeThreads, 1, 0.5, 1, false},
		},
		tune.WorkloadSensor: {
			{datagrams, 5, 50, 2, true},
			{cpuShare, 1, 0.4, 1, false},
			{requests, 50, 0.5, 1, false},
			{tcpBytes, 1 << 20, 1 << 17, 1, false},
		},
		tune.WorkloadHPC: {
			{cpuShare, 0.3, 0.8, 2, true},
			{kernelPart, 0.3, 0.1, 2, true},
			{waits, 500, 50, 1, true},
			{calls, 2000, 200, 1, true},
			{faults, 10000, 1000, 2, true}, // its memory is there: a compiler's is not
			{requests, 5, 0.5, 1, false},
			{realtimeThreads, 1, 0.5, 1, false},
		},
		tune.WorkloadAudio: {
			{realtimeThreads, 0.5, 1, 2, true},
			{realtimeWakeups, 5, 30, 2, true},
			{realtimeWakeups, 20000, 5000, 1, false},
			{cpuShare, 0.9, 0.4, 1, false},
			{requests, 50, 0.5, 1, false},
		},
	}
}

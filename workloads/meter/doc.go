// Package meter measures a workload from outside: what its clients see, never what the kernel says.
//
// It owns the meters behind --meter: cmd: (a command that prints a line), http: (an open loop of
// requests) and prom: (one number of a Prometheus query), and how ebpf: and device: are spelled, whose meters
// the caller makes. A meter must never guess: what it could not
// measure is an error, and an error is missing data. It must never change the machine, and what it
// starts it ends. Read command.go first.
//
// A command prints, as its last such line, four numbers between commas:
//
//	median_ms,p95_ms,throughput,anomaly_bps
//
// Latencies are in milliseconds, throughput in completions per second (or any unit that grows with work
// done), and anomaly_bps is how many of 10,000 requests failed (basis points); 100 of them are 1 %.
package meter

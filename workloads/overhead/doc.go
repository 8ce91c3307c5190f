// Command overhead measures what the eBPF probes cost a loaded host: throughput with probes on and off
// (interleaved), the share of the CPUs each probe's programs take by the kernel's own statistics, the
// agent's CPU time and memory, and bpftrace's equivalents beside ours under the same load.
//
// It owns that experiment and its table (docs/overhead.md). It must never gate on a time, or leave a
// server, a setting or a mount behind. Read main.go.
package main

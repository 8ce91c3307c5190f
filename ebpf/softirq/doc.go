// Package softirq measures soft interrupts per vector: how long one waits from being raised to its
// handler, and how long the handler runs.
//
// It owns three programs and per-CPU histograms, for the whole host: a soft interrupt belongs to no
// process, cgroup or namespace, so no scope narrows it. It must never count a second raise of what is
// raised already. A raise that falls between the kernel taking up the pending set and the vector's
// handler joins the wait that is under way; the handler's second run then has a time and no latency.
// Read softirq.bpf.c first.
package softirq

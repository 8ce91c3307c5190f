//go:build ignore

// SPDX-License-Identifier: GPL-2.0
/* How long a soft interrupt waits from being raised to its handler, and how long the handler runs, per
 * vector. All three events of one soft interrupt happen on one CPU, and handlers do not nest. */
#include "kernel.h"
#include "hist.h"
#include "probe.h"

#define VECTORS 10

/* vector is what one CPU knows of one vector. A later raise of what is already raised adds nothing: the
 * first counts. */
struct vector {
	u64 raised;
	u64 entered;
	u32 raised_epoch;
	u32 entered_epoch;
	struct hist latency;
	struct hist run;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, VECTORS);
	__type(key, u32);
	__type(value, struct vector);
} vectors SEC(".maps");

SEC("tp_btf/softirq_raise")
int BPF_PROG(raise, u32 nr)
{
	struct vector *v = bpf_map_lookup_elem(&vectors, &nr);

	if (!v || (v->raised && v->raised_epoch == epoch))
		return 0;
	v->raised = bpf_ktime_get_ns();
	v->raised_epoch = epoch;
	return 0;
}

SEC("tp_btf/softirq_entry")
int BPF_PROG(entry, u32 nr)
{
	struct vector *v = bpf_map_lookup_elem(&vectors, &nr);
	u64 now;

	if (!v)
		return 0;
	now = bpf_ktime_get_ns();
	if (v->raised && v->raised_epoch == epoch)
		hist_add_local(&v->latency, now - v->raised);
	v->raised = 0;
	v->entered = now;
	v->entered_epoch = epoch;
	return 0;
}

SEC("tp_btf/softirq_exit")
int BPF_PROG(leave, u32 nr)
{
	struct vector *v = bpf_map_lookup_elem(&vectors, &nr);

	if (!v || !v->entered)
		return 0;
	if (v->entered_epoch == epoch)
		hist_add_local(&v->run, bpf_ktime_get_ns() - v->entered);
	v->entered = 0;
	return 0;
}

//go:build ignore

// SPDX-License-Identifier: GPL-2.0
/* Packets the kernel dropped, by its own reason. What was used up in the ordinary way does not pass here. */
#include "kernel.h"

#define REASONS 256 /* user space has their names; the last counts what is beyond, a module's own */

struct reasons {
	u64 counts[REASONS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct reasons);
} drops SEC(".maps");

SEC("tp_btf/kfree_skb")
int kfree_skb(u64 *ctx)
{
	u32 reason = (u32)ctx[2], at = reason & (REASONS - 1), zero = 0;
	struct reasons *r = bpf_map_lookup_elem(&drops, &zero);

	if (r)
		r->counts[at == reason ? at : REASONS - 1]++;
	return 0;
}

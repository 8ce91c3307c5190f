/* SPDX-License-Identifier: GPL-2.0 */
/* Log-linear histograms: each power of two is cut into 16 equal parts, so that a bucket is at most a
 * sixteenth of its lower bound wide and its middle is off by at most 1/32 (3.1 %). Values below 16 are
 * exact. ebpf/probe decodes them (probe.Hist), by the same arithmetic. */
#ifndef SEMANTOS_HIST_H
#define SEMANTOS_HIST_H

#include "kernel.h"

#define HIST_SUB_BITS 4
#define HIST_SUB (1 << HIST_SUB_BITS)
#define HIST_MAX_BITS 40 /* 2^40 ns are 18 minutes; what is longer counts in the last bucket */
#define HIST_BUCKETS ((HIST_MAX_BITS - HIST_SUB_BITS + 1) * HIST_SUB)

struct hist {
	u64 sum;
	u64 buckets[HIST_BUCKETS];
};

/* hist_msb is the place of the highest bit that is set; 0 for 0. */
static __always_inline u32 hist_msb(u64 v)
{
	u32 r, s;

	r = (v > 0xffffffffULL) << 5;
	v >>= r;
	s = (v > 0xffff) << 4;
	v >>= s;
	r |= s;
	s = (v > 0xff) << 3;
	v >>= s;
	r |= s;
	s = (v > 0xf) << 2;
	v >>= s;
	r |= s;
	s = (v > 0x3) << 1;
	v >>= s;
	r |= s;
	return r | (u32)(v >> 1);
}

static __always_inline u32 hist_bucket(u64 v)
{
	u32 msb, b;

	if (v < HIST_SUB)
		return (u32)v;
	msb = hist_msb(v);
	b = (msb - HIST_SUB_BITS + 1) * HIST_SUB + (u32)((v >> (msb - HIST_SUB_BITS)) & (HIST_SUB - 1));
	return b < HIST_BUCKETS ? b : HIST_BUCKETS - 1;
}

/* bounded hides from the compiler where a bucket comes from. Knowing it, clang drops the check that
 * follows as always true, and the verifier, which does not know it, refuses the program. */
static __always_inline u32 bounded(u32 b)
{
	asm volatile("" : "+r"(b));
	return b;
}

/* hist_add counts into a histogram that several CPUs share. */
static __always_inline void hist_add(struct hist *h, u64 v)
{
	u32 b = bounded(hist_bucket(v));

	if (b >= HIST_BUCKETS) /* what the verifier cannot follow through the arithmetic */
		return;
	__sync_fetch_and_add(&h->sum, v);
	__sync_fetch_and_add(&h->buckets[b], 1);
}

/* hist_add_local counts into a histogram of this CPU alone (a per-CPU map). */
static __always_inline void hist_add_local(struct hist *h, u64 v)
{
	u32 b = bounded(hist_bucket(v));

	if (b >= HIST_BUCKETS)
		return;
	h->sum += v;
	h->buckets[b]++;
}

/* zero_hist is where a new key's histogram is copied from: 4.7 kB do not fit on the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct hist);
} zero_hist SEC(".maps");

/* hist_of finds or makes a key's histogram in a hash map; NULL when the map is full. */
static __always_inline struct hist *hist_of(void *map, const void *key)
{
	struct hist *h = bpf_map_lookup_elem(map, key);
	u32 zero = 0;

	if (h)
		return h;
	h = bpf_map_lookup_elem(&zero_hist, &zero);
	if (!h)
		return 0;
	bpf_map_update_elem(map, key, h, BPF_NOEXIST);
	return bpf_map_lookup_elem(map, key);
}

#endif

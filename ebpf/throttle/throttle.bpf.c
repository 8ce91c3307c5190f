//go:build ignore

// SPDX-License-Identifier: GPL-2.0
/* How long writers are paused because too much of the page cache is dirty. */
#include "kernel.h"
#include "hist.h"
#include "probe.h"

#define MAX_CGROUPS 256
#define LEVELS 8
#define NAME 128

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct kernfs_node___path {
	struct kernfs_node *__parent;
	const char *name;
};

struct kernfs_node___old { /* before 6.15 */
	struct kernfs_node *parent;
};

struct dirty_throttle_control {
	unsigned long dirty;
	unsigned long thresh;
};

#pragma clang attribute pop

/* What user space finds out: where the arguments are, and how long a jiffy is. */
const volatile bool dtc_args = true; /* a dirty_throttle_control instead of its numbers */
const volatile u64 tick_ns = 0;

struct state {
	u64 over_ns; /* paused while more was dirty than the limit allows */
	u64 at; /* the latest decision */
	u64 dirty;
	u64 thresh;
	struct hist pauses;
};

struct group {
	u64 paused_ns;
	u64 last; /* when it was paused last, for user space to drop what is gone */
	u32 levels; /* names, the leaf's first; more than LEVELS are not all here */
	u32 pad;
	char names[LEVELS][NAME];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct state);
} states SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_CGROUPS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64);
	__type(value, struct group);
} groups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct group);
} scratch SEC(".maps");

volatile u32 groups_full = 0;

static __always_inline struct kernfs_node *parent_of(struct kernfs_node *kn)
{
	struct kernfs_node___path *path = (void *)kn;
	struct kernfs_node___old *old = (void *)kn;

	if (bpf_core_field_exists(path->__parent))
		return BPF_CORE_READ(path, __parent);
	return BPF_CORE_READ(old, parent);
}

static __always_inline struct group *group_of(struct task_struct *task)
{
	struct kernfs_node *kn = task->cgroups->dfl_cgrp->kn;
	u64 id = kn->id;
	struct group *g = bpf_map_lookup_elem(&groups, &id);
	u32 zero = 0;

	if (g)
		return g;
	g = bpf_map_lookup_elem(&scratch, &zero);
	if (!g)
		return 0;
	g->paused_ns = 0;
	g->levels = 0;
#pragma unroll
	for (int i = 0; i < LEVELS + 1; i++) {
		struct kernfs_node *up = parent_of(kn);

		if (!up)
			break; /* the root has no name */
		if (i < LEVELS)
			bpf_probe_read_kernel_str(g->names[i], NAME, BPF_CORE_READ((struct kernfs_node___path *)kn, name));
		g->levels++;
		kn = up;
	}
	if (bpf_map_update_elem(&groups, &id, g, BPF_NOEXIST) == -7 /* E2BIG */) {
		groups_full = 1;
		lose();
	}
	return bpf_map_lookup_elem(&groups, &id);
}

static __always_inline void decided(long pause, u64 dirty, u64 thresh)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct state *s;
	struct group *g;
	u32 zero = 0;
	u64 ns;

	if (!task_in_scope(task))
		return;
	s = bpf_map_lookup_elem(&states, &zero);
	if (!s)
		return;
	s->at = bpf_ktime_get_ns();
	s->dirty = dirty;
	s->thresh = thresh;
	if (pause <= 0)
		return; /* it goes on writing */
	/* The timer rings with the tick after that many have passed: half a tick later on average. */
	ns = pause * tick_ns + tick_ns / 2;
	hist_add_local(&s->pauses, ns);
	if (dirty > thresh)
		s->over_ns += ns;
	g = group_of(task);
	if (g) {
		g->last = s->at;
		__sync_fetch_and_add(&g->paused_ns, ns);
	}
}

/* The arguments are (wb, dtc, dirty_ratelimit, task_ratelimit, dirtied, period, pause, start_time), and
 * on older kernels (wb, thresh, bg_thresh, dirty, bdi_thresh, bdi_dirty, dirty_ratelimit, task_ratelimit,
 * dirtied, period, pause, start_time). */
SEC("tp_btf/balance_dirty_pages")
int balance(u64 *ctx)
{
	if (dtc_args) {
		struct dirty_throttle_control *dtc = (void *)ctx[1];

		decided((long)ctx[6], dtc->dirty, dtc->thresh);
	} else {
		decided((long)ctx[10], ctx[3], ctx[1]);
	}
	return 0;
}

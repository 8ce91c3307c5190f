//go:build ignore

// SPDX-License-Identifier: GPL-2.0
/* How long tasks do the kernel's work of finding memory: reclaiming pages themselves, for the host or
 * for their memory cgroup, compacting, and being held back while others reclaim. */
#include "kernel.h"
#include "hist.h"
#include "probe.h"

#define PF_KTHREAD 0x00200000

/* Kinds that begin and end; each has a start of its own, as one may happen inside another. */
enum kind { DIRECT, MEMCG, NODE, COMPACTION, TIMED };

struct starts {
	u64 ts[TIMED];
	u32 epoch;
	u32 pad;
};

struct spent {
	u64 pages[TIMED]; /* reclaimed */
	u64 wakeups; /* of kswapd */
	struct hist time[TIMED];
	struct hist held;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct starts);
} tasks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct spent);
} spents SEC(".maps");

static __always_inline struct spent *spent_here(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&spents, &zero);
}

static __always_inline void begin(struct task_struct *t, enum kind k)
{
	struct starts *s;

	if (!task_in_scope(t))
		return;
	s = bpf_task_storage_get(&tasks, t, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!s) {
		lose();
		return;
	}
	if (s->epoch != epoch) {
		for (int i = 0; i < TIMED; i++)
			s->ts[i] = 0;
		s->epoch = epoch;
	}
	s->ts[k] = bpf_ktime_get_ns();
}

static __always_inline void end(struct task_struct *t, enum kind k, u64 pages)
{
	struct starts *s = bpf_task_storage_get(&tasks, t, 0, 0);
	struct spent *spent;

	if (!s || !s->ts[k])
		return;
	spent = spent_here();
	if (spent && s->epoch == epoch) {
		hist_add_local(&spent->time[k], bpf_ktime_get_ns() - s->ts[k]);
		spent->pages[k] += pages;
	}
	s->ts[k] = 0;
}

SEC("tp_btf/mm_vmscan_direct_reclaim_begin")
int BPF_PROG(direct_begin)
{
	begin(bpf_get_current_task_btf(), DIRECT);
	return 0;
}

SEC("tp_btf/mm_vmscan_direct_reclaim_end")
int BPF_PROG(direct_end, unsigned long pages)
{
	end(bpf_get_current_task_btf(), DIRECT, pages);
	return 0;
}

SEC("tp_btf/mm_vmscan_memcg_reclaim_begin")
int BPF_PROG(memcg_begin)
{
	begin(bpf_get_current_task_btf(), MEMCG);
	return 0;
}

SEC("tp_btf/mm_vmscan_memcg_reclaim_end")
int BPF_PROG(memcg_end, unsigned long pages)
{
	end(bpf_get_current_task_btf(), MEMCG, pages);
	return 0;
}

SEC("tp_btf/mm_vmscan_node_reclaim_begin")
int BPF_PROG(node_begin)
{
	begin(bpf_get_current_task_btf(), NODE);
	return 0;
}

SEC("tp_btf/mm_vmscan_node_reclaim_end")
int BPF_PROG(node_end, unsigned long pages)
{
	end(bpf_get_current_task_btf(), NODE, pages);
	return 0;
}

/* A kernel thread's compaction (kcompactd, khugepaged) holds up nobody who allocates. */
SEC("tp_btf/mm_compaction_begin")
int BPF_PROG(compaction_begin)
{
	struct task_struct *t = bpf_get_current_task_btf();

	if (!(t->flags & PF_KTHREAD))
		begin(t, COMPACTION);
	return 0;
}

SEC("tp_btf/mm_compaction_end")
int BPF_PROG(compaction_end)
{
	struct task_struct *t = bpf_get_current_task_btf();

	if (!(t->flags & PF_KTHREAD))
		end(t, COMPACTION, 0);
	return 0;
}

SEC("tp_btf/mm_vmscan_throttled")
int BPF_PROG(throttled, int nid, int usec_timeout, int usec_delayed)
{
	struct task_struct *t = bpf_get_current_task_btf();
	struct spent *spent;

	if ((t->flags & PF_KTHREAD) || !task_in_scope(t))
		return 0;
	spent = spent_here();
	if (spent && usec_delayed >= 0)
		hist_add_local(&spent->held, (u64)usec_delayed * 1000);
	return 0;
}

SEC("tp_btf/mm_vmscan_wakeup_kswapd")
int BPF_PROG(wakeup_kswapd)
{
	struct spent *spent;

	if (!task_in_scope(bpf_get_current_task_btf()))
		return 0;
	spent = spent_here();
	if (spent)
		spent->wakeups++;
	return 0;
}

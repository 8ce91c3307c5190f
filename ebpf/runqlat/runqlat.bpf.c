//go:build ignore

// SPDX-License-Identifier: GPL-2.0
/* How long a task that could run waits for a CPU: from being woken, or from losing its CPU while still
 * runnable, to being switched to. */
#include "kernel.h"
#include "hist.h"
#include "probe.h"

struct start {
	u64 ts;
	u32 epoch;
	u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct start);
} starts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct hist);
} waits SEC(".maps");

static __always_inline void runnable(struct task_struct *t)
{
	struct start *s;

	if (!t->pid || !task_in_scope(t))
		return;
	s = bpf_task_storage_get(&starts, t, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!s) {
		lose();
		return;
	}
	s->ts = bpf_ktime_get_ns();
	s->epoch = epoch;
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(wakeup, struct task_struct *t)
{
	runnable(t);
	return 0;
}

SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(wakeup_new, struct task_struct *t)
{
	runnable(t);
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(switch_to, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	struct start *s;
	struct hist *h;
	u32 zero = 0;

	if (prev->__state == 0)
		runnable(prev);
	if (!next->pid)
		return 0;
	s = bpf_task_storage_get(&starts, next, 0, 0);
	if (!s || !s->ts)
		return 0;
	if (s->epoch == epoch) {
		h = bpf_map_lookup_elem(&waits, &zero);
		if (h)
			hist_add_local(h, bpf_ktime_get_ns() - s->ts);
	}
	s->ts = 0;
	return 0;
}

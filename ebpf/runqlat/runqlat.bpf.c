//go:build ignore

// SPDX-License-Identifier: GPL-2.0
/* How long a task that could run waits for a CPU: from being put on a run queue (woken, or losing its
 * CPU while still runnable) to being switched to.
 *
 * The kernel itself notes when it queued a task (sched_info.last_queued) and adds up what the task has
 * waited (run_delay); both are taken up by sched_info_arrive(), shortly after this tracepoint. So one
 * program at the switch knows the wait, and nothing is paid at wake-ups. A task that is moved while it
 * waits is queued anew: the part before the move is in run_delay alone, which is why its last reading
 * is kept with the task. */
#include "kernel.h"
#include "hist.h"
#include "probe.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct rq {
	u64 clock;
};

struct cfs_rq {
	struct rq *rq;
};

struct sched_entity {
	struct cfs_rq *cfs_rq;
};

struct sched_info {
	unsigned long pcount;
	unsigned long long run_delay;
	unsigned long long last_queued;
};

struct task_struct___sched {
	struct sched_info sched_info;
	struct sched_entity se;
};

#pragma clang attribute pop

/* seen is a task's account after its last switch-in that was counted. */
struct seen {
	u64 delay;
	u64 pcount;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct seen);
} tasks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct hist);
} waits SEC(".maps");

SEC("tp_btf/sched_switch")
int BPF_PROG(switch_to, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	struct task_struct___sched *t = (void *)next;
	u64 queued = t->sched_info.last_queued, pcount, total, wait;
	struct seen *s;
	struct hist *h;
	u32 zero = 0;

	if (!queued || !task_in_scope(next)) /* the idle task is never queued */
		return 0;
	wait = t->se.cfs_rq->rq->clock - queued;
	total = t->sched_info.run_delay + wait;
	pcount = t->sched_info.pcount;
	s = bpf_task_storage_get(&tasks, next, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!s) {
		lose();
		return 0;
	}
	/* Only when its last switch-in was seen here is all that was added since this one wait. */
	if (s->pcount == pcount)
		wait = total - s->delay;
	s->pcount = pcount + 1;
	s->delay = total;
	if ((s64)wait < 0) /* the run queue's clock was behind the one it was queued by */
		return 0;
	h = bpf_map_lookup_elem(&waits, &zero);
	if (h)
		hist_add_local(h, wait);
	return 0;
}

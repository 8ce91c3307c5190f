//go:build ignore

// SPDX-License-Identifier: GPL-2.0
/* Where a chosen process's threads spend the time they are not on a CPU. The reason is taken when a
 * thread leaves its CPU; when it comes back, the wait is counted. What a woken thread then waits for a
 * CPU is taken off and counted as runnable: the kernel keeps that account itself (sched_info). */
#include "kernel.h"
#include "hist.h"
#include "probe.h"

enum reason { /* as reasons() in offcpu.go */
	SLEEP,
	RUNNABLE,
	IO,
	UNINTERRUPTIBLE,
	STOPPED,
	FIRST_CALL, /* from here on by system call; user space fills in calls */
	REASONS = 13,
};

#define STATE_INTERRUPTIBLE 0x1
#define STATE_UNINTERRUPTIBLE 0x2
#define STATE_STOPPED 0x800c /* stopped, traced, frozen */
#define STATE_DEAD 0x80
#define STATE_NOLOAD 0x400
#define FLAG_NO_USER 0x204010 /* PF_KTHREAD, PF_USER_WORKER, PF_IO_WORKER: no system call */
#define X86_TS_COMPAT 0x2
#define ARM64_TIF_32BIT (1 << 22)
#define CALLS 512

/* calls gives the reason of a system call by its number; 0 is SLEEP. */
volatile const u8 calls[CALLS] = {};

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
	unsigned long long run_delay;
	unsigned long long last_queued;
};

struct task_struct___sched {
	struct sched_info sched_info;
	struct sched_entity se;
};

struct thread_info___x86 {
	u32 status;
};

struct task_struct___x86 {
	struct thread_info___x86 thread_info;
};

struct thread_info___arm64 {
	unsigned long flags;
};

struct task_struct___arm64 {
	struct thread_info___arm64 thread_info;
};

struct pt_regs___x86 {
	unsigned long orig_ax;
};

struct pt_regs___arm64 {
	s32 syscallno;
};

#pragma clang attribute pop

/* away is what is remembered of a thread that is off its CPU. */
struct away {
	u64 since;
	u64 delay; /* its run_delay then */
	u32 epoch;
	u32 reason;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct away);
} tasks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REASONS);
	__type(key, u32);
	__type(value, struct hist);
} waits SEC(".maps");

/* by_call tells what a sleeping thread asked the kernel for. */
static __always_inline u32 by_call(struct task_struct *t)
{
	void *regs;
	u64 nr;

	if (t->flags & FLAG_NO_USER)
		return SLEEP;
	regs = (void *)bpf_task_pt_regs(t);
	if (bpf_core_field_exists(((struct pt_regs___x86 *)0)->orig_ax)) {
		if (((struct task_struct___x86 *)t)->thread_info.status & X86_TS_COMPAT)
			return SLEEP; /* other numbers */
		nr = ((struct pt_regs___x86 *)regs)->orig_ax;
	} else if (bpf_core_field_exists(((struct pt_regs___arm64 *)0)->syscallno)) {
		if (((struct task_struct___arm64 *)t)->thread_info.flags & ARM64_TIF_32BIT)
			return SLEEP;
		nr = (u64)((struct pt_regs___arm64 *)regs)->syscallno;
	} else {
		return SLEEP;
	}
	return nr < CALLS ? calls[nr] : SLEEP;
}

static __always_inline u32 reason_of(struct task_struct *t, bool preempt)
{
	u32 state = t->__state;

	if (preempt || !state)
		return RUNNABLE;
	if (BPF_CORE_READ_BITFIELD(t, in_iowait))
		return IO;
	if (state & STATE_STOPPED)
		return STOPPED;
	if ((state & STATE_UNINTERRUPTIBLE) && !(state & STATE_NOLOAD))
		return UNINTERRUPTIBLE;
	return by_call(t);
}

static __always_inline void count(u32 reason, u64 ns)
{
	struct hist *h = bpf_map_lookup_elem(&waits, &reason);

	if (h)
		hist_add_local(h, ns);
}

static __always_inline void leaves(struct task_struct *t, bool preempt)
{
	struct away *a;

	if (t->__state & STATE_DEAD)
		return;
	a = bpf_task_storage_get(&tasks, t, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!a) {
		lose();
		return;
	}
	a->reason = reason_of(t, preempt);
	a->delay = ((struct task_struct___sched *)t)->sched_info.run_delay;
	a->epoch = epoch;
	a->since = bpf_ktime_get_ns();
}

static __always_inline void comes(struct task_struct *task)
{
	struct task_struct___sched *t = (void *)task;
	struct away *a = bpf_task_storage_get(&tasks, task, 0, 0);
	u64 total, wait, queued;

	if (!a || !a->since)
		return;
	if (a->epoch == epoch) {
		total = bpf_ktime_get_ns() - a->since;
		queued = t->sched_info.last_queued;
		wait = t->sched_info.run_delay - a->delay;
		if (queued)
			wait += t->se.cfs_rq->rq->clock - queued;
		if (a->reason == RUNNABLE || wait > total)
			wait = total;
		if (wait)
			count(RUNNABLE, wait);
		if (a->reason != RUNNABLE)
			count(a->reason, total - wait);
	}
	a->since = 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(switch_to, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	if (prev->pid && task_in_scope(prev))
		leaves(prev, preempt);
	if (next->pid && task_in_scope(next))
		comes(next);
	return 0;
}

//go:build ignore

// SPDX-License-Identifier: GPL-2.0
/* Who writes which sysctl. The program only watches: it allows everything, and leaves early at reads. */
#include "kernel.h"

#define NAME 96
#define VALUE 192
#define COMM 16

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* A flavor: the same kernel struct with what only this program reads of it. */
struct task_struct___family {
	struct task_struct *real_parent;
};

#pragma clang attribute pop

struct write {
	u64 time;  /* monotonic */
	u64 start; /* of the process, since boot */
	u32 tgid;
	u32 uid;
	u32 netns;
	u32 pos;
	u32 parent;
	s32 name_len;  /* or why there is none */
	s32 value_len; /* the same */
	u32 pad;
	char comm[COMM]; /* of the process, not of the thread */
	char parent_comm[COMM];
	char name[NAME];
	char value[VALUE];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
} writes SEC(".maps");

/* lost counts writes that found no room in the ring. */
volatile u64 lost = 0;

/* ask is the offset at which user space reads to learn its own number: inside a container it knows only
 * the one it has there. 0 asks nothing. */
volatile u32 ask = 0;
volatile u32 answer = 0;

SEC("cgroup/sysctl")
int on_sysctl(struct bpf_sysctl *ctx)
{
	struct task_struct *task, *leader, *parent;
	struct write *w;

	if (!ctx->write) {
		if (ask && ctx->file_pos == ask) {
			answer = bpf_get_current_pid_tgid() >> 32;
			ask = 0;
		}
		return 1;
	}
	w = bpf_ringbuf_reserve(&writes, sizeof(*w), 0);
	if (!w) {
		__sync_fetch_and_add(&lost, 1);
		return 1;
	}
	w->time = bpf_ktime_get_ns();
	w->tgid = bpf_get_current_pid_tgid() >> 32;
	w->uid = (u32)bpf_get_current_uid_gid();
	w->pos = ctx->file_pos;
	w->pad = 0;
	task = bpf_get_current_task_btf();
	leader = task->group_leader;
	w->start = leader->start_boottime;
	w->netns = task->nsproxy ? task->nsproxy->net_ns->ns.inum : 0;
	bpf_probe_read_kernel(w->comm, sizeof(w->comm), leader->comm);
	parent = ((struct task_struct___family *)leader)->real_parent;
	w->parent = parent->tgid;
	bpf_probe_read_kernel(w->parent_comm, sizeof(w->parent_comm), parent->group_leader->comm);
	w->name_len = bpf_sysctl_get_name(ctx, w->name, sizeof(w->name), 0);
	w->value_len = bpf_sysctl_get_new_value(ctx, w->value, sizeof(w->value));
	bpf_ringbuf_submit(w, 0);
	return 1;
}

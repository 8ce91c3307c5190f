/* SPDX-License-Identifier: GPL-2.0 */
/* What every probe shares: the variables user space sets, lost events, and the scope. */
#ifndef SEMANTOS_PROBE_H
#define SEMANTOS_PROBE_H

#include "kernel.h"

/* epoch grows each time the programs are attached again after a pause. A start remembered in another
 * epoch has no end that belongs to it: compare before pairing. */
volatile u32 epoch = 1;

/* lost counts events that could not be kept (a map was full): shown, never silent. */
volatile u64 lost = 0;

static __always_inline void lose(void)
{
	__sync_fetch_and_add(&lost, 1);
}

#define SCOPE_CGROUP 1
#define SCOPE_NETNS 2
#define SCOPE_COMM 4
#define SCOPE_PORT 8
#define SCOPE_TGID 16

/* scope narrows what is counted; flags 0 counts everything. All parts that are set must hold. */
struct scope {
	u64 cgroup; /* id of the cgroup in the unified hierarchy */
	u32 flags;
	u32 netns; /* inode of the network namespace */
	u32 tgid;
	u16 port; /* local port, host byte order */
	u16 pad;
	char comm[16];
};

volatile struct scope scope = {};

static __always_inline bool same_comm(struct task_struct *t)
{
	for (int i = 0; i < 16; i++) {
		char c = t->comm[i];

		if (c != scope.comm[i])
			return false;
		if (!c)
			return true;
	}
	return true;
}

/* task_in_scope judges a trusted task pointer (an argument of tp_btf, or bpf_get_current_task_btf).
 * A thread is known by its own name or its process's. */
static __always_inline bool task_in_scope(struct task_struct *t)
{
	u32 flags = scope.flags;

	if (!flags)
		return true;
	if ((flags & SCOPE_TGID) && (u32)t->tgid != scope.tgid)
		return false;
	if ((flags & SCOPE_CGROUP) && t->cgroups->dfl_cgrp->kn->id != scope.cgroup)
		return false;
	if ((flags & SCOPE_NETNS)) {
		struct nsproxy *ns = t->nsproxy;

		if (!ns || ns->net_ns->ns.inum != scope.netns)
			return false;
	}
	if ((flags & SCOPE_COMM) && !same_comm(t) && !same_comm(t->group_leader))
		return false;
	return true;
}

/* sock_in_scope judges the parts that belong to a socket: its namespace and its local port. */
static __always_inline bool sock_in_scope(const struct sock *sk)
{
	u32 flags = scope.flags;

	if ((flags & SCOPE_PORT) && sk->__sk_common.skc_num != scope.port)
		return false;
	if ((flags & SCOPE_NETNS) && sk->__sk_common.skc_net.net->ns.inum != scope.netns)
		return false;
	return true;
}

#endif

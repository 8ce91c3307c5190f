//go:build ignore

// SPDX-License-Identifier: GPL-2.0
/* System calls by number, and what failed with which error. sys_exit alone is enough: it has the number
 * in the saved registers and the result; only exit and exit_group never reach it. */
#include "kernel.h"
#include "probe.h"

#define CALLS 512 /* no table has a number as high */
#define COMPAT 510 /* a call through another table: 32-bit, x32 */
#define OTHER 511 /* a number outside the table, or an architecture whose registers are not known here */
#define MAX_ERRNO 4095
#define LAST_ERRNO 133 /* EHWPOISON; beyond it are the kernel's own, and what a seccomp filter made up */
#define RESTART 512 /* ERESTARTSYS .. ERESTART_RESTARTBLOCK: a signal came, the call is made again or ends in EINTR */
#define RESTART_LAST 516
#define X32_BIT 0x40000000
#define TS_COMPAT 2

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct pt_regs___x86 {
	unsigned long orig_ax;
};

struct pt_regs___arm64 {
	s32 syscallno;
	u64 pstate;
};

struct thread_info___x86 {
	u32 status;
};

struct task_struct___x86 {
	struct thread_info___x86 thread_info;
};

#pragma clang attribute pop

/* counts holds all numbers in one element, so that user space reads it with one call. */
struct counts {
	u64 by_number[CALLS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct counts);
} calls SEC(".maps");

/* failure names a pair; errno 0 stands for an error outside the table. */
struct failure {
	u32 nr;
	u32 errno;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct failure);
	__type(value, u64);
} failures SEC(".maps");

struct victim_key {
	u32 tgid;
	u32 errno;
};

struct victim {
	u64 start; /* of the process; a number is given again */
	u64 count;
	char comm[16];
};

/* victims are the processes that met an error that names a limit. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct victim_key);
	__type(value, struct victim);
} victims SEC(".maps");

/* number says which call the registers hold. */
static __always_inline u32 number(struct pt_regs *regs)
{
	u64 nr = OTHER;

	if (bpf_core_field_exists(((struct pt_regs___x86 *)0)->orig_ax)) {
		struct task_struct___x86 *t = (void *)bpf_get_current_task_btf();

		nr = ((struct pt_regs___x86 *)regs)->orig_ax;
		if ((nr & X32_BIT) || (t->thread_info.status & TS_COMPAT))
			return COMPAT;
	} else if (bpf_core_field_exists(((struct pt_regs___arm64 *)0)->syscallno)) {
		nr = (u32)((struct pt_regs___arm64 *)regs)->syscallno;
		if (((struct pt_regs___arm64 *)regs)->pstate & 0x10) /* PSR_MODE32_BIT */
			return COMPAT;
	}
	return nr < COMPAT ? (u32)nr : OTHER;
}

/* names_limit tells the errors that mostly come from a limit somebody can raise, and are rare where
 * nothing is short. EAGAIN and ETIMEDOUT are an event loop's and a futex's daily bread. */
static __always_inline bool names_limit(u32 errno)
{
	switch (errno) {
	case 12: /* ENOMEM */
	case 23: /* ENFILE */
	case 24: /* EMFILE */
	case 28: /* ENOSPC */
	case 99: /* EADDRNOTAVAIL */
	case 105: /* ENOBUFS */
	case 111: /* ECONNREFUSED */
		return true;
	}
	return false;
}

static __always_inline void blame(struct task_struct *t, u32 errno)
{
	struct task_struct *leader = t->group_leader;
	struct victim_key key = { .tgid = t->tgid, .errno = errno };
	struct victim fresh = {}, *v;

	v = bpf_map_lookup_elem(&victims, &key);
	if (!v || v->start != leader->start_boottime) {
		fresh.start = leader->start_boottime;
		bpf_probe_read_kernel_str(fresh.comm, sizeof(fresh.comm), leader->comm);
		bpf_map_update_elem(&victims, &key, &fresh, v ? BPF_EXIST : BPF_NOEXIST);
		v = bpf_map_lookup_elem(&victims, &key);
		if (!v) {
			lose();
			return;
		}
	}
	__sync_fetch_and_add(&v->count, 1);
}

static __noinline int failed(u32 nr, u32 errno)
{
	struct failure key = { .nr = nr, .errno = errno };
	u64 one = 1, *n;

	if (errno >= RESTART && errno <= RESTART_LAST)
		key.errno = RESTART;
	else if (errno > LAST_ERRNO)
		key.errno = 0;
	n = bpf_map_lookup_elem(&failures, &key);
	if (n) {
		(*n)++;
	} else if (bpf_map_update_elem(&failures, &key, &one, BPF_NOEXIST)) {
		n = bpf_map_lookup_elem(&failures, &key); /* another CPU was first */
		if (n)
			(*n)++;
		else
			lose();
	}
	if (names_limit(errno))
		blame(bpf_get_current_task_btf(), errno);
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(sys_exit, struct pt_regs *regs, long ret)
{
	u32 nr, zero = 0;
	struct counts *c;

	if (scope.flags && !task_in_scope(bpf_get_current_task_btf()))
		return 0;
	nr = number(regs);
	c = bpf_map_lookup_elem(&calls, &zero);
	if (c && nr < CALLS)
		c->by_number[nr]++;
	if ((u64)ret >= (u64)-MAX_ERRNO)
		failed(nr, (u32)-ret);
	return 0;
}

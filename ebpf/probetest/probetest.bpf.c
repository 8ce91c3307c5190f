//go:build ignore

// SPDX-License-Identifier: GPL-2.0
/* What tests of ebpf/probe need of a probe: arithmetic to be asked, and an event (a thread's renaming)
 * that a test can make exactly as often as it likes. */
#include "kernel.h"
#include "hist.h"
#include "probe.h"

struct question {
	u64 value;
	u64 bucket;
};

struct start {
	u64 ts;
	u32 epoch;
	u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct hist);
} shared SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct hist);
} local SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct start);
} starts SEC(".maps");

volatile u64 renamed = 0; /* to a name that begins with "pt-" */
volatile u64 paired = 0;  /* from "pt-start" to "pt-end" in one epoch */
volatile u64 voided = 0;

/* ask says where C counts a value, and counts it. */
SEC("syscall")
int ask(struct question *q)
{
	u32 zero = 0;
	struct hist *s = bpf_map_lookup_elem(&shared, &zero), *l = bpf_map_lookup_elem(&local, &zero);

	q->bucket = hist_bucket(q->value);
	if (s)
		hist_add(s, q->value);
	if (l)
		hist_add_local(l, q->value);
	return 0;
}

SEC("tp_btf/task_rename")
int BPF_PROG(rename, struct task_struct *t, const char *to)
{
	char name[16] = {};
	struct start *s;

	bpf_probe_read_kernel_str(name, sizeof(name), to);
	if (name[0] != 'p' || name[1] != 't' || name[2] != '-' || !task_in_scope(t))
		return 0;
	__sync_fetch_and_add(&renamed, 1);
	s = bpf_task_storage_get(&starts, t, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!s) {
		lose();
		return 0;
	}
	if (name[3] == 's') {
		s->ts = bpf_ktime_get_ns();
		s->epoch = epoch;
	} else if (name[3] == 'e' && s->ts) {
		if (s->epoch == epoch)
			__sync_fetch_and_add(&paired, 1);
		else
			__sync_fetch_and_add(&voided, 1);
		s->ts = 0;
	}
	return 0;
}

SEC("tp_btf/no_kernel_has_this")
int BPF_PROG(absent, struct task_struct *t)
{
	return 0;
}

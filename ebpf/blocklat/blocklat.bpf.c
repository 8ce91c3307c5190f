//go:build ignore

// SPDX-License-Identifier: GPL-2.0
/* How long requests of block devices take: made (the kernel stamps that itself, for /proc/diskstats),
 * issued to the driver, completed. Where nobody keeps I/O statistics (queue/iostats is 0) a request has
 * no stamp, and is known from its issue on. */
#include "kernel.h"
#include "hist.h"
#include "probe.h"

#define DISK_NAME 32
#define MAX_DISKS 256 /* disk and kind together */
#define SET_BITS 12
#define WAYS 4
#define REQ_OP_MASK 0xff
#define FIRST_PASSTHROUGH_OP 32

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct gendisk {
	char disk_name[DISK_NAME];
};

struct request_queue {
	struct gendisk *disk;
};

struct request {
	struct request_queue *q;
	unsigned int cmd_flags;
	unsigned int __data_len;
	u64 start_time_ns;
};

struct request___old { /* before 5.17 */
	struct gendisk *rq_disk;
};

#pragma clang attribute pop

enum kind { KIND_READ, KIND_WRITE, KIND_FLUSH, KIND_DISCARD };

/* flight is what is known of one request on its way. */
struct flight {
	u64 rq; /* its address; 0 is free */
	u64 issued; /* last; 0 while it is not with the driver */
	u32 epoch;
	u32 pad;
};

/* Flights lie in a table of sets, by their request's address: much cheaper than a hash map, of constant
 * size, and what never lands is written over. Two CPUs that take the same place at once lose one
 * measurement, no more. */
struct flights {
	struct flight way[WAYS];
};

struct disk_key {
	char disk[DISK_NAME];
	u32 kind;
	u32 pad;
};

struct disk_hist {
	u64 last; /* when it counted last, for user space to drop what is gone */
	struct hist latency;
	struct hist queue;
	struct hist device;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 << SET_BITS);
	__type(key, u32);
	__type(value, struct flights);
} table SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_DISKS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct disk_key);
	__type(value, struct disk_hist);
} disks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct disk_hist);
} zero_disk SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct hist);
} host SEC(".maps");

volatile u32 disks_full = 0;

static __always_inline struct flights *set_of(struct request *rq)
{
	u64 at = 0;
	u32 i;

	/* To the verifier rq is a pointer, not to be calculated with; a copy of its bytes is a number. */
	bpf_probe_read_kernel(&at, sizeof(at), &rq);
	i = (at * 0x9e3779b97f4a7c15ULL) >> (64 - SET_BITS);
	return bpf_map_lookup_elem(&table, &i);
}

/* flight_of finds a request's flight; NULL when it has none. */
static __always_inline struct flight *flight_of(struct request *rq)
{
	struct flights *set = set_of(rq);

	if (!set)
		return 0;
#pragma unroll
	for (int i = 0; i < WAYS; i++)
		if (set->way[i].rq == (u64)rq)
			return &set->way[i];
	return 0;
}

/* take_off finds a request's flight or makes one, at the cost of the oldest when there is no place. */
static __always_inline struct flight *take_off(struct request *rq)
{
	struct flights *set = set_of(rq);
	struct flight *f, *oldest;

	if (!set)
		return 0;
	f = 0;
	oldest = &set->way[0];
#pragma unroll
	for (int i = 0; i < WAYS; i++) {
		struct flight *w = &set->way[i];

		if (w->rq == (u64)rq) {
			if (w->issued && w->epoch == epoch)
				lose(); /* its completion was not seen */
			return w;
		}
		if (!w->rq || w->epoch != epoch)
			f = w;
		else if (w->issued < oldest->issued)
			oldest = w;
	}
	if (!f) {
		lose();
		f = oldest;
	}
	f->rq = (u64)rq;
	f->issued = 0;
	return f;
}

/* kind_of follows /proc/diskstats; -1 for a command of the driver or of user space. */
static __always_inline int kind_of(struct request *rq)
{
	u32 op = rq->cmd_flags & REQ_OP_MASK;

	if (op >= FIRST_PASSTHROUGH_OP)
		return -1;
	if (op == 2)
		return KIND_FLUSH;
	if (op == 3)
		return KIND_DISCARD;
	return op & 1 ? KIND_WRITE : KIND_READ;
}

static __always_inline struct gendisk *disk_of(struct request *rq)
{
	struct request___old *old = (void *)rq;

	if (bpf_core_field_exists(old->rq_disk))
		return old->rq_disk;
	return rq->q->disk;
}

static __always_inline struct disk_hist *disk_hist_of(struct gendisk *disk, u32 kind)
{
	struct disk_key key = {.kind = kind};
	struct disk_hist *h, *none;
	u32 zero = 0;

	if (bpf_probe_read_kernel_str(key.disk, sizeof(key.disk), disk->disk_name) <= 0)
		return 0;
	h = bpf_map_lookup_elem(&disks, &key);
	if (h)
		return h;
	none = bpf_map_lookup_elem(&zero_disk, &zero);
	if (!none)
		return 0;
	if (bpf_map_update_elem(&disks, &key, none, BPF_NOEXIST) == -7 /* E2BIG */)
		disks_full = 1;
	return bpf_map_lookup_elem(&disks, &key);
}

SEC("tp_btf/block_rq_issue")
int BPF_PROG(issue, struct request *rq)
{
	struct flight *f;

	if (kind_of(rq) < 0)
		return 0;
	f = take_off(rq);
	if (!f)
		return 0;
	f->issued = bpf_ktime_get_ns();
	f->epoch = epoch;
	return 0;
}

SEC("tp_btf/block_rq_requeue")
int BPF_PROG(requeue, struct request *rq)
{
	struct flight *f = flight_of(rq);

	if (f)
		f->issued = 0; /* it waits again */
	return 0;
}

/* A request that went into its neighbour is completed with it, and its memory is free. */
SEC("tp_btf/block_rq_merge")
int BPF_PROG(merge, struct request *rq)
{
	struct flight *f = flight_of(rq);

	if (f)
		f->rq = 0;
	return 0;
}

SEC("tp_btf/block_rq_complete")
int BPF_PROG(complete, struct request *rq, int error, unsigned int bytes)
{
	struct flight *f;
	struct disk_hist *d;
	struct gendisk *disk;
	struct hist *all;
	u64 now, start, issued;
	u32 zero = 0;
	int kind;

	if (bytes < rq->__data_len)
		return 0; /* a part of it */
	f = flight_of(rq);
	if (!f)
		return 0;
	issued = f->issued;
	f->rq = 0;
	if (!issued || f->epoch != epoch)
		return 0;
	kind = kind_of(rq);
	disk = disk_of(rq);
	if (kind < 0 || !disk)
		return 0;
	now = bpf_ktime_get_ns();
	start = rq->start_time_ns;
	if (!start || start > issued)
		start = issued;
	d = disk_hist_of(disk, kind);
	if (d) {
		d->last = now;
		hist_add(&d->latency, now - start);
		hist_add(&d->queue, issued - start);
		hist_add(&d->device, now - issued);
	} else {
		lose();
	}
	if (kind == KIND_FLUSH)
		return 0;
	all = bpf_map_lookup_elem(&host, &zero);
	if (all)
		hist_add_local(all, now - start);
	return 0;
}

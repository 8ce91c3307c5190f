//go:build ignore

// SPDX-License-Identifier: GPL-2.0
/* Time in fsync and fdatasync of file systems that say when they are done (ext4, f2fs, NFS), calls
 * alone of those that do not (XFS, Btrfs), and the time of journal commits. */
#include "kernel.h"
#include "hist.h"
#include "probe.h"

#define DISK_NAME 32
#define MAX_DISKS 256

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct gendisk {
	char disk_name[DISK_NAME];
};

struct block_device {
	struct gendisk *bd_disk;
};

struct super_block {
	struct block_device *s_bdev;
};

struct inode {
	struct super_block *i_sb;
};

struct file {
	struct inode *f_inode;
};

struct xfs_inode {
	struct inode i_vnode;
};

struct journal_s {
	struct block_device *j_fs_dev;
};

#pragma clang attribute pop

/* start is what a task is doing; a journal's thread commits, others sync. */
struct start {
	u64 ts;
	u32 epoch;
	u32 pad;
};

struct disk_key {
	char disk[DISK_NAME];
};

struct disk {
	u64 last; /* when it was used last, for user space to drop what is gone */
	u64 calls;
	struct hist sync;
	struct hist commit;
};

struct host {
	u64 calls;
	struct hist sync;
	struct hist commit;
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
	__type(value, struct host);
} hosts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_DISKS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct disk_key);
	__type(value, struct disk);
} disks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct disk);
} zero_disk SEC(".maps");

volatile u32 disks_full = 0;

static __always_inline struct host *host_of(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&hosts, &zero);
}

/* disk_of gives a device's counts; NULL for a file system that lies on none, and when there are too
 * many, which is lost. */
static __always_inline struct disk *disk_of(struct block_device *dev)
{
	struct disk_key key = {};
	struct disk *d, *none;
	struct gendisk *disk;
	u32 zero = 0;

	if (!dev)
		return 0;
	disk = dev->bd_disk;
	if (!disk || bpf_probe_read_kernel_str(key.disk, sizeof(key.disk), disk->disk_name) <= 1)
		return 0;
	d = bpf_map_lookup_elem(&disks, &key);
	if (d)
		return d;
	none = bpf_map_lookup_elem(&zero_disk, &zero);
	if (!none)
		return 0;
	if (bpf_map_update_elem(&disks, &key, none, BPF_NOEXIST) == -7 /* E2BIG */) {
		disks_full = 1;
		lose();
	}
	return bpf_map_lookup_elem(&disks, &key);
}

static __always_inline struct block_device *dev_of(struct inode *inode)
{
	struct super_block *sb = inode->i_sb;

	return sb ? sb->s_bdev : 0;
}

static __always_inline void begin(void)
{
	struct start *s = bpf_task_storage_get(&starts, bpf_get_current_task_btf(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!s) {
		lose();
		return;
	}
	s->epoch = epoch;
	s->ts = bpf_ktime_get_ns();
}

/* ended gives how long the task took; 0 when its start was not seen. */
static __always_inline u64 ended(void)
{
	struct start *s = bpf_task_storage_get(&starts, bpf_get_current_task_btf(), 0, 0);
	u64 took = 0;

	if (!s || !s->ts)
		return 0;
	if (s->epoch == epoch)
		took = bpf_ktime_get_ns() - s->ts;
	s->ts = 0;
	return took;
}

static __always_inline void called(struct block_device *dev)
{
	struct host *h = host_of();
	struct disk *d = disk_of(dev);

	if (h)
		h->calls++;
	if (d) {
		d->last = bpf_ktime_get_ns();
		__sync_fetch_and_add(&d->calls, 1);
	}
}

static __always_inline void synced(struct inode *inode)
{
	u64 took = ended();
	struct block_device *dev;
	struct host *h;
	struct disk *d;

	if (!took)
		return;
	dev = dev_of(inode);
	called(dev);
	h = host_of();
	if (h)
		hist_add_local(&h->sync, took);
	d = disk_of(dev);
	if (d)
		hist_add(&d->sync, took);
}

static __always_inline void sync_begins(void)
{
	if (task_in_scope(bpf_get_current_task_btf()))
		begin();
}

SEC("tp_btf/ext4_sync_file_enter")
int BPF_PROG(ext4_enter)
{
	sync_begins();
	return 0;
}

SEC("tp_btf/ext4_sync_file_exit")
int BPF_PROG(ext4_exit, struct inode *inode)
{
	synced(inode);
	return 0;
}

SEC("tp_btf/f2fs_sync_file_enter")
int BPF_PROG(f2fs_enter)
{
	sync_begins();
	return 0;
}

SEC("tp_btf/f2fs_sync_file_exit")
int BPF_PROG(f2fs_exit, struct inode *inode)
{
	synced(inode);
	return 0;
}

SEC("tp_btf/nfs_fsync_enter")
int BPF_PROG(nfs_enter)
{
	sync_begins();
	return 0;
}

SEC("tp_btf/nfs_fsync_exit")
int BPF_PROG(nfs_exit, struct inode *inode)
{
	synced(inode);
	return 0;
}

SEC("tp_btf/xfs_file_fsync")
int BPF_PROG(xfs_enter, struct xfs_inode *ip)
{
	struct inode *inode;

	if (!task_in_scope(bpf_get_current_task_btf()))
		return 0;
	inode = &ip->i_vnode;
	called(dev_of(inode));
	return 0;
}

SEC("tp_btf/btrfs_sync_file")
int BPF_PROG(btrfs_enter, struct file *file)
{
	if (task_in_scope(bpf_get_current_task_btf()))
		called(dev_of(file->f_inode));
	return 0;
}

/* A journal's own thread commits for everybody: no scope holds for it. */
SEC("tp_btf/jbd2_start_commit")
int BPF_PROG(commit_start)
{
	begin();
	return 0;
}

SEC("tp_btf/jbd2_end_commit")
int BPF_PROG(commit_end, struct journal_s *journal)
{
	u64 took = ended();
	struct host *h = host_of();
	struct disk *d;

	if (!took)
		return 0;
	if (h)
		hist_add_local(&h->commit, took);
	d = disk_of(journal->j_fs_dev);
	if (d) {
		d->last = bpf_ktime_get_ns();
		hist_add(&d->commit, took);
	}
	return 0;
}

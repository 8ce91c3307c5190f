// Package fsync measures how long fsync and fdatasync take inside the file system, and how long its
// journal takes to commit, on the host and by device.
//
// It owns the pairing of a file system's own entry and exit events. It must never make up a latency
// where a file system tells only the entry. Read fsync.bpf.c first.
//
// What the numbers mean:
//   - fs.fsync_latency_us is ext4, f2fs and NFS: they tell entry and exit. XFS and Btrfs tell the entry
//     alone, so that their calls are in fs.fsyncs and in no latency; the one event at the end of such a
//     call is the end of every system call, which costs the whole host. Their wait for the device is in
//     blocklat's block.flush_latency_us and block.write_latency_us. Other file systems tell nothing.
//   - fs.journal_commit_us is from a transaction being locked to its end (jbd2: ext4, OCFS2), by the
//     journal's thread; an fsync waits for the rest of a commit under way and for the next one.
//   - the device is the disk below the file system, its partitions together; a network file system, and
//     Btrfs, which may lie on many disks, count for the host alone.
//   - file systems that are modules and are loaded after the probe are seen from its next load on.
//   - a scope holds for the calls; commits are made by a kernel thread for everybody.
package fsync

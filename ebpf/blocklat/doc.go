// Package blocklat measures how long requests of block devices take, by device and kind: waiting to be
// issued, in the device, and both together.
//
// It owns the pairing of block_rq_issue and block_rq_complete. It must never count a
// request twice, nor one it saw only in part. Read blocklat.bpf.c first.
//
// What the numbers mean:
//   - latency is what /proc/diskstats times: from the moment the kernel makes a request, so plug and
//     scheduler included, until it is complete; before that lie the file system and the wait for a free
//     request, which no submitter's clock leaves out. With queue/iostats 0 there is no such stamp, and
//     latency begins with the issue.
//   - queue is from there to the last issue, device from the last issue to complete. A request the driver
//     gave back (its ring is full) waits in the queue again.
//   - kinds follow /proc/diskstats: write-zeroes and zone appends are writes, erasing is a write, trimming
//     is a discard; the driver's own and user space's commands (SG_IO) count nowhere. An empty flush of a
//     file system is a write in /proc/diskstats and a flush here, which is what the device does.
//   - a request completed in parts counts once, with its last part; one that was merged into its
//     neighbour is completed with it and does not count.
//   - a request whose completion was told to no program counts as lost when its address comes again; on a
//     virtual machine with more work than CPUs that was up to one in a hundred.
//   - devices made of others (dm, md, the head of NVMe multipath) work on bios and have no requests: they
//     are absent, what lies below them is there. A loop device has requests of its own, and those of its
//     file's device are counted too, also in block.latency_us. The paths of NVMe multipath are hidden
//     devices (nvme0c0n1).
//
// Requests belong to no task, so that the probe cannot be narrowed to a scope.
package blocklat

// Package reclaim measures how long tasks look for memory themselves: reclaiming for the host, for their
// memory cgroup or for their NUMA node, compacting, and being held back meanwhile.
//
// It owns the pairing of vmscan's and compaction's events. It must never call a kernel thread's
// compaction a stall. Read reclaim.bpf.c first.
//
// What the numbers mean:
//   - times are from begin to end, so that waiting for a CPU or for writeback in between is in them; one
//     kind may happen inside another and then counts in both.
//   - mm.direct_reclaim is what /proc/vmstat counts in allocstall_*; retries of one reclaim are several
//     there and one here. Kernel threads that allocate count, kswapd does not. The wait before it, while
//     kswapd is given a chance for the reserves (throttle_direct_reclaim), has no event.
//   - mm.memcg_reclaim is at a limit, at memory.high (a kernel worker's part of it too) or asked for
//     through memory.reclaim. It is in /proc/pressure/memory, which also has the wait for pages that were
//     thrown out too early, and which counts time on all busy CPUs in common.
//   - mm.compaction counts zones, by tasks; compact_stall in /proc/vmstat counts allocations that tried,
//     those put off included.
//   - mm.reclaim_throttled is part of the reclaim it happens in; the kernel measures it in jiffies.
//
// What no event gives: the time of a page fault. Faults have an event at their entry alone; how many there
// are is in /proc/vmstat (pgfault, pgmajfault), what waiting for their pages costs in the memory and I/O
// pressure files and in blocklat's block.read_latency_us. A lock of an address space has events around it
// (mmap_lock_start_locking, mmap_lock_acquire_returned), at every mapping and many faults; they are not
// read here, as they would cost the busiest path of all to find the rare wait.
package reclaim

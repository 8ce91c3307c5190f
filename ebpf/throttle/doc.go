// Package throttle measures how long writers are paused because too much of the page cache is dirty.
//
// It owns the reading of balance_dirty_pages. It must never count a decision that let the writer go on.
// Read throttle.bpf.c first.
//
// What the numbers mean:
//   - a pause is what the kernel ordered, in whole jiffies; the sleep ends up to a jiffy later. A writer
//     that may not sleep (buffered writes of io_uring) is sent back instead and its pause counts too.
//   - writeback.throttled adds up all writers: two that are paused all the time make 2.
//   - writeback.throttled_over_limit is the part of it while more was dirty than the limit allows; the
//     rest is the kernel holding writers back on the way there, from half between the background
//     threshold and the limit.
//   - writeback.dirty_over_limit is what was dirty over that limit at the latest decision, and is there
//     only while decisions are made. Limit and dirty pages are the host's, or the memory cgroup's where
//     that is nearer to its limit (version 2).
//   - a cgroup is the writer's in the unified hierarchy; the root is left out.
package throttle

package fsync

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"semantos/ebpf/probe"
	"semantos/internal/tune"
)

const (
	calls   = "fs.fsyncs"
	latency = "fs.fsync_latency_us"
	commit  = "fs.journal_commit_us"
	// forget is how long a device did nothing before it makes room for others.
	forget = 5 * time.Minute
)

// New describes the probe.
func New() probe.Spec {
	return probe.Spec{
		Name:       "fsync",
		Answers:    "how long do fsync and fdatasync take, and the journal's commits",
		Signals:    signals(),
		Collection: loadBpf,
		Optional: []string{"ext4_enter", "ext4_exit", "f2fs_enter", "f2fs_exit", "nfs_enter", "nfs_exit", "xfs_enter", "btrfs_enter",
			"commit_start", "commit_end"},
		Prepare: prepare,
		Read:    read,
	}
}

func signals() []tune.Signal {
	const timed = "tracepoints ext4_sync_file_enter and _exit, f2fs_sync_file_enter and _exit, nfs_fsync_enter and _exit"
	var out []tune.Signal
	for _, entity := range []string{"", tune.EntityDevice} {
		out = append(out,
			tune.Signal{Name: calls, Entity: entity, Unit: "calls", Counter: true, Help: "fsync and fdatasync calls, XFS and Btrfs included",
				Source: timed + ", xfs_file_fsync, btrfs_sync_file"},
			probe.HistSignal(latency, entity, "us", "time in fsync and fdatasync of ext4, f2fs and NFS; XFS and Btrfs do not tell", timed),
			probe.HistSignal(commit, entity, "us", "time the journal of ext4 or OCFS2 takes to commit a transaction",
				"tracepoints jbd2_start_commit, jbd2_end_commit"))
	}
	return out
}

func prepare(spec *ebpf.CollectionSpec, _ probe.Options) error {
	if len(spec.Programs) == 0 {
		return fmt.Errorf("%w: no file system loaded now has events for fsync", tune.ErrUnsupported)
	}
	return nil
}

// host and disk are the structs of those names in the C file.
type host struct {
	Calls        uint64
	Sync, Commit probe.Raw
}

type disk struct {
	Last, Calls  uint64
	Sync, Commit probe.Raw
}

func read(p *probe.Probe, out probe.Sink) error {
	var perCPU []host
	if err := p.Map(bpfMapHosts).Lookup(uint32(0), &perCPU); err != nil {
		return fmt.Errorf("read fsync times: %w", err)
	}
	var n uint64
	for i := range perCPU {
		n += perCPU[i].Calls
	}
	sync := probe.Sum(len(perCPU), func(i int) *probe.Raw { return &perCPU[i].Sync })
	commits := probe.Sum(len(perCPU), func(i int) *probe.Raw { return &perCPU[i].Commit })
	out.Counter(probe.Subject{}, calls, float64(n))
	if told(p, "ext4_sync_file_exit", "f2fs_sync_file_exit", "nfs_fsync_exit") {
		out.Hist(probe.Subject{}, latency, sync)
	}
	if told(p, "jbd2_end_commit") {
		out.Hist(probe.Subject{}, commit, commits)
	}
	return readDisks(p, out)
}

// told says whether this kernel has one of the tracepoints.
func told(p *probe.Probe, any ...string) bool {
	return slices.ContainsFunc(any, func(name string) bool { return !slices.Contains(p.Missing, name) })
}

func readDisks(p *probe.Probe, out probe.Sink) error {
	var full uint32
	if err := p.Get("disks_full", &full); err != nil {
		return err
	}
	var now unix.Timespec // the clock of bpf_ktime_get_ns
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("read the monotonic clock: %w", err)
	}
	m := p.Map(bpfMapDisks)
	var key [32]byte
	var d disk
	var gone [][32]byte
	it := m.Iterate()
	for it.Next(&key, &d) {
		name := string(bytes.TrimRight(key[:], "\x00"))
		of := probe.Subject{Kind: tune.EntityDevice, ID: name, Labels: map[string]string{"device": name}}
		out.Counter(of, calls, float64(d.Calls))
		if h := probe.Of(d.Sync); h.Count() > 0 { // else its file systems do not tell
			out.Hist(of, latency, h)
		}
		if h := probe.Of(d.Commit); h.Count() > 0 {
			out.Hist(of, commit, h)
		}
		if full != 0 && now.Nano()-int64(d.Last) > int64(forget) {
			gone = append(gone, key)
		}
	}
	if err := probe.Whole(it); err != nil {
		return fmt.Errorf("read fsync times by device: %w", err)
	}
	if len(gone) == 0 {
		return nil
	}
	for _, k := range gone {
		if err := m.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("forget a device: %w", err)
		}
	}
	return p.Set("disks_full", uint32(0))
}

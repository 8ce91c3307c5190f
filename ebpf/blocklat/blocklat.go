package blocklat

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"semantos/ebpf/probe"
	"semantos/internal/tune"
)

const (
	hostSignal = "block.latency_us"
	// forget is how long a device did nothing before it makes room for others.
	forget = 5 * time.Minute
)

// New describes the probe.
func New() probe.Spec {
	return probe.Spec{
		Name:       "blocklat",
		Answers:    "how long do requests of block devices wait, and how long does the device take",
		Signals:    signals(),
		Collection: loadBpf,
		Optional:   []string{"requeue", "merge"},
		Prepare:    prepare,
		Read:       read,
	}
}

// kinds are in the order of the C file's enum kind.
func kinds() []string { return []string{"read", "write", "flush", "discard"} }

func signals() []tune.Signal {
	const source = "tracepoints block_rq_issue, block_rq_complete, and the request's own time stamp"
	out := []tune.Signal{probe.HistSignal(hostSignal, "", "us",
		"time from making a request to its completion, all devices, flushes left out", source)}
	for _, k := range kinds() {
		name := "block." + k
		out = append(out,
			probe.HistSignal(name+"_latency_us", tune.EntityDevice, "us", "time a "+k+" takes, waiting in the queue included", source),
			probe.HistSignal(name+"_queue_us", tune.EntityDevice, "us", "time a "+k+" waits before it is issued to the device", source),
			probe.HistSignal(name+"_device_us", tune.EntityDevice, "us", "time the device takes for a "+k, source))
	}
	return out
}

func prepare(_ *ebpf.CollectionSpec, opts probe.Options) error {
	if opts.Scope != (probe.Scope{}) {
		return fmt.Errorf("%w: a request belongs to no task, it cannot be narrowed to a scope", tune.ErrUnsupported)
	}
	// Before 5.11 the queue came first: the programs would take it for the request.
	n, err := opts.Types.Args("block_rq_issue")
	if err == nil && n != 1 {
		err = fmt.Errorf("%w: block_rq_issue has %d arguments, a kernel before 5.11", tune.ErrUnsupported, n)
	}
	return err
}

// diskKey and diskHist are the structs of those names in the C file.
type diskKey struct {
	Disk [32]byte
	Kind uint32
	_    uint32
}

type diskHist struct {
	Last                   uint64
	Latency, Queue, Device probe.Raw
}

func read(p *probe.Probe, out probe.Sink) error {
	var perCPU []probe.Raw
	if err := p.Map(bpfMapHost).Lookup(uint32(0), &perCPU); err != nil {
		return fmt.Errorf("read block latencies: %w", err)
	}
	out.Hist(probe.Subject{}, hostSignal, probe.Of(perCPU...))
	return readDisks(p, out)
}

func readDisks(p *probe.Probe, out probe.Sink) error {
	var full uint32
	if err := p.Get("disks_full", &full); err != nil {
		return err
	}
	now, err := monotonic()
	if err != nil {
		return err
	}
	m := p.Map(bpfMapDisks)
	var key diskKey
	var h diskHist
	var gone []diskKey
	names := kinds()
	it := m.Iterate()
	for it.Next(&key, &h) {
		disk := string(bytes.TrimRight(key.Disk[:], "\x00"))
		of := probe.Subject{Kind: tune.EntityDevice, ID: disk, Labels: map[string]string{"device": disk}}
		name := "block." + names[key.Kind]
		out.Hist(of, name+"_latency_us", probe.Of(h.Latency))
		out.Hist(of, name+"_queue_us", probe.Of(h.Queue))
		out.Hist(of, name+"_device_us", probe.Of(h.Device))
		if full != 0 && now-time.Duration(h.Last) > forget {
			gone = append(gone, key)
		}
	}
	if err := probe.Whole(it); err != nil {
		return fmt.Errorf("read block latencies by device: %w", err)
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

// monotonic is the clock of bpf_ktime_get_ns.
func monotonic() (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0, fmt.Errorf("read the monotonic clock: %w", err)
	}
	return time.Duration(ts.Nano()), nil
}

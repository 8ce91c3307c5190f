package throttle

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
	tracepoint = "balance_dirty_pages"
	throttled  = "writeback.throttled"
	overLimit  = "writeback.throttled_over_limit"
	pauses     = "writeback.pause_ms"
	share      = "writeback.dirty_over_limit"
	// fresh is how long a decision says what is dirty now.
	fresh = 10 * time.Second
	// forget is how long a cgroup was not paused before it makes room for others.
	forget = 5 * time.Minute
	// levels and nameLen are LEVELS and NAME of the C file.
	levels  = 8
	nameLen = 128
)

// New describes the probe.
func New() probe.Spec {
	return probe.Spec{
		Name:       "throttle",
		Answers:    "how long are writers paused because too much of the page cache is dirty",
		Signals:    signals(),
		Collection: loadBpf,
		Prepare:    prepare,
		Read:       read,
	}
}

func signals() []tune.Signal {
	const source = "tracepoint " + tracepoint
	const help = "time writers are paused for dirty pages, all of them together"
	return []tune.Signal{
		{Name: throttled, Unit: "share", Counter: true, Help: help, Source: source},
		{Name: throttled, Entity: tune.EntityCgroup, Unit: "share", Counter: true, Help: help, Source: source},
		{Name: overLimit, Unit: "share", Counter: true, Help: "time writers are paused while more is dirty than the limit allows", Source: source},
		{Name: share, Unit: "share", Help: "dirty pages over the limit when a writer was last looked at", Source: source},
		probe.HistSignal(pauses, "", "ms", "length of one pause of a writer", source),
	}
}

func prepare(spec *ebpf.CollectionSpec, opts probe.Options) error {
	n, err := opts.Types.Args(tracepoint)
	if err != nil {
		return err
	}
	if n != 8 && n != 12 {
		return fmt.Errorf("%w: %s has %d arguments, which are not known", tune.ErrUnsupported, tracepoint, n)
	}
	// The coarse clock moves once a jiffy; the kernel says by how much.
	var tick unix.Timespec
	if err := unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &tick); err != nil {
		return fmt.Errorf("read the length of a jiffy: %w", err)
	}
	for name, v := range map[string]any{"dtc_args": n == 8, "tick_ns": uint64(tick.Nano())} {
		if err := spec.Variables[name].Set(v); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// state and group are the structs of those names in the C file.
type state struct {
	OverNS, At, Dirty, Thresh uint64
	Pauses                    probe.Raw
}

type group struct {
	PausedNS, Last uint64
	Levels         uint32
	_              uint32
	Names          [levels][nameLen]byte
}

// path spells a cgroup as telemetry does; "" for the root and for what is nested or named too long.
func (g *group) path() string {
	if g.Levels > levels {
		return ""
	}
	path := ""
	for _, raw := range g.Names[:g.Levels] {
		name, _, _ := bytes.Cut(raw[:], []byte{0})
		if len(name) >= nameLen-1 {
			return ""
		}
		path = "/" + string(name) + path
	}
	return path
}

func read(p *probe.Probe, out probe.Sink) error {
	var perCPU []state
	if err := p.Map(bpfMapStates).Lookup(uint32(0), &perCPU); err != nil {
		return fmt.Errorf("read pauses: %w", err)
	}
	var ts unix.Timespec // the clock of bpf_ktime_get_ns
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return fmt.Errorf("read the monotonic clock: %w", err)
	}
	now := uint64(ts.Nano())
	var over uint64
	var last state
	for i := range perCPU {
		s := &perCPU[i]
		over += s.OverNS
		if s.At > last.At {
			last.At, last.Dirty, last.Thresh = s.At, s.Dirty, s.Thresh
		}
	}
	h := probe.Sum(len(perCPU), func(i int) *probe.Raw { return &perCPU[i].Pauses })
	out.Hist(probe.Subject{}, pauses, h)
	out.Seconds(probe.Subject{}, throttled, float64(h.Sum)/1e9)
	out.Seconds(probe.Subject{}, overLimit, float64(over)/1e9)
	if last.At+uint64(fresh) > now && last.Thresh > 0 {
		out.Gauge(probe.Subject{}, share, float64(last.Dirty)/float64(last.Thresh))
	}
	return readGroups(p, out, now)
}

func readGroups(p *probe.Probe, out probe.Sink, now uint64) error {
	var full uint32
	if err := p.Get("groups_full", &full); err != nil {
		return err
	}
	m := p.Map(bpfMapGroups)
	var id uint64
	var g group
	var gone []uint64
	it := m.Iterate()
	for it.Next(&id, &g) {
		if path := g.path(); path != "" {
			out.Seconds(probe.Subject{Kind: tune.EntityCgroup, ID: path, Labels: map[string]string{"cgroup": path}},
				throttled, float64(g.PausedNS)/1e9)
		}
		if full != 0 && g.Last+uint64(forget) < now {
			gone = append(gone, id)
		}
	}
	if err := probe.Whole(it); err != nil {
		return fmt.Errorf("read pauses by cgroup: %w", err)
	}
	if len(gone) == 0 {
		return nil
	}
	for _, id := range gone {
		if err := m.Delete(id); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("forget a cgroup: %w", err)
		}
	}
	return p.Set("groups_full", uint32(0))
}

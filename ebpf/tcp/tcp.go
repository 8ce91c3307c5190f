package tcp

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"semantos/ebpf/probe"
	"semantos/internal/tune"
)

const (
	source = "tracepoints of tcp, sock inet_sock_set_state"
	// idle is how long a namespace without events is kept once half of the places are taken.
	idle = 10 * time.Minute
)

const (
	connectMS   = "tcpev.connect_ms"
	handshakeMS = "tcpev.handshake_ms"
	srttUS      = "tcpev.srtt_us"
)

// counts is struct counts of tcp.bpf.c.
type counts struct {
	Last, Retransmits, RetransmitFailures, SynackRetransmits, ResetsSent, ResetsReceived uint64
	Connects, ConnectFailures, Handshakes                                                uint64
}

// New describes the probe. Counters and histograms are of network namespaces, with the ID "netns:<inode>";
// the histograms are handed over for the host too, and counts of events whose namespace is not known.
func New() probe.Spec {
	k := &keeper{}
	return probe.Spec{
		Name:       "tcp",
		Answers:    "how long connections take to be set up, how long a round trip, and what is sent again or reset",
		Signals:    signals(),
		Collection: loadBpf,
		Prepare:    k.prepare,
		Read:       k.read,
	}
}

func signals() []tune.Signal {
	var out []tune.Signal
	counter := func(name, unit, help string) {
		out = append(out, tune.Signal{Name: name, Entity: tune.EntityNetns, Unit: unit, Counter: true, Help: help, Source: source})
	}
	counter("tcpev.retransmits", "segments", "segments sent again, SYN-ACKs apart")
	counter("tcpev.retransmit_failures", "events", "segments that could not be sent again (told since Linux 6.17)")
	counter("tcpev.synack_retransmits", "events", "SYN-ACKs sent again: the client's answer did not arrive or found the accept queue full")
	counter("tcpev.resets_sent", "events", "resets sent (before Linux 6.10 without those that answer a closed port)")
	counter("tcpev.resets_received", "events", "resets received by a connection")
	counter("tcpev.connects", "connections", "connections set up from here")
	counter("tcpev.connect_failures", "connections", "connections from here that were refused, timed out or were given up")
	counter("tcpev.handshakes", "connections", "connections set up by clients")
	for _, entity := range [...]string{"", tune.EntityNetns} {
		out = append(out,
			probe.HistSignal(connectMS, entity, "ms", "time from the first SYN until the connection stands, on the client's side", source),
			probe.HistSignal(handshakeMS, entity, "ms", "time from the first SYN-ACK to its answer, on the server's side", source),
			probe.HistSignal(srttUS, entity, "us", "smoothed round trip time of the connection a segment arrives on, one segment in 61", source))
	}
	for _, r := range append(strings.Fields(resetReasons), "other") {
		out = append(out, tune.Signal{Name: "tcpev.resets_sent." + r, Unit: "events", Counter: true,
			Help: "resets sent because of " + r + " (since Linux 6.10)", Source: source})
	}
	return out
}

// prepare refuses what does not belong to a socket, and learns the names of reasons.
func (k *keeper) prepare(spec *ebpf.CollectionSpec, opts probe.Options) error {
	s := opts.Scope
	if s.Cgroup != 0 || s.TGID != 0 || s.Comm != "" {
		return fmt.Errorf("%w: TCP's events belong to a socket, not to a process: narrow it to a namespace or port", tune.ErrUnsupported)
	}
	if err := spec.Variables["now"].Set(monotonic()); err != nil {
		return fmt.Errorf("set the clock: %w", err)
	}
	return k.learn(opts.Types)
}

func (k *keeper) read(p *probe.Probe, out probe.Sink) error {
	now := monotonic()
	if err := p.Set("now", now); err != nil {
		return err
	}
	known, err := readCounts(p, out)
	if err != nil {
		return fmt.Errorf("read counts of TCP: %w", err)
	}
	maps := [...]string{bpfMapConnectTimes, bpfMapHandshakeTimes, bpfMapRoundTrips}
	for i, name := range [...]string{connectMS, handshakeMS, srttUS} {
		if err := readTimes(p, out, maps[i], uint32(i), name); err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
	}
	if err := k.readReasons(p, out); err != nil {
		return fmt.Errorf("read reasons of resets: %w", err)
	}
	for _, netns := range stale(known, p.Map(bpfMapNamespaces).MaxEntries(), now) {
		for _, m := range append(maps[:], bpfMapNamespaces) {
			if err := p.Map(m).Delete(netns); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				return fmt.Errorf("forget namespace %d: %w", netns, err)
			}
		}
	}
	return k.abandon(p)
}

// of names a namespace; its label is the target of tunables that hold in it.
func of(netns uint32) probe.Subject {
	if netns == 0 {
		return probe.Subject{}
	}
	id := "netns:" + strconv.FormatUint(uint64(netns), 10)
	return probe.Subject{Kind: tune.EntityNetns, ID: id, Labels: map[string]string{"netns": id}}
}

// namespace is when something was last counted in one.
type namespace struct {
	netns uint32
	last  uint64 // monotonic nanoseconds
}

func readCounts(p *probe.Probe, out probe.Sink) ([]namespace, error) {
	var (
		known []namespace
		netns uint32
		c     counts
	)
	it := p.Map(bpfMapNamespaces).Iterate()
	for it.Next(&netns, &c) {
		known = append(known, namespace{netns, c.Last})
		s := of(netns)
		for _, v := range [...]struct {
			name string
			n    uint64
		}{
			{"tcpev.retransmits", c.Retransmits}, {"tcpev.retransmit_failures", c.RetransmitFailures},
			{"tcpev.synack_retransmits", c.SynackRetransmits}, {"tcpev.resets_sent", c.ResetsSent},
			{"tcpev.resets_received", c.ResetsReceived}, {"tcpev.connects", c.Connects},
			{"tcpev.connect_failures", c.ConnectFailures}, {"tcpev.handshakes", c.Handshakes},
		} {
			if s.ID != "" || v.n > 0 {
				out.Counter(s, v.name, float64(v.n))
			}
		}
	}
	return known, whole(it)
}

// whole forgives what an iteration may miss while the kernel deletes entries: the next tick has it.
func whole(it *ebpf.MapIterator) error {
	if err := it.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return err
	}
	return nil
}

func readTimes(p *probe.Probe, out probe.Sink, table string, host uint32, name string) error {
	var perCPU []probe.Raw
	if err := p.Map(bpfMapHost).Lookup(host, &perCPU); err != nil {
		return err
	}
	out.Hist(probe.Subject{}, name, probe.Of(perCPU...))
	var (
		netns uint32
		raw   probe.Raw
	)
	it := p.Map(table).Iterate()
	for it.Next(&netns, &raw) {
		if netns != 0 {
			out.Hist(of(netns), name, probe.Of(raw))
		}
	}
	return whole(it)
}

// stale gives the namespaces to forget: none while there is room, else those long idle.
func stale(known []namespace, room uint32, now uint64) []uint32 {
	if len(known) <= int(room)/2 {
		return nil
	}
	slices.SortFunc(known, func(a, b namespace) int { return cmp.Compare(a.last, b.last) })
	var out []uint32
	for _, n := range known {
		if n.last < now && now-n.last > uint64(idle) {
			out = append(out, n.netns)
		}
	}
	return out
}

// monotonic is a clock that is never set, in nanoseconds.
func monotonic() uint64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0 // nothing is stale then
	}
	return uint64(t.Nano())
}

// abandon forgets sockets that left SYN_SENT while the probe paused: their epoch is over.
func (k *keeper) abandon(p *probe.Probe) error {
	var (
		epoch uint32
		key   uint64
		start struct {
			TS    uint64
			Epoch uint32
			_     uint32
		}
		gone []uint64
	)
	if err := p.Get("epoch", &epoch); err != nil {
		return err
	}
	if epoch == k.swept {
		return nil
	}
	m := p.Map(bpfMapStarts)
	it := m.Iterate()
	for it.Next(&key, &start) {
		if start.Epoch != epoch {
			gone = append(gone, key)
		}
	}
	if err := whole(it); err != nil {
		return fmt.Errorf("look through begun connections: %w", err)
	}
	for _, key := range gone {
		if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("forget a begun connection: %w", err)
		}
	}
	k.swept = epoch
	return nil
}

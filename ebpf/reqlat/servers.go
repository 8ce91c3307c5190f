package reqlat

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"semantos/ebpf/probe"
	"semantos/internal/tune"
)

// serverKey is struct server_key.
type serverKey struct {
	Netns uint32
	Port  uint16
	_     uint16
	Comm  [16]byte
}

// serverValue is struct server.
type serverValue struct {
	Generation                     uint64
	Last                           uint64 // monotonic clock, ns
	TGID                           uint64
	Latency, Wait, Service, Accept probe.Raw
}

// idleAfter is how long a server may give no answer before it is forgotten; longer than any window.
const idleAfter = 10 * time.Minute

// busyWithin keeps a server that answered this recently, however full the table is.
const busyWithin = time.Minute

// servers hands over what each server did and forgets those that are gone.
type servers struct {
	idle, busy time.Duration
	mu         sync.Mutex
	labels     map[serverKey]map[string]string
}

func newServers() *servers {
	return &servers{idle: idleAfter, busy: busyWithin, labels: map[serverKey]map[string]string{}}
}

// entry is a server and when it answered last.
type entry struct {
	key        serverKey
	slot       uint32
	generation uint64
	idle       time.Duration
}

func (s *servers) read(p *probe.Probe, out probe.Sink) error {
	total, err := Totals(p)
	if err != nil {
		return err
	}
	out.Hist(probe.Subject{}, latency, total.Latency)
	out.Counter(probe.Subject{}, count, float64(total.Count))

	s.mu.Lock()
	defer s.mu.Unlock()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("read clock: %w", err)
	}
	named := s.labels
	s.labels = map[serverKey]map[string]string{}
	var found []entry
	var e entry
	var v serverValue
	it := p.Map(bpfMapServers).Iterate()
	for it.Next(&e.key, &e.slot) {
		if err := p.Map(bpfMapSlots).Lookup(e.slot, &v); err != nil {
			return fmt.Errorf("read server %s on port %d: %w", comm(e.key), e.key.Port, err)
		}
		if v.Last == 0 {
			continue // its first answer is being counted
		}
		e.generation, e.idle = v.Generation, time.Duration(now.Nano()-int64(v.Last))
		found = append(found, e)
		s.labels[e.key] = label(e.key, int(v.TGID), named[e.key])
		s.hand(out, e.key, &v)
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("list servers: %w", err)
	}
	return s.forget(p, found)
}

// hand gives out one server.
func (s *servers) hand(out probe.Sink, key serverKey, v *serverValue) {
	of := probe.Subject{Kind: tune.EntityServer, Labels: s.labels[key]}
	of.ID = fmt.Sprintf("netns:%d/tcp/%d/%s", key.Netns, key.Port, of.Labels["comm"])
	served := probe.Of(v.Service)
	out.Hist(of, latency, probe.Of(v.Latency))
	out.Hist(of, wait, probe.Of(v.Wait))
	out.Hist(of, service, served)
	if h := probe.Of(v.Accept); len(h.Bins) > 0 {
		out.Hist(of, acceptWait, h)
	}
	out.Counter(of, count, float64(served.Count()))
}

// label names a server. Of several processes the one that was named first stays until it ends, so that
// the label does not change at every reading.
func label(key serverKey, pid int, named map[string]string) map[string]string {
	if named != nil {
		if known, err := strconv.Atoi(named["pid"]); err == nil && (known == pid || runs(known, named["comm"])) {
			return named
		}
	}
	return map[string]string{
		"netns": fmt.Sprintf("netns:%d", key.Netns), // as listeners have it
		"port":  strconv.Itoa(int(key.Port)),
		"comm":  comm(key),
		"proto": "tcp",
		"pid":   strconv.Itoa(pid),
	}
}

func comm(key serverKey) string {
	return strings.ToValidUTF8(unix.ByteSliceToString(key.Comm[:]), "?")
}

func runs(pid int, name string) bool {
	got, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
	return err == nil && strings.ToValidUTF8(strings.TrimSuffix(string(got), "\n"), "?") == name
}

// forget takes back the slots of servers that have been idle for long, and, when three quarters of the
// slots are given out, of the longest idle until half are left. One that answers again begins anew, from
// zero.
func (s *servers) forget(p *probe.Probe, found []entry) error {
	slices.SortFunc(found, func(a, b entry) int { return cmp.Compare(b.idle, a.idle) })
	room := int(p.Map(bpfMapServers).MaxEntries())
	crowded := len(found) > room*3/4
	left := len(found)
	for _, e := range found {
		if e.idle < s.idle && !(crowded && left > room/2 && e.idle >= s.busy) {
			break
		}
		if err := take(p, e); err != nil {
			return fmt.Errorf("forget server %s on port %d: %w", comm(e.key), e.key.Port, err)
		}
		delete(s.labels, e.key)
		left--
	}
	return nil
}

// take takes a slot back. Connections that still name it see by its generation that it is not theirs.
func take(p *probe.Probe, e entry) error {
	if err := p.Map(bpfMapServers).Delete(e.key); err != nil {
		return err
	}
	if err := p.Map(bpfMapSlots).Put(e.slot, &serverValue{Generation: e.generation + 1}); err != nil {
		return err
	}
	return p.Map(bpfMapUnused).Put(nil, e.slot)
}

package syscalls

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"semantos/ebpf/probe"
	"semantos/internal/tune"
)

// slowPath is what a system call costs more once anything is attached to sys_exit, before any program
// runs: 122 ns on the virtual machine it was measured on (an empty program, against none).
const slowPath = 120 * time.Nanosecond

const source = "tracepoint raw_syscalls sys_exit"

// reader holds what turns numbers into signals.
type reader struct {
	names  [callSlots]string
	calls  map[string]bool
	errors map[string]bool
	pairs  map[string]bool
}

// New describes the probe. Signals, all counters of the time it was attached:
//
//	sys.calls                     system calls
//	sys.calls.<call>              of the calls in shownCalls; .other the rest, .compat 32-bit and x32 calls
//	sys.errors.<ERRNO>            failed calls by error; .other the rest, .ERESTART those a signal interrupted
//	sys.errors.<call>.<ERRNO>     of the pairs in shownPairs
//	process.sys_errors.<ERRNO>    by process, of the errors that name a limit
//
// A series appears with its first event and stays.
func New() probe.Spec {
	return probe.Spec{
		Name:       "syscalls",
		Answers:    "how many system calls are made, which, and which fail with what error",
		Signals:    signals(),
		Beside:     slowPath,
		Collection: loadBpf,
		Read:       read,
	}
}

func signals() []tune.Signal {
	counter := func(name, entity, unit, help string) tune.Signal {
		return tune.Signal{Name: name, Entity: entity, Unit: unit, Counter: true, Help: help, Source: source}
	}
	out := []tune.Signal{
		counter("sys.calls", "", "calls", "system calls"),
		counter("sys.calls.other", "", "calls", "system calls without a series of their own"),
		counter("sys.calls.compat", "", "calls", "system calls of 32-bit and x32 programs, which have other numbers"),
		counter("sys.errors.other", "", "errors", "system calls that failed with an error that has no series of its own"),
		counter("sys.errors.ERESTART", "", "errors",
			"system calls a signal interrupted: the kernel makes them again, or the program sees EINTR"),
	}
	for _, call := range strings.Fields(shownCalls) {
		out = append(out, counter("sys.calls."+call, "", "calls", "calls of "+call))
	}
	for _, e := range strings.Fields(shownErrors) {
		out = append(out, counter("sys.errors."+e, "", "errors", "system calls that failed with "+e+errorNote(e)))
	}
	for _, pair := range pairs() {
		call, e, _ := strings.Cut(pair, ".")
		out = append(out, counter("sys.errors."+pair, "", "errors", "calls of "+call+" that failed with "+e))
	}
	for _, e := range strings.Fields(victimErrors) {
		out = append(out, counter("process.sys_errors."+e, tune.EntityProcess, "errors",
			"system calls of the process that failed with "+e))
	}
	return out
}

// errorNote says of errors whether they are ordinary.
func errorNote(errno string) string {
	switch errno {
	case "EAGAIN":
		return "; ordinary where sockets are read without waiting"
	case "ETIMEDOUT":
		return "; mostly ordinary: a futex that was waited for with a time limit"
	case "ENOENT":
		return "; ordinary: searching a path"
	case "EINPROGRESS":
		return "; ordinary: a connection begun without waiting"
	}
	return ""
}

func read(p *probe.Probe, out probe.Sink) error {
	names, err := names(callTable)
	if err != nil {
		return err
	}
	r := reader{names: names, calls: set(shownCalls), errors: set(shownErrors), pairs: set(strings.Join(pairs(), " "))}
	if err := r.counts(p, out); err != nil {
		return fmt.Errorf("read counts of system calls: %w", err)
	}
	if err := r.failures(p, out); err != nil {
		return fmt.Errorf("read failed system calls: %w", err)
	}
	if err := victims(p, out); err != nil {
		return fmt.Errorf("read processes with failed system calls: %w", err)
	}
	return nil
}

func (r reader) counts(p *probe.Probe, out probe.Sink) error {
	var perCPU [][callSlots]uint64
	if err := p.Map(bpfMapCalls).Lookup(uint32(0), &perCPU); err != nil {
		return err
	}
	var total float64
	shown := map[string]float64{}
	for nr := range callSlots {
		var n uint64
		for _, cpu := range perCPU {
			n += cpu[nr]
		}
		if n == 0 {
			continue
		}
		total += float64(n)
		name := r.names[nr]
		switch {
		case nr == compatSlot:
			name = "compat"
		case !r.calls[name]:
			name = "other"
		}
		shown[name] += float64(n)
	}
	out.Counter(probe.Subject{}, "sys.calls", total)
	for name, n := range shown {
		out.Counter(probe.Subject{}, "sys.calls."+name, n)
	}
	return nil
}

func (r reader) failures(p *probe.Probe, out probe.Sink) error {
	var (
		key    struct{ Nr, Errno uint32 }
		perCPU []uint64
		shown  = map[string]float64{}
	)
	it := p.Map(bpfMapFailures).Iterate()
	for it.Next(&key, &perCPU) {
		var n float64
		for _, v := range perCPU {
			n += float64(v)
		}
		e := errnoName(key.Errno)
		if key.Nr < callSlots && r.pairs[r.names[key.Nr]+"."+e] {
			shown[r.names[key.Nr]+"."+e] += n
		}
		if !r.errors[e] && e != "ERESTART" {
			e = "other"
		}
		shown[e] += n
	}
	for name, n := range shown {
		out.Counter(probe.Subject{}, "sys.errors."+name, n)
	}
	return it.Err()
}

// victims hands over the processes that still are, and forgets the others.
func victims(p *probe.Probe, out probe.Sink) error {
	type victimKey struct{ TGID, Errno uint32 }
	var (
		key   victimKey
		value struct {
			Start, Count uint64
			Comm         [16]byte
		}
		gone   []victimKey
		labels = map[uint32]map[string]string{}
	)
	m := p.Map(bpfMapVictims)
	it := m.Iterate()
	for it.Next(&key, &value) {
		if errors.Is(unix.Kill(int(key.TGID), 0), unix.ESRCH) {
			gone = append(gone, key)
			continue
		}
		pid := strconv.FormatUint(uint64(key.TGID), 10)
		if labels[key.TGID] == nil {
			labels[key.TGID] = map[string]string{"pid": pid, "process": "pid:" + pid, "comm": unix.ByteSliceToString(value.Comm[:])}
		}
		of := probe.Subject{Kind: tune.EntityProcess, ID: "pid:" + pid, Labels: labels[key.TGID]}
		out.Counter(of, "process.sys_errors."+errnoName(key.Errno), float64(value.Count))
	}
	if err := it.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return err
	}
	for _, key := range gone {
		if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return err
		}
	}
	return nil
}

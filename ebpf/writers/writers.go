package writers

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"semantos/ebpf/probe"
	"semantos/internal/tune"
)

// Watch sees writes of sysctls until it is closed. Its methods may be called from several goroutines.
type Watch struct {
	coll   *ebpf.Collection
	link   link.Link
	reader *ringbuf.Reader
	self   uint32 // this process, as the kernel counts
	ended  chan struct{}

	asking sync.Mutex // one drain at a time
	mu     sync.Mutex
	log    log
	lost   uint64        // told of already
	empty  chan struct{} // closed when the reader has read all
}

// Open loads the program, attaches it to the control group (a folder of version 2), and proves by a read of
// its own that the kernel runs it. Errors wrap tune.ErrUnsupported or tune.ErrNotPermitted.
func Open(cgroup string) (*Watch, error) {
	spec, err := loadBpf()
	if err != nil {
		return nil, fmt.Errorf("read object of writers: %w", err)
	}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, fmt.Errorf("load writers: %w", probe.Explain(err))
	}
	w := &Watch{coll: coll, ended: make(chan struct{})}
	if err := w.attach(cgroup); err != nil {
		w.coll.Close()
		return nil, err
	}
	go w.read()
	return w, nil
}

// attach uses a link and nothing older: what else the kernel offers would outlive this process.
func (w *Watch) attach(cgroup string) error {
	dir, err := os.Open(cgroup)
	if err != nil {
		return fmt.Errorf("open control group: %w", err)
	}
	defer dir.Close()
	prog := w.coll.Programs["on_sysctl"]
	if w.reader, err = ringbuf.NewReader(w.coll.Maps[bpfMapWrites]); err != nil {
		return fmt.Errorf("read writers: %w", err)
	}
	at := time.Now()
	if w.link, err = link.AttachRawLink(link.RawLinkOptions{Target: int(dir.Fd()), Program: prog, Attach: ebpf.AttachCGroupSysctl}); err != nil {
		_ = w.reader.Close()
		return fmt.Errorf("attach writers to %s: %w", cgroup, attachError(err))
	}
	w.log.since = at
	if err := w.prove(); err != nil {
		_, _ = w.link.Close(), w.reader.Close()
		return err
	}
	w.log.since = time.Now()
	return nil
}

func attachError(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: it needs CAP_NET_ADMIN, and no program there that allows no other: %w", tune.ErrNotPermitted, err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, ebpf.ErrNotSupported):
		return fmt.Errorf("%w: %w", tune.ErrUnsupported, err)
	}
	return err
}

// harmless is the file whose reading proves that the program runs.
const harmless = "/proc/sys/kernel/ostype"

// prove reads at an offset that nobody else reads at, and learns from the program which process that was.
func (w *Watch) prove() error {
	at := 1<<30 + rand.Uint32N(1<<30)
	ask, answer := w.coll.Variables["ask"], w.coll.Variables["answer"]
	if err := ask.Set(at); err != nil {
		return fmt.Errorf("ask writers: %w", err)
	}
	f, err := os.Open(harmless)
	if err != nil {
		return fmt.Errorf("prove writers: %w", err)
	}
	defer f.Close()
	_, _ = f.ReadAt(make([]byte, 1), int64(at)) // there is nothing to read
	if err := answer.Get(&w.self); err != nil {
		return fmt.Errorf("ask writers: %w", err)
	}
	if w.self == 0 {
		return fmt.Errorf("%w: the kernel attaches the program and does not run it for this process", tune.ErrUnsupported)
	}
	return nil
}

// raw is the struct write of the C file.
type raw struct {
	Time, Start                   uint64
	TGID, UID, Netns, Pos, Parent uint32
	NameLen, ValueLen             int32
	_                             uint32
	Comm, ParentComm              [16]byte
	Name                          [96]byte
	Value                         [192]byte
}

// read keeps what the program tells, until the end. A fault of ours ends the watch, and nothing beside it.
func (w *Watch) read() {
	defer close(w.ended)
	defer func() { _ = recover() }()
	var rec ringbuf.Record
	for {
		err := w.reader.ReadInto(&rec)
		switch {
		case err == nil:
			var r raw
			if err := binary.Read(bytes.NewReader(rec.RawSample), binary.NativeEndian, &r); err != nil {
				w.gap(1) // a write that cannot be read is a write lost
				continue
			}
			w.keep(r)
		case errors.Is(err, ringbuf.ErrFlushed):
			w.mu.Lock()
			w.countLost()
			if w.empty != nil {
				close(w.empty)
				w.empty = nil
			}
			w.mu.Unlock()
			continue
		default: // closed
			return
		}
		if w.reader.AvailableBytes() == 0 {
			w.mu.Lock()
			w.countLost()
			w.mu.Unlock()
		}
	}
}

func (w *Watch) keep(r raw) {
	e := entry{netns: r.Netns}
	own := r.TGID == w.self
	name, cutName := text(r.Name[:], r.NameLen)
	value, cutValue := text(r.Value[:], r.ValueLen)
	comm, _ := text(r.Comm[:], 0)
	parent, _ := text(r.ParentComm[:], 0)
	if cutName { // it may be any
		w.gap(1)
		return
	}
	e.name = name
	e.Written = tune.Written{Time: wall(r.Time), PID: int(r.TGID), Start: r.Start, Comm: comm, UID: int(r.UID), Parent: int(r.Parent), ParentComm: parent,
		Value: tune.Canonical(value), Cut: cutValue || r.Pos != 0, Own: own}
	if !own && int(w.self) == os.Getpid() { // inside a container /proc has other numbers
		e.Exe = exeOf(r.TGID, r.Start)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log.add(e)
}

// gap remembers that writes were lost about now.
func (w *Watch) gap(n uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log.add(entry{Written: tune.Written{Time: time.Now(), Lost: n}})
}

// countLost asks the program what found no room. The caller holds the lock.
func (w *Watch) countLost() {
	var n uint64
	if err := w.coll.Variables["lost"].Get(&n); err == nil && n > w.lost {
		w.log.add(entry{Written: tune.Written{Time: time.Now(), Lost: n - w.lost}})
		w.lost = n
	}
}

// wall turns the kernel's monotonic time into one of the day; it was a moment ago.
func wall(mono uint64) time.Time {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return time.Now()
	}
	return time.Now().Add(-time.Duration(now.Nano() - int64(mono)))
}

// exeOf is the program of a process that still lives; "" when it has ended, or another took its number.
func exeOf(pid uint32, start uint64) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(stat[max(0, bytes.LastIndexByte(stat, ')')):]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return ""
	}
	ticks, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil || ticks != start/uint64(time.Second/ticksPerSecond) {
		return ""
	}
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return ""
	}
	return exe
}

// ticksPerSecond is USER_HZ, which is the same on every architecture Go runs on.
const ticksPerSecond = 100

// drainTime bounds how long a question waits for the reader: a rollout's end must not.
const drainTime = 50 * time.Millisecond

// Writes gives what was seen of a sysctl, by its path below /proc/sys, in a network namespace or in any (0).
func (w *Watch) Writes(name string, netns uint64) tune.Seen {
	drained := w.drain()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !drained {
		return tune.Seen{Why: "the watch did not answer in time"}
	}
	return w.log.of(name, netns)
}

// drain waits until all that happened before it is in the log. A reader that has not answered the last question
// is not waited for again: many may be asked in a row.
func (w *Watch) drain() bool {
	w.asking.Lock()
	defer w.asking.Unlock()
	done := make(chan struct{})
	w.mu.Lock()
	stuck := w.empty != nil
	if !stuck {
		w.empty = done
	}
	w.mu.Unlock()
	if stuck {
		return false
	}
	if err := w.reader.Flush(); err != nil {
		return false
	}
	select {
	case <-done:
		return true
	case <-w.ended:
	case <-time.After(drainTime):
	}
	return false
}

// Close detaches the program and frees everything.
func (w *Watch) Close() error {
	err := errors.Join(w.link.Close(), w.reader.Close())
	<-w.ended
	w.coll.Close()
	return err
}

package syscalls

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"semantos/ebpf/probe"
	"semantos/ebpf/probetest"
	"semantos/internal/host/hosttest"
)

const name = "sys-truth"

// alone runs fn on a thread of its own, which is called name: the scope can tell it from the rest of the
// test. The thread ends with fn.
func alone(t *testing.T, fn func() error) {
	t.Helper()
	done := make(chan error, 1)
	go named(done, fn)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// named is alone's thread. The main thread's name is the whole process's, so that another goroutine takes
// over when this one sits on it.
func named(done chan<- error, fn func() error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		other := make(chan error, 1)
		go named(other, fn)
		done <- <-other
		runtime.UnlockOSThread()
		return
	}
	err := unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(unsafe.StringData(name+"\x00"))), 0, 0, 0)
	if err == nil {
		err = fn()
	}
	done <- err
}

// fails makes n calls that must all fail with an error.
func fails(n int, want unix.Errno, call func() unix.Errno) error {
	for i := range n {
		if got := call(); got != want {
			return fmt.Errorf("call %d gave %v, not %v", i, got, want)
		}
	}
	return nil
}

func load(t *testing.T) *probe.Probe {
	t.Helper()
	return probetest.Load(t, New(), probe.Options{Scope: probe.Scope{Comm: name}})
}

func want(t *testing.T, r *probetest.Readings, id, signal string, n float64) {
	t.Helper()
	if got, _ := r.Value(id, signal); got != n {
		t.Errorf("%s counts %v, the truth is %v", signal, got, n)
	}
}

func TestCountsCalls(t *testing.T) {
	p := load(t)
	const n = 20_000
	alone(t, func() error {
		for range n { // a call the runtime never makes by itself
			unix.RawSyscall(unix.SYS_MEMBARRIER, 0, 0, 0)
		}
		return fails(777, unix.ENOENT, func() unix.Errno {
			_, _, e := unix.RawSyscall(unix.SYS_FACCESSAT, ^uintptr(99), uintptr(unsafe.Pointer(unsafe.StringData("/nowhere/at/all\x00"))), 0)
			return e
		})
	})
	got := probetest.Read(t, p)
	want(t, got, "", "sys.calls.membarrier", n)
	want(t, got, "", "sys.errors.ENOENT", 777)
	// The runtime makes calls of its own on the thread: signals that preempt, where others want the CPU.
	if all, _ := got.Value("", "sys.calls"); all < n+777 || all > 1.1*(n+777) {
		t.Errorf("sys.calls counts %v, the thread made %d and a few", all, n+777)
	}
	if p.Lost() != 0 {
		t.Errorf("%d lost", p.Lost())
	}
}

func TestCountsErrors(t *testing.T) {
	p := load(t)
	ns := hosttest.FreshNetns(t)
	alone(t, noPorts(ns, 25))
	alone(t, noFiles(17))
	dir := t.TempDir()
	alone(t, noSpace(t, dir, 9))
	alone(t, func() error {
		var fds [2]int
		if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
			return err
		}
		defer unix.Close(fds[0])
		defer unix.Close(fds[1])
		b := make([]byte, 1)
		return fails(31, unix.EAGAIN, func() unix.Errno { _, err := unix.Read(fds[0], b); return errno(err) })
	})
	alone(t, nobodyCalls(13))
	alone(t, func() error { // an error beyond the kernel's table has no name, and a number beyond the table no call
		return fails(5, unix.ENOSYS, func() unix.Errno { _, _, e := unix.RawSyscall(100_000, 0, 0, 0); return e })
	})
	got := probetest.Read(t, p)
	want(t, got, "", "sys.errors.EADDRNOTAVAIL", 25)
	want(t, got, "", "sys.errors.connect.EADDRNOTAVAIL", 25)
	want(t, got, "", "sys.errors.EMFILE", 17)
	want(t, got, "", "sys.errors.dup.EMFILE", 17)
	want(t, got, "", "sys.errors.ENOSPC", 9)
	want(t, got, "", "sys.errors.write.ENOSPC", 9)
	want(t, got, "", "sys.errors.accept4.EAGAIN", 13)
	if n, _ := got.Value("", "sys.errors.EAGAIN"); n < 31+13 || n > 31+13+8 { // the runtime's futex meets it too
		t.Errorf("sys.errors.EAGAIN counts %v, there were %d and perhaps a few", n, 31+13)
	}
	want(t, got, "", "sys.errors.ENOSYS", 5)
	self := fmt.Sprintf("pid:%d", os.Getpid())
	want(t, got, self, "process.sys_errors.EADDRNOTAVAIL", 25)
	want(t, got, self, "process.sys_errors.EMFILE", 17)
	want(t, got, self, "process.sys_errors.ENOSPC", 9)
	if _, ok := got.Value(self, "process.sys_errors.EAGAIN"); ok {
		t.Error("EAGAIN is kept by process: it is no sign of a limit")
	}
	if err := read(p, described(t)); err != nil {
		t.Error(err)
	}
}

// described holds every counter handed over against Spec.Signals.
func described(t *testing.T) probe.Sink {
	known := map[string]string{}
	for _, s := range New().Signals {
		if _, twice := known[s.Name]; twice {
			t.Errorf("%s is described twice", s.Name)
		}
		known[s.Name] = s.Entity
	}
	return checked{t: t, known: known}
}

type checked struct {
	probe.Sink // a reading that is no counter ends the test
	t          *testing.T
	known      map[string]string
}

func (c checked) Counter(of probe.Subject, name string, _ float64) {
	if kind, ok := c.known[name]; !ok || kind != of.Kind {
		c.t.Errorf("%s of %q is handed over and not described so", name, of.Kind)
	}
}

func errno(err error) unix.Errno {
	var e unix.Errno
	errors.As(err, &e)
	return e
}

// noPorts connects until the ten ports of the namespace are used up, then n times in vain.
func noPorts(ns *hosttest.Namespace, n int) func() error {
	return func() error {
		// The thread itself enters the namespace: Do would run on another one.
		var fd int
		var err error
		ns.Do(func() { fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0) })
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			return err
		}
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("40000 40009"), 0); err != nil {
			return err
		}
		server, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(server)
		addr := &unix.SockaddrInet4{Port: 7, Addr: [4]byte{127, 0, 0, 1}}
		if err := errors.Join(unix.Bind(server, addr), unix.Listen(server, 64)); err != nil {
			return err
		}
		connect := func() unix.Errno {
			s, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return errno(err)
			}
			if err := unix.Connect(s, addr); err != nil {
				unix.Close(s)
				return errno(err)
			}
			return 0 // stays open and keeps its port; the descriptor goes with the process
		}
		if err := fails(10, 0, connect); err != nil {
			return err
		}
		return fails(n, unix.EADDRNOTAVAIL, connect)
	}
}

// nobodyCalls asks n times in vain whether somebody wants to connect.
func nobodyCalls(n int) func() error {
	return func() error {
		s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(s)
		if err := errors.Join(unix.Bind(s, &unix.SockaddrUnix{}), unix.Listen(s, 1)); err != nil {
			return err
		}
		return fails(n, unix.EAGAIN, func() unix.Errno { _, _, err := unix.Accept4(s, unix.SOCK_CLOEXEC); return errno(err) })
	}
}

// noFiles asks n times for a descriptor that the limit does not grant.
func noFiles(n int) func() error {
	return func() error {
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			return err
		}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1, Max: limit.Max}); err != nil {
			return err
		}
		err := fails(n, unix.EMFILE, func() unix.Errno { _, _, e := unix.RawSyscall(unix.SYS_DUP, 0, 0, 0); return e })
		return errors.Join(err, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	}
}

// noSpace fills a tiny file system, then writes n times in vain.
func noSpace(t *testing.T, dir string, n int) func() error {
	return func() error {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
			return fmt.Errorf("mount tmpfs: %w", err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(dir, 0); err != nil {
				t.Error(err)
			}
		})
		fd, err := unix.Open(dir+"/full", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		page := make([]byte, 4096)
		write := func() unix.Errno { _, err := unix.Write(fd, page); return errno(err) }
		if err := fails(16, 0, write); err != nil {
			return err
		}
		return fails(n, unix.ENOSPC, write)
	}
}

// Counts grow only while attached, so that count / Active is the rate whatever the share of time. How often
// the thread runs while the probe is attached depends on the rest of the machine: there are several tries.
func TestRateUnderDuty(t *testing.T) {
	p := load(t)
	var rate, truth float64
	for range 4 {
		rate, truth = underDuty(t, p)
		t.Logf("%.0f calls/s measured, %.0f made", rate, truth)
		if rate > .85*truth && rate < 1.15*truth {
			return
		}
	}
	t.Errorf("count / attached time gives %.0f calls/s, %.0f were made", rate, truth)
}

// underDuty makes calls while the probe is attached half of the time, and gives the rate it saw and the
// true one, per second.
func underDuty(t *testing.T, p *probe.Probe) (rate, truth float64) {
	t.Helper()
	count := func() float64 {
		n, _ := probetest.Read(t, p).Value("", "sys.calls.getpid")
		return n
	}
	before, active := count(), p.Active()
	stop, ended := make(chan struct{}), make(chan error, 1)
	go named(ended, func() error {
		truth = paced(stop)
		return nil
	})
	for range 20 {
		err := p.Resume()
		time.Sleep(30 * time.Millisecond)
		if err = errors.Join(err, p.Pause()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Millisecond)
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	return (count() - before) / (p.Active() - active).Seconds(), truth
}

// paced makes calls until it is stopped, and gives their rate.
func paced(stop <-chan struct{}) float64 {
	n, begin := 0, time.Now()
	for {
		select {
		case <-stop:
			return float64(n) / time.Since(begin).Seconds()
		default:
		}
		for range 20 {
			unix.RawSyscall(unix.SYS_GETPID, 0, 0, 0)
		}
		n += 20
		pause := unix.Timespec{Nsec: 200_000}
		unix.Nanosleep(&pause, nil)
	}
}

// A process that is gone is forgotten.
func TestForgetsProcesses(t *testing.T) {
	p := load(t)
	type victimKey struct{ TGID, Errno uint32 }
	m := p.Map(bpfMapVictims)
	const gone = 1 << 22 // beyond the largest pid there can be
	value := make([]byte, m.ValueSize())
	if err := m.Put(victimKey{gone, uint32(unix.EMFILE)}, value); err != nil {
		t.Fatal(err)
	}
	if got := probetest.Read(t, p); len(got.Subjects) != 1 {
		t.Errorf("a process that is gone is handed over: %v", got.Subjects)
	}
	if err := m.Lookup(victimKey{gone, uint32(unix.EMFILE)}, &value); err == nil {
		t.Error("a process that is gone stays in the map")
	}
}

func TestTables(t *testing.T) {
	table, err := names(callTable)
	if err != nil {
		t.Fatal(err)
	}
	if callTable == "" {
		t.Skip("calls of this architecture have no names")
	}
	for nr, want := range map[int]string{unix.SYS_READ: "read", unix.SYS_CONNECT: "connect", unix.SYS_GETPID: "getpid",
		unix.SYS_IO_URING_SETUP: "io_uring_setup", unix.SYS_OPENAT2: "openat2", unix.SYS_STATX: "statx", unix.SYS_ACCEPT4: "accept4"} {
		if table[nr] != want {
			t.Errorf("call %d is named %q, not %q", nr, table[nr], want)
		}
	}
	for _, e := range strings.Fields(shownErrors + " " + victimErrors) {
		if n := errnoNumber(e); errnoName(n) != e {
			t.Errorf("error %s has number %d, which is named %s", e, n, errnoName(n))
		}
	}
	for _, bad := range []string{"a 0: b", "x: b", "600: b"} {
		if _, err := names(bad); err == nil {
			t.Errorf("table %q is taken", bad)
		}
	}
	if errnoName(4000) != "other" || errnoName(0) != "other" || errnoName(restart) != "ERESTART" {
		t.Error("errors outside the table are misnamed")
	}
}

func errnoNumber(name string) uint32 {
	for n := uint32(1); n <= lastErrno; n++ {
		if errnoName(n) == name {
			return n
		}
	}
	return 0
}

// What one system call costs without and with the probe. The difference is what Spec.Beside and the
// program's own statistics come to together.
func BenchmarkCall(b *testing.B) {
	storm := func(b *testing.B) {
		for range b.N {
			unix.RawSyscall(unix.SYS_GETPID, 0, 0, 0)
		}
	}
	b.Run("off", storm)
	probetest.Load(b, New(), probe.Options{})
	b.Run("on", storm)
}

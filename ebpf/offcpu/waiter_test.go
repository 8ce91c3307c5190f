package offcpu

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const waiterName = "sem-waiter"

// continueLater waits until a process is stopped, so that it is not continued before.
const continueLater = "while ! grep -q '^State:.*T' /proc/%d/status; do :; done; sleep %g; kill -CONT %d"

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "waiter:", err)
		os.Exit(1)
	}
}

// waiter is the child: a thread of a known name that waits as it is asked to.
func waiter(in *bufio.Scanner) {
	runtime.GOMAXPROCS(8)
	done := make(chan struct{})
	go onThread(func() {
		defer close(done)
		fmt.Println("ready")
		for in.Scan() {
			check(json.NewEncoder(os.Stdout).Encode(do(in.Text())))
		}
	})
	<-done
}

// onThread runs f on a thread that is not the process's first, whose name would count for all.
func onThread(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() != os.Getpid() {
		f()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		onThread(f)
	}()
	<-done
}

func rename(to string) {
	name, err := unix.BytePtrFromString(to)
	check(err)
	check(unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(name)), 0, 0, 0))
}

// do waits n times for each, bearing the name only meanwhile.
func do(what string) did {
	const n, each = 10, 15 * time.Millisecond
	wait, err := waits(what, n, each)
	if err != nil {
		return did{Skip: err.Error()}
	}
	var d did
	rename(waiterName)
	before, start := runDelay(), time.Now()
	for range n {
		check(wait())
	}
	d.Took, d.RunDelay = time.Since(start), runDelay()-before
	rename("other")
	d.Meant = n * each
	return d
}

// later makes something happen each time it is asked to, so much later.
func later(each time.Duration, f func()) func() {
	ask := make(chan struct{}, 1)
	go func() {
		for range ask {
			time.Sleep(each)
			f()
		}
	}()
	return func() { ask <- struct{}{} }
}

func waits(what string, n int, each time.Duration) (func() error, error) {
	ts := unix.NsecToTimespec(int64(each))
	switch what {
	case "nanosleep":
		return func() error { return again(func() error { return unix.Nanosleep(&ts, &ts) }) }, nil
	case "futex":
		word := new(uint32)
		return func() error {
			return timedOut(call(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), 0, 0, uintptr(unsafe.Pointer(&ts))))
		}, nil
	case "poll":
		return func() error { _, err := unix.Poll(nil, int(each.Milliseconds())); return err }, nil
	case "sleep": // a signal that does not come
		set := unix.Sigset_t{}
		return func() error {
			return timedOut(call(unix.SYS_RT_SIGTIMEDWAIT, uintptr(unsafe.Pointer(&set)), 0, uintptr(unsafe.Pointer(&ts)), 8))
		}, nil
	case "read", "write":
		return pipeWait(what == "write", each)
	case "accept":
		return acceptWait(each)
	case "wait":
		return func() error {
			p, err := os.StartProcess("/bin/sleep", []string{"sleep", fmt.Sprint(each.Seconds())}, &os.ProcAttr{})
			if err != nil {
				return err
			}
			var status unix.WaitStatus
			return again(func() error { _, err := unix.Wait4(p.Pid, &status, 0, nil); return err })
		}, nil
	case "stopped":
		self := os.Getpid()
		return func() error {
			p, err := os.StartProcess("/bin/sh", []string{"sh", "-c", fmt.Sprintf(continueLater, self, each.Seconds(), self)}, &os.ProcAttr{})
			if err != nil {
				return err
			}
			if err := unix.Kill(self, unix.SIGSTOP); err != nil {
				return err
			}
			_, err = p.Wait()
			return err
		}, nil
	case "io":
		return ioWait()
	case "runnable":
		return spinWait(n)
	}
	return nil, fmt.Errorf("no wait %q", what)
}

func again(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

func call(nr, a, b, c, d uintptr) error {
	_, _, errno := unix.Syscall6(nr, a, b, c, d, 0, 0)
	return errno
}

// timedOut is content with a wait that ended as it should.
func timedOut(err error) error {
	if err == unix.ETIMEDOUT || err == unix.EAGAIN || err == unix.EINTR {
		return nil
	}
	return err
}

// pipeWait reads from a pipe that is empty, or writes to one that is full, until another thread acts.
func pipeWait(write bool, each time.Duration) (func() error, error) {
	var fd [2]int
	if err := unix.Pipe2(fd[:], 0); err != nil {
		return nil, err
	}
	buf := make([]byte, 4096)
	size, err := unix.FcntlInt(uintptr(fd[1]), unix.F_GETPIPE_SZ, 0)
	if err != nil {
		return nil, err
	}
	if !write {
		ask := later(each, func() { _, _ = unix.Write(fd[1], buf[:1]) })
		return func() error { ask(); _, err := unix.Read(fd[0], buf); return err }, nil
	}
	if _, err := unix.Write(fd[1], make([]byte, size)); err != nil {
		return nil, err
	}
	ask := later(each, func() { _, _ = unix.Read(fd[0], make([]byte, 4096)) })
	return func() error { ask(); _, err := unix.Write(fd[1], buf); return err }, nil
}

func acceptWait(each time.Duration) (func() error, error) {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Bind(s, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return nil, err
	}
	if err := unix.Listen(s, 16); err != nil {
		return nil, err
	}
	at, err := unix.Getsockname(s)
	if err != nil {
		return nil, err
	}
	to := fmt.Sprintf("127.0.0.1:%d", at.(*unix.SockaddrInet4).Port)
	ask := later(each, func() {
		if c, err := net.Dial("tcp4", to); err == nil {
			c.Close()
		}
	})
	return func() error {
		ask()
		return again(func() error {
			fd, _, err := unix.Accept(s)
			if err == nil {
				unix.Close(fd)
			}
			return err
		})
	}, nil
}

// ioWait reads from a disk past the page cache.
func ioWait() (func() error, error) {
	f, err := os.CreateTemp("/var/tmp", "offcpu")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	const size = 16 << 20
	if _, err := f.Write(make([]byte, size)); err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	fd, err := unix.Open(f.Name(), unix.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return nil, fmt.Errorf("no direct I/O below /var/tmp: %w", err)
	}
	buf, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_POPULATE)
	if err != nil {
		return nil, err
	}
	return func() error { _, err := unix.Pread(fd, buf, 0); return err }, nil
}

// spinWait computes for 15 ms of CPU time on a CPU that a sibling keeps busy.
func spinWait(n int) (func() error, error) {
	var set unix.CPUSet
	set.Set(0)
	end := time.Now().Add(time.Duration(n) * 60 * time.Millisecond)
	go onThread(func() {
		check(unix.SchedSetaffinity(0, &set))
		for time.Now().Before(end) {
		}
	})
	check(unix.SchedSetaffinity(0, &set))
	return func() error {
		for start := cpuTime(); cpuTime()-start < 15*time.Millisecond; {
		}
		return nil
	}, nil
}

func cpuTime() time.Duration {
	var ts unix.Timespec
	check(unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts))
	return time.Duration(ts.Nano())
}

// runDelay is the time this thread has waited for a CPU.
func runDelay() time.Duration {
	b, err := os.ReadFile("/proc/thread-self/schedstat")
	check(err)
	var ran, delay int64
	_, err = fmt.Sscan(string(b), &ran, &delay)
	check(err)
	return time.Duration(delay)
}

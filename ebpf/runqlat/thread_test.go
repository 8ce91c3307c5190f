package runqlat

import (
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// rename names the calling thread.
func rename(to string) {
	name, err := unix.BytePtrFromString(to)
	check(err)
	check(unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(name)), 0, 0, 0))
}

// onThread runs f on a thread of its own that is not the process's first.
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

// pin holds a thread to one CPU; 0 is the caller's, which keeps its goroutine.
func pin(tid, cpu int) {
	if tid == 0 {
		runtime.LockOSThread()
	}
	var set unix.CPUSet
	set.Set(cpu)
	check(unix.SchedSetaffinity(tid, &set))
}

// oversleep sleeps and says how many ns too long.
func oversleep(d time.Duration) float64 {
	due := monotonic() + int64(d)
	ts := unix.NsecToTimespec(due)
	for {
		err := unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &ts, nil)
		if err == nil {
			return float64(monotonic() - due)
		}
		if err != unix.EINTR { // the runtime's own signals
			check(err)
		}
	}
}

func monotonic() int64 {
	var ts unix.Timespec
	check(unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts))
	return ts.Nano()
}

// schedstat gives the time this thread waited for a CPU, and how often it got one.
func schedstat() (delay, slices uint64) {
	b, err := os.ReadFile("/proc/thread-self/schedstat")
	check(err)
	var ran uint64
	_, err = fmt.Sscan(string(b), &ran, &delay, &slices)
	check(err)
	return delay, slices
}

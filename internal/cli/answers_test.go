package cli

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// answerRole makes the test binary a server of one connection, which does a millisecond of "work" or "sleep"
// for each answer, on its first thread. It ends with its standard input.
const answerRole = "SEMANTOS_TEST_ANSWER"

// onFirstThread calls fn on the process's first thread: /proc/PID/timerslack_ns is that one's. Whoever sits on
// another keeps it, so that the next goroutine gets one that is left.
func onFirstThread(fn func() int) (code int) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		return fn()
	}
	done := make(chan struct{})
	go func() { defer close(done); code = onFirstThread(fn) }()
	<-done
	return code
}

func answerOnly() int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fmt.Println(l.Addr().(*net.TCPAddr).Port)
	c, err := l.Accept()
	if err != nil {
		return 1
	}
	buf := make([]byte, 64)
	for {
		if _, err := c.Read(buf); err != nil {
			return 0
		}
		if os.Getenv(answerRole) == "work" {
			work(time.Millisecond)
		} else {
			_ = unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil)
		}
		if _, err := c.Write([]byte("yes")); err != nil {
			return 0
		}
	}
}

// work keeps the thread's CPU busy for d of its own time.
func work(d time.Duration) {
	used := func() time.Duration {
		var ts unix.Timespec
		_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts)
		return time.Duration(ts.Nano())
	}
	for end := used() + d; used() < end; {
	}
}

// answerer starts such a server in a process of its own and asks it after each pause until the test ends.
// ready is called with its pid before it is asked.
func answerer(t *testing.T, how string, pause time.Duration, ready func(pid int)) (pid int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = []string{answerRole + "=" + how}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	var port int
	if _, err := fmt.Fscan(out, &port); err != nil {
		t.Fatal(err)
	}
	if ready != nil {
		ready(cmd.Process.Pid)
	}
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 64)
		for {
			if _, err := c.Write([]byte("please")); err != nil {
				return
			}
			if _, err := c.Read(buf); err != nil {
				return
			}
			time.Sleep(pause)
		}
	}()
	return cmd.Process.Pid
}

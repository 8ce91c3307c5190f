package recognise_test

import (
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestChild is the program of another process of these tests; by itself it does nothing.
func TestChild(t *testing.T) {
	kind := os.Getenv("RECOGNISE_CHILD")
	if kind == "" {
		t.Skip("only a child of another test runs it")
	}
	if err := os.WriteFile("/proc/self/comm", []byte(kind), 0o600); err != nil { // of the first thread
		t.Fatal(err)
	}
	parent := os.Getppid()
	alive := func() bool { return os.Getppid() == parent }
	switch kind {
	case "compute":
		for range runtime.NumCPU() {
			go multiply()
		}
		for alive() {
			time.Sleep(time.Second)
		}
	case "audio":
		play(t, alive)
	case "send":
		send(t, os.Getenv("RECOGNISE_PORT"), alive)
	}
}

// multiply multiplies matrices for ever.
func multiply() {
	const n = 300
	var a, b, c [n][n]float64
	for i := range n {
		for j := range n {
			a[i][j], b[i][j] = float64(i-j), float64(i+j)
		}
	}
	for {
		for i := range n {
			for k := range n {
				for j := range n {
					c[i][j] += a[i][k] * b[k][j]
				}
			}
		}
	}
}

// play wakes a real-time thread every 5 ms for a little work, as an audio server's does.
func play(t *testing.T, alive func() bool) {
	runtime.LockOSThread()
	attr, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	attr.Policy, attr.Priority = 1, 10 // SCHED_FIFO
	if err := unix.SchedSetAttr(0, attr, 0); err != nil {
		t.Fatal(err)
	}
	samples := make([]float64, 4096)
	for alive() {
		for i := range samples {
			samples[i] = 0.5*samples[i] + 0.1
		}
		_ = unix.Nanosleep(&unix.Timespec{Nsec: 5e6}, nil) // a signal only makes it earlier
	}
}

// send sends small datagrams in bursts.
func send(t *testing.T, port string, alive func() bool) {
	c, err := net.Dial("udp4", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := make([]byte, 200)
	for alive() {
		for range 20 {
			_, _ = c.Write(b) // nobody listens yet
		}
		time.Sleep(5 * time.Millisecond)
	}
}

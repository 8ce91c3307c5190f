package telemetry_test

import (
	"io"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"semantos/internal/host"
	"semantos/internal/tune"
	"semantos/telemetry"
)

// TestProcessTraffic: what goes to a listener of this process is its, with the true number of bytes.
func TestProcessTraffic(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("who holds a socket is seen by root")
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.Copy(io.Discard, c) // ends with the client
	}()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	u, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9126})
	if err != nil {
		t.Skipf("port 9126 is taken: %v", err)
	}
	defer u.Close()

	h := host.New(host.Config{})
	defer h.Close()
	now := time.Now()
	s, err := telemetry.New(telemetry.Config{Host: h, Limits: telemetry.Limits{Processes: 1000}, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const size, chunks = 1 << 16, 32
	for i := range 3 {
		if err := s.Tick(t.Context()); err != nil {
			t.Fatal(err)
		}
		now = now.Add(4 * time.Second)
		if i == 1 { // by then both ends and their owners are known
			for range chunks {
				if _, err := c.Write(make([]byte, size)); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	for _, p := range s.Snapshot().Entities[tune.EntityProcess] {
		if p.Labels["pid"] != strconv.Itoa(os.Getpid()) {
			continue
		}
		if got := p.Signals["process.tcp_recv_bytes.total"]; got != size*chunks {
			t.Errorf("received %v bytes, not %d", got, size*chunks)
		}
		if got := p.Signals["process.tcp_segment_bytes"]; got < 1000 {
			t.Errorf("a segment has %v bytes", got)
		}
		if p.Signals["process.udp_bound.last"] != 1 || p.Labels["udp_netns"] == "" {
			t.Errorf("%v UDP sockets in %q", p.Signals["process.udp_bound.last"], p.Labels["udp_netns"])
		}
		return
	}
	t.Error("this process was not seen")
}

package reqlat

import (
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"semantos/ebpf/probe"
	"semantos/ebpf/probetest"
	"semantos/internal/host/hosttest"
)

// frame is the length of every request and of every answer, unless a test says otherwise.
const frame = 64

// server is a listener in a namespace of its own, and the subject its requests belong to.
type server struct {
	t    *testing.T
	ns   *hosttest.Namespace
	ln   net.Listener
	addr string
	id   string
}

// listen opens a port (0: any) and serves each connection with handle in a goroutine of its own.
func listen(t *testing.T, ns *hosttest.Namespace, port int, handle func(net.Conn)) *server {
	t.Helper()
	s := &server{t: t, ns: ns}
	var err error
	ns.Do(func() { s.ln, err = net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port)) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.ln.Close() })
	s.addr = s.ln.Addr().String()
	s.id = fmt.Sprintf("netns:%d/tcp/%d/%s", ns.Inode, s.ln.Addr().(*net.TCPAddr).Port, ownComm(t))
	if handle != nil {
		go func() {
			for {
				c, err := s.ln.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					handle(c)
				}()
			}
		}()
	}
	return s
}

func (s *server) port() uint16 { return uint16(s.ln.Addr().(*net.TCPAddr).Port) }

func ownComm(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// dial connects from inside the server's namespace; from is the local port, 0 any.
func (s *server) dial(from int) net.Conn {
	s.t.Helper()
	var c net.Conn
	var err error
	d := net.Dialer{Timeout: 5 * time.Second}
	if from >= 0 {
		d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: from}
	}
	s.ns.Do(func() { c, err = d.Dial("tcp4", s.addr) })
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

// answering reads a request of size bytes and answers it after a delay, over and over.
func answering(size int, delay func() time.Duration) func(net.Conn) {
	return func(c net.Conn) {
		in, out := make([]byte, size), make([]byte, frame)
		for {
			if _, err := io.ReadFull(c, in); err != nil {
				return
			}
			if d := delay(); d > 0 {
				time.Sleep(d)
			}
			if _, err := c.Write(out); err != nil {
				return
			}
		}
	}
}

func at(d time.Duration) func() time.Duration { return func() time.Duration { return d } }

// ask sends a request, in pieces with gaps when there are several, and gives the time from its first
// byte to the first byte of the answer.
func ask(c net.Conn, gap time.Duration, pieces ...[]byte) (time.Duration, error) {
	start := time.Now()
	for i, p := range pieces {
		if i > 0 {
			time.Sleep(gap)
		}
		if _, err := c.Write(p); err != nil {
			return 0, err
		}
	}
	in := make([]byte, frame)
	if _, err := io.ReadFull(c, in[:1]); err != nil {
		return 0, err
	}
	took := time.Since(start)
	_, err := io.ReadFull(c, in[1:])
	return took, err
}

// openLoop asks n times at a fixed rate, however long the answers take, and gives what the client saw.
func openLoop(t *testing.T, n, perSecond int, once func() (time.Duration, error)) []time.Duration {
	t.Helper()
	var mu sync.Mutex
	var all []time.Duration
	var wg sync.WaitGroup
	start := time.Now()
	for i := range n {
		time.Sleep(time.Until(start.Add(time.Duration(i) * time.Second / time.Duration(perSecond))))
		wg.Go(func() {
			d, err := once()
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			all = append(all, d)
			mu.Unlock()
		})
	}
	wg.Wait()
	slices.Sort(all)
	return all
}

// pool keeps connections open and lends each to one request at a time.
type pool struct{ idle chan net.Conn }

func newPool(s *server, n int) *pool {
	p := &pool{make(chan net.Conn, n)}
	for range n {
		p.idle <- s.dial(-1)
	}
	return p
}

func (p *pool) ask(gap time.Duration, pieces ...[]byte) (time.Duration, error) {
	c := <-p.idle
	defer func() { p.idle <- c }()
	return ask(c, gap, pieces...)
}

// near holds the bound of the house: 10 % or 100 us.
func near(got, want float64) bool { return math.Abs(got-want) <= max(0.1*want, 100e3) }

// quantile of sorted times.
func quantile(sorted []time.Duration, q float64) float64 {
	return float64(sorted[min(int(q*float64(len(sorted))), len(sorted)-1)])
}

// settle waits until the server's count has grown by want since before: the answer may reach the client
// before the program that counts it has ended.
func settle(t *testing.T, p *probe.Probe, id string, want int, before *probetest.Readings) *probetest.Readings {
	t.Helper()
	base, _ := before.Value(id, count)
	var now *probetest.Readings
	for deadline := time.Now().Add(time.Second); ; time.Sleep(5 * time.Millisecond) {
		now = probetest.Read(t, p)
		if got, _ := now.Value(id, count); int(got-base) >= want || time.Now().After(deadline) {
			return now
		}
	}
}

func grown(id string, now, before *probetest.Readings) int {
	b, _ := before.Value(id, count)
	n, _ := now.Value(id, count)
	return int(n - b)
}

package reqlat

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"semantos/ebpf/probe"
	"semantos/ebpf/probetest"
	"semantos/internal/host/hosttest"
)

// nginx serves a file of size bytes on port 8088 of a namespace of its own, and /back from port 8089.
func nginx(t testing.TB, workers, size int) *hosttest.Namespace {
	t.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil {
		t.Skip("nginx is not installed")
	}
	ns := hosttest.FreshNetns(t)
	dir := t.TempDir()
	conf := fmt.Sprintf(`daemon off; user root; worker_processes %d; pid %s/pid; error_log %s/error.log;
events { worker_connections 1024; }
http { access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000;
  client_body_temp_path %s; proxy_temp_path %s; fastcgi_temp_path %s; uwsgi_temp_path %s; scgi_temp_path %s;
  server { listen 127.0.0.1:8088; root %s;
  location /back { proxy_pass http://127.0.0.1:8089; proxy_http_version 1.1; } } }`, workers, dir, dir, dir, dir, dir, dir, dir, dir)
	for name, text := range map[string]string{"nginx.conf": conf, "file": strings.Repeat("x", size)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-c", filepath.Join(dir, "nginx.conf"), "-p", dir)
	ns.Do(func() { err = cmd.Start() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(unix.SIGTERM)
		cmd.Wait()
	})
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		var c net.Conn
		ns.Do(func() { c, err = net.Dial("tcp4", "127.0.0.1:8088") })
		if err == nil {
			c.Close()
			return ns
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// get asks for a path and gives the time to the first byte of the answer, which it reads to its end.
func get(c *bufio.ReadWriter, path string) (time.Duration, error) {
	start := time.Now()
	if _, err := c.Write([]byte("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		return 0, err
	}
	if err := c.Flush(); err != nil {
		return 0, err
	}
	if _, err := c.Peek(1); err != nil {
		return 0, err
	}
	took := time.Since(start)
	length := 0
	for {
		line, err := c.ReadString('\n')
		if err != nil {
			return 0, err
		}
		if strings.HasPrefix(line, "HTTP/") && !strings.Contains(line, " 200 ") {
			return 0, fmt.Errorf("ask nginx: %s", line)
		}
		if after, ok := strings.CutPrefix(line, "Content-Length: "); ok {
			if length, err = strconv.Atoi(strings.TrimSpace(after)); err != nil {
				return 0, err
			}
		}
		if line == "\r\n" {
			_, err = c.Discard(length)
			return took, err
		}
	}
}

// slowBack is the server behind nginx, which takes 3 ms.
func slowBack(t *testing.T, ns *hosttest.Namespace) {
	t.Helper()
	var back net.Listener
	var err error
	ns.Do(func() { back, err = net.Listen("tcp4", "127.0.0.1:8089") })
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		http.Serve(back, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(3 * time.Millisecond)
			w.Write(make([]byte, 100))
		}))
	}()
	t.Cleanup(func() { back.Close(); <-served })
}

// TestNginx: an application nobody changed. It sends files with sendfile(2), and asks a server behind it,
// whose client it is. Its workers are one server.
func TestNginx(t *testing.T) {
	ns := nginx(t, 2, 300_000)
	slowBack(t, ns)
	p := probetest.Load(t, New(), probe.Options{Scope: probe.Scope{Comm: "nginx", Netns: uint32(ns.Inode)}})
	id := fmt.Sprintf("netns:%d/tcp/8088/nginx", ns.Inode)
	clients := make(chan *bufio.ReadWriter, 4)
	for range cap(clients) {
		var c net.Conn
		var err error
		ns.Do(func() { c, err = net.Dial("tcp4", "127.0.0.1:8088") })
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		clients <- bufio.NewReadWriter(bufio.NewReader(c), bufio.NewWriter(c))
	}
	const n = 150
	rounds := func(path string, agree func(h probe.Hist, seen []time.Duration) bool) {
		for try := 1; ; try++ {
			before := probetest.Read(t, p)
			seen := openLoop(t, n, 300, func() (time.Duration, error) {
				c := <-clients
				defer func() { clients <- c }()
				return get(c, path)
			})
			now := settle(t, p, id, n, before)
			h := now.Hist(id, latency, before)
			if got := grown(id, now, before); got != n || h.Count() != n {
				t.Fatalf("%s: %d requests counted, %d latencies, of %d", path, got, h.Count(), n)
			}
			if len(now.Subjects) != 2 { // the host and nginx
				t.Fatalf("%s: servers %v", path, now.Subjects)
			}
			t.Logf("%s: p50 %.0f us, the client's %.0f us; p95 %.0f us, the client's %.0f us", path,
				h.Quantile(.5)/1e3, quantile(seen, .5)/1e3, h.Quantile(.95)/1e3, quantile(seen, .95)/1e3)
			if agree(h, seen) {
				return
			}
			if try == attempts {
				t.Fatalf("%s: latency is not what the client saw", path)
			}
		}
	}
	rounds("/back", func(h probe.Hist, seen []time.Duration) bool {
		return h.Quantile(.5) > 3e6 && near(h.Quantile(.5), quantile(seen, .5)) && near(h.Quantile(.95), quantile(seen, .95))
	})
	// Reading a file takes less time than waking the client does, so of this only the count is exact.
	rounds("/file", func(h probe.Hist, seen []time.Duration) bool {
		return h.Quantile(.5) > 0 && h.Quantile(.5) < quantile(seen, .5)
	})
}

// BenchmarkNginx reports what the probe costs while wrk asks nginx as fast as it can: per event and
// request, and as a share of all CPUs at 20000 requests/s. The kernel's statistics read the clock around
// every program, and one of these readings is in each figure; what an empty program takes is subtracted
// for the net figures.
func BenchmarkNginx(b *testing.B) {
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		b.Skip("wrk is not installed")
	}
	ns := nginx(b, 1, 600)
	for _, c := range []struct{ name, header string }{{"keepalive", "Connection: keep-alive"}, {"connection per request", "Connection: close"}} {
		b.Run(c.name, func(b *testing.B) {
			p := probetest.Load(b, New(), probe.Options{})
			stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
			if err != nil {
				b.Fatal(err)
			}
			defer stats.Close()
			before := load(b, p)
			for b.Loop() {
				cmd := exec.Command(wrk, "-t1", "-c16", "-d4s", "-H", c.header, "http://127.0.0.1:8088/file")
				var out []byte
				ns.Do(func() { out, err = cmd.CombinedOutput() })
				if err != nil {
					b.Fatalf("%v: %s", err, out)
				}
			}
			after := load(b, p)
			n := float64(after.requests - before.requests)
			spent, events := float64((after.Time - before.Time).Nanoseconds()), float64(after.Runs-before.Runs)
			net := spent - events*empty(b)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(n/b.Elapsed().Seconds(), "requests/s")
			b.ReportMetric(events/n, "events/request")
			b.ReportMetric(spent/events, "ns/event")
			b.ReportMetric(net/events, "net-ns/event")
			b.ReportMetric(spent/n*20000/1e7/float64(runtime.NumCPU()), "%CPUs@20k/s")
			b.ReportMetric(net/n*20000/1e7/float64(runtime.NumCPU()), "net-%CPUs@20k/s")
			perProgram(b)
		})
	}
}

type loadReading struct {
	probe.Cost
	requests uint64
}

func load(b *testing.B, p *probe.Probe) loadReading {
	b.Helper()
	c, err := p.Cost()
	if err != nil {
		b.Fatal(err)
	}
	t, err := Totals(p)
	if err != nil {
		b.Fatal(err)
	}
	return loadReading{c, t.Count}
}

// empty is what the statistics say of a program that does nothing, ns.
func empty(b *testing.B) float64 {
	b.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: "sys_enter",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}, License: "GPL"})
	if err != nil {
		b.Fatal(err)
	}
	defer prog.Close()
	l, err := link.AttachTracing(link.TracingOptions{Program: prog})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	for range 200000 {
		unix.Getppid()
	}
	s, err := prog.Stats()
	if err != nil {
		b.Fatal(err)
	}
	return float64(s.Runtime.Nanoseconds()) / float64(s.RunCount)
}

// perProgram logs the newest programs of each name.
func perProgram(b *testing.B) {
	newest := map[string]string{}
	for id := ebpf.ProgramID(0); ; {
		var err error
		if id, err = ebpf.ProgramGetNextID(id); err != nil {
			break
		}
		prog, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue
		}
		info, err := prog.Info()
		if err != nil {
			continue
		}
		s, err := prog.Stats()
		prog.Close()
		if err != nil || s.RunCount == 0 {
			continue
		}
		newest[info.Name] = fmt.Sprintf("%s: %.1f ns, %d runs, %d missed", info.Name,
			float64(s.Runtime.Nanoseconds())/float64(s.RunCount), s.RunCount, s.RecursionMisses)
	}
	for _, name := range []string{"arrive", "receive", early, late} {
		b.Log(newest[name])
	}
}

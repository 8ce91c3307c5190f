package cli

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"semantos/console"
	"semantos/internal/tune"
	"semantos/workloads/meter"
)

// slowServer answers every byte after a delay; a client asks it one after the other until the test ends.
func slowServer(t *testing.T, delay time.Duration) (port uint16) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 64)
				for {
					if _, err := c.Read(buf); err != nil {
						return
					}
					time.Sleep(delay)
					if _, err := c.Write([]byte("yes")); err != nil {
						return
					}
				}
			}()
		}
	}()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	go func() {
		buf := make([]byte, 64)
		for {
			if _, err := client.Write([]byte("please")); err != nil {
				return
			}
			if _, err := client.Read(buf); err != nil {
				return
			}
		}
	}()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

func newProbeMeter(t *testing.T, of meter.Traffic) (*ebpfMeter, *[]string) {
	t.Helper()
	a := &app{now: time.Now}
	a.cfg.UseEBPF = "auto"
	m := a.newEBPFMeter("ebpf:test", of)
	said := &[]string{}
	m.say = func(format string, args ...any) { *said = append(*said, format) }
	t.Cleanup(func() {
		if err := a.close(); err != nil {
			t.Error(err)
		}
	})
	return m, said
}

// TestProbeMeterMeasures a server by its port while another, slower one is not counted.
func TestProbeMeterMeasures(t *testing.T) {
	t.Parallel()
	const delay = 10 * time.Millisecond
	slowServer(t, 40*time.Millisecond)
	m, said := newProbeMeter(t, meter.Traffic{Port: slowServer(t, delay)})
	if err := m.Check(t.Context()); errors.Is(err, tune.ErrNotPermitted) || errors.Is(err, tune.ErrUnsupported) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	s, err := m.Sample(t.Context(), 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("median %.2f ms, p95 %.2f ms, %.0f requests a second", s.MedianMS, s.P95MS, s.Throughput)
	// A sleep ends late on a busy machine, never early.
	if s.MedianMS < 9.5 || s.MedianMS > 30 || s.P95MS < s.MedianMS {
		t.Errorf("median %.2f ms, p95 %.2f ms, want about 10", s.MedianMS, s.P95MS)
	}
	// One request at a time: as many fit as the latency says.
	if fit := s.Throughput * s.MedianMS / 1000; fit < 0.5 || fit > 1.2 || s.Value != nil {
		t.Errorf("%.0f requests a second of %.2f ms each", s.Throughput, s.MedianMS)
	}
	if len(*said) > 0 {
		t.Errorf("said %q of a server that listens", *said)
	}
}

func TestProbeMeterWithoutRequests(t *testing.T) {
	t.Parallel()
	m, said := newProbeMeter(t, meter.Traffic{Comm: "no-such-server"})
	if err := m.Check(t.Context()); errors.Is(err, tune.ErrNotPermitted) || errors.Is(err, tune.ErrUnsupported) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	if len(*said) != 1 {
		t.Errorf("nobody says that there is no such process: %q", *said)
	}
	if _, err := m.Sample(t.Context(), 200*time.Millisecond); !errors.Is(err, tune.ErrNoData) {
		t.Errorf("nothing seen: %v", err)
	}
}

func TestProbeMeterRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		of    meter.Traffic
		mode  string
		root  string
		want  error
		words string
	}{
		"off":              {meter.Traffic{Port: 80}, "off", "", tune.ErrUnsupported, "USE_EBPF=off"},
		"another root":     {meter.Traffic{Port: 80}, "auto", "/tmp/x", tune.ErrUnsupported, "ROOT"},
		"no such process":  {meter.Traffic{PID: 4194000}, "auto", "", tune.ErrGone, "4194000"},
		"no such cgroup":   {meter.Traffic{Cgroup: "/none/such"}, "auto", "", tune.ErrGone, "/none/such"},
		"no such netns":    {meter.Traffic{Netns: "none-such"}, "auto", "", tune.ErrGone, "none-such"},
		"netns not a path": {meter.Traffic{Netns: "../../proc/self/ns/net"}, "auto", "", tune.ErrGone, "namespace"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, _ := newProbeMeter(t, c.of)
			m.mode, m.root = c.mode, c.root
			err := m.Check(t.Context())
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.words) || tune.Hint(err) == "" {
				t.Errorf("%v, hint %q", err, tune.Hint(err))
			}
		})
	}
}

// TestServeRunsOnlyProbeMeters: what comes over HTTP starts no command and sends no request.
func TestServeRunsOnlyProbeMeters(t *testing.T) {
	t.Parallel()
	a := &app{now: time.Now, stderr: io.Discard}
	a.cfg.UseEBPF = "off"
	for spec, want := range map[string]error{
		"cmd:id": tune.ErrNotPermitted, "http:http://127.0.0.1/": tune.ErrNotPermitted, "prom:http://h/?query=up": tune.ErrNotPermitted,
		"ebpf:bla=1": tune.ErrUnknown, "ebpf:port=80": tune.ErrUnsupported, // USE_EBPF=off
	} {
		if m, _, err := a.serveMeter(t.Context(), console.ApplyRequest{Meter: spec}); m != nil || !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", spec, err, want)
		}
	}
	if _, _, err := a.serveMeter(t.Context(), console.ApplyRequest{Meter: "ebpf:port=80", ClientMeter: "cmd:x"}); !errors.Is(err, tune.ErrUsage) {
		t.Errorf("two meters: %v", err)
	}
	a.cfg.UseEBPF = "auto"
	m, done, err := a.serveMeter(t.Context(), console.ApplyRequest{Meter: "ebpf:comm=no-such-server"})
	if errors.Is(err, tune.ErrNotPermitted) || errors.Is(err, tune.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil || m == nil {
		t.Fatal(err)
	}
	if done(); len(a.closers) != 0 {
		t.Error("the meter of a request is kept until serve ends")
	}
}

func TestScopeOf(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "blue"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := scopeOf(meter.Traffic{Comm: "x", Port: 80, PID: os.Getpid(), Cgroup: "/a/b", Netns: "blue"}, dir, dir)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := inode(filepath.Join(dir, "a/b"))
	blue, _ := inode(filepath.Join(dir, "blue"))
	if s.Comm != "x" || s.Port != 80 || s.TGID != uint32(os.Getpid()) || s.Cgroup != b || s.Netns != uint32(blue) {
		t.Errorf("%+v", s)
	}
	if s, err = scopeOf(meter.Traffic{Netns: "4026531840"}, dir, dir); err != nil || s.Netns != 4026531840 {
		t.Errorf("%+v %v", s, err)
	}
}

package softirq

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"semantos/ebpf/probe"
	"semantos/ebpf/probetest"
	"semantos/internal/tune"
)

// TestAgainstProc floods the loopback and holds every vector's count against /proc/softirqs.
func TestAgainstProc(t *testing.T) {
	p := probetest.Load(t, New(), probe.Options{})
	counts := softirqs(t)
	before := probetest.Read(t, p)
	flood(t, time.Second)
	after := probetest.Read(t, p)
	counts2 := softirqs(t)
	for _, v := range vectors() {
		runs, waits := after.Hist("", timeName(v), before), after.Hist("", latencyName(v), before)
		want := counts2[v] - counts[v]
		t.Logf("%-8s %7d runs (kernel %7d) p50 %7.2f us; %7d waits p50 %7.2f us p99 %8.2f us", v, runs.Count(), want,
			runs.Quantile(.5)/1e3, waits.Count(), waits.Quantile(.5)/1e3, waits.Quantile(.99)/1e3)
		if want < 200 {
			continue
		}
		if r := float64(runs.Count()) / float64(want); r < 0.97 || r > 1.01 {
			t.Errorf("%s: counted %d runs, the kernel %d", v, runs.Count(), want)
		}
		if r := float64(waits.Count()) / float64(runs.Count()); r < 0.9 || r > 1.01 {
			t.Errorf("%s: %d waits for %d runs", v, waits.Count(), runs.Count())
		}
		if s, _ := after.Value("", shareName(v)); float64(after.Hist("", timeName(v)).Sum)/1e9 != s {
			t.Errorf("%s: %g seconds, the histogram's sum is another", v, s)
		}
	}
	if n := counts2["net_rx"] - counts["net_rx"]; n < 1000 {
		t.Errorf("the flood made %d NET_RX runs only; the test proves nothing", n)
	}
	if p.Lost() != 0 {
		t.Errorf("lost %d", p.Lost())
	}
}

// TestTime holds the time of all handlers against /proc/stat. The kernel may take that from some hundred
// ticks a second, and counts what surrounds the handlers too: three tries, and a wide gate.
func TestTime(t *testing.T) {
	p := probetest.Load(t, New(), probe.Options{})
	ratio := 0.0
	for range 3 {
		busy, before := statSoftirq(t), probetest.Read(t, p)
		flood(t, 2*time.Second)
		want, after := statSoftirq(t)-busy, probetest.Read(t, p)
		sum := 0.0
		for _, v := range vectors() {
			s, _ := after.Value("", shareName(v))
			b, _ := before.Value("", shareName(v))
			sum += s - b
		}
		ratio = sum / want.Seconds()
		t.Logf("handlers ran %.3f s; /proc/stat says %v", sum, want)
		if ratio > 0.6 && ratio < 1.5 {
			return
		}
	}
	t.Errorf("time in handlers is %.2f of what /proc/stat says", ratio)
}

// TestPause holds that a raise before a pause is no start for an entry after it.
func TestPause(t *testing.T) {
	p := probetest.Load(t, New(), probe.Options{})
	for range 10 {
		if err := p.Pause(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
		if err := p.Resume(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	got := probetest.Read(t, p)
	for _, v := range []string{"timer", "sched", "rcu"} {
		waits, runs := got.Hist("", latencyName(v)), got.Hist("", timeName(v))
		if over := float64(waits.Count()) - waits.Below(49e6); over > 0 {
			t.Errorf("%s: %v of %d waits are as long as the pause", v, over, waits.Count())
		}
		if over := float64(runs.Count()) - runs.Below(49e6); over > 0 {
			t.Errorf("%s: %v of %d runs are as long as the pause", v, over, runs.Count())
		}
	}
}

func TestNoScope(t *testing.T) {
	p, err := probe.Load(New(), probe.Options{Scope: probe.Scope{TGID: 1}})
	if err == nil {
		p.Close()
		t.Fatal("loaded with a scope that cannot hold")
	}
	if !errors.Is(err, tune.ErrUnsupported) {
		t.Error(err)
	}
}

// flood sends small pieces over a connection of this host with itself: each takes a soft interrupt to
// arrive, which also makes the acknowledgement.
func flood(t *testing.T, d time.Duration) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			_, _ = io.Copy(io.Discard, c)
			c.Close()
		}
	}()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	msg := make([]byte, 4096)
	for end := time.Now().Add(d); time.Now().Before(end); {
		if _, err := c.Write(msg); err != nil {
			t.Fatal(err)
		}
	}
}

// softirqs gives the kernel's count of handler runs by vector, all CPUs together.
func softirqs(t *testing.T) map[string]int {
	t.Helper()
	f, err := os.Open("/proc/softirqs")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := map[string]int{}
	for s := bufio.NewScanner(f); s.Scan(); {
		name, rest, ok := strings.Cut(s.Text(), ":")
		if !ok {
			continue
		}
		for _, n := range strings.Fields(rest) {
			v, err := strconv.Atoi(n)
			if err != nil {
				t.Fatal(err)
			}
			out[strings.ToLower(strings.TrimSpace(name))] += v
		}
	}
	return out
}

// statSoftirq gives the time all CPUs spent in soft interrupts, as /proc/stat has it (1/100 s).
func statSoftirq(t *testing.T) time.Duration {
	t.Helper()
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	var v [7]int
	if _, err := fmt.Sscanf(string(b), "cpu %d %d %d %d %d %d %d", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6]); err != nil {
		t.Fatal(err)
	}
	return time.Duration(v[6]) * 10 * time.Millisecond
}

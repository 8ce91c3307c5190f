package probe_test

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"semantos/ebpf/probe"
	"semantos/ebpf/probetest"
	"semantos/ebpf/runqlat"
	"semantos/ebpf/softirq"
)

// TestChurn lets many short processes come and go: what was kept of them goes with them.
func TestChurn(t *testing.T) {
	n := 5000
	if os.Getenv("SOAK") != "" {
		n = 100_000
	}
	p := probetest.Load(t, runqlat.New(), probe.Options{})
	processes(t, 500)
	count, memory, slab := probetest.Read(t, p), mapMemory(t), unreclaimable(t)
	start := time.Now()
	processes(t, n)
	took := time.Since(start)
	runs := probetest.Read(t, p)
	waits := uint64(0)
	for id := range runs.Subjects {
		for _, s := range p.Signals {
			waits += runs.Hist(id, s.Name, count).Count()
		}
	}
	t.Logf("%d processes in %v, %d waits", n, took, waits)
	if waits < uint64(n) {
		t.Errorf("%d waits of %d processes, each of which is started once at least", waits, n)
	}
	if p.Lost() != 0 {
		t.Errorf("lost %d", p.Lost())
	}
	if now := mapMemory(t); now != memory {
		t.Errorf("the maps take %d bytes, before %d", now, memory)
	}
	// One left element would take some 100 bytes of the kernel's memory; others on the host take of it too.
	if n >= 100_000 {
		grown := 0
		for range 10 {
			if grown = unreclaimable(t) - slab; grown < 8<<20 {
				return
			}
			time.Sleep(time.Second)
		}
		t.Errorf("the kernel's own memory grew by %d bytes", grown)
	}
}

// processes starts so many, one after the other.
func processes(t *testing.T, n int) {
	t.Helper()
	p, err := os.StartProcess("/bin/sh", []string{"sh", "-c", fmt.Sprintf("i=0; while [ $i -lt %d ]; do (:); i=$((i+1)); done", n)}, &os.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := p.Wait(); err != nil || !s.Success() {
		t.Fatal(s, err)
	}
}

// mapMemory is what the kernel says this process's maps take.
func mapMemory(t *testing.T) (sum int) {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fdinfo")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range d {
		sum += field(t, "/proc/self/fdinfo/"+e.Name(), "memlock:")
	}
	if sum == 0 {
		t.Fatal("no map says what it takes")
	}
	return sum
}

func unreclaimable(t *testing.T) int {
	t.Helper()
	return field(t, "/proc/meminfo", "SUnreclaim:") << 10
}

func field(t *testing.T, file, name string) int {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		return 0 // the descriptor of the listing itself
	}
	defer f.Close()
	v := 0
	for s := bufio.NewScanner(f); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), name); ok {
			if _, err := fmt.Sscan(rest, &v); err != nil {
				t.Fatal(err)
			}
		}
	}
	return v
}

// TestHotplug takes a CPU away and brings it back while probes are loaded.
func TestHotplug(t *testing.T) {
	const file = "/sys/devices/system/cpu/cpu1/online"
	if os.Getenv("SOAK") == "" {
		t.Skip("SOAK=1: takes CPU 1 from everybody for a moment, and who is held to it loses that")
	}
	if runtime.NumCPU() < 2 {
		t.Skip("needs two CPUs")
	}
	if b, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(b)) != "1" {
		t.Skipf("CPU 1 cannot be taken away: %q, %v", b, err)
	}
	probes := []*probe.Probe{probetest.Load(t, runqlat.New(), probe.Options{}), probetest.Load(t, softirq.New(), probe.Options{})}
	start := time.Now()
	if err := os.WriteFile(file, []byte("0"), 0); err != nil {
		t.Skip("CPU 1 cannot be taken away: ", err)
	}
	back := func() {
		if err := os.WriteFile(file, []byte("1"), 0); err != nil && !strings.HasPrefix(first(file), "1") {
			t.Error(err)
		}
	}
	t.Cleanup(back)
	var before, between, after []*probetest.Readings
	take := func(into *[]*probetest.Readings) {
		for _, p := range probes {
			*into = append(*into, probetest.Read(t, p))
		}
	}
	take(&before)
	processes(t, 100)
	take(&between)
	back()
	processes(t, 100)
	take(&after)
	longest := float64(time.Since(start))
	for i, p := range probes {
		one, two := 0.0, 0.0
		for _, s := range p.Signals {
			if !s.Histogram {
				continue
			}
			one += float64(between[i].Hist("", s.Name, before[i]).Count())
			two += float64(after[i].Hist("", s.Name, between[i]).Count())
			if h := after[i].Hist("", s.Name); float64(h.Count())-h.Below(uint64(longest*1.1)) > 0 {
				t.Errorf("%s: a value longer than the test", s.Name)
			}
		}
		t.Logf("%s: %v without the CPU, %v after it came back", p.Name, one, two)
		if one == 0 || two == 0 || p.Lost() != 0 {
			t.Errorf("%s: counted %v and %v, lost %d", p.Name, one, two, p.Lost())
		}
	}
}

func first(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

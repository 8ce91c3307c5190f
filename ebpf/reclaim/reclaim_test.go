package reclaim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"semantos/ebpf/probe"
	"semantos/ebpf/probetest"
)

const (
	limit = 32 << 20
	size  = 160 << 20
)

// TestMemoryCgroup reads a file through a cgroup too small for it and holds the time against the
// kernel's own account of the group's memory stalls (PSI), the pages against what had to go.
func TestMemoryCgroup(t *testing.T) {
	file := lay(t)
	enter := smallGroup(t)
	pressure := ownPressure(t)
	p := probetest.Load(t, New(), probe.Options{Scope: probe.Scope{TGID: uint32(os.Getpid())}})
	want := float64(size-limit) / float64(os.Getpagesize())
	oneCPU(t)
	var why string
	for range 5 { // where the reader waits for its CPU, the two need not agree
		before, psi := probetest.Read(t, p), stalls(t, pressure)
		enter(func() { readAll(t, file) })
		psi = stalls(t, pressure) - psi
		after := probetest.Read(t, p)
		h := after.Hist("", "mm.memcg_reclaim_us", before)
		pages := since(t, before, after, "mm.memcg_reclaim_pages")
		spent := since(t, before, after, "mm.memcg_reclaim")
		t.Logf("%d reclaims, p50 %.1f us, p95 %.1f us, %.2f ms in all, %.0f pages of %.0f that were too many; PSI %.2f ms", h.Count(),
			h.Quantile(.5)/1e3, h.Quantile(.95)/1e3, spent*1e3, pages, want, psi*1e3)
		if h.Count() == 0 || pages < .95*want || pages > 1.3*want { // it frees ahead of need, in batches
			t.Fatalf("%d reclaims of %.0f pages, %.0f had to go", h.Count(), pages, want)
		}
		if r := spent / psi; r >= .85 && r <= 1.15 {
			return
		}
		why = fmt.Sprintf("%.2f ms of reclaim, PSI says %.2f ms", spent*1e3, psi*1e3)
		t.Log(why)
	}
	t.Error(why)
}

// TestCompaction compacts all memory from here and holds the time against the own clock.
func TestCompaction(t *testing.T) {
	f, err := os.OpenFile("/proc/sys/vm/compact_memory", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	p := probetest.Load(t, New(), probe.Options{Scope: probe.Scope{TGID: uint32(os.Getpid())}})
	if slices.Contains(p.Missing, "mm_compaction_end") {
		t.Skip("this kernel has no such event")
	}
	var why string
	for range 5 { // first every CPU gives back the pages it holds, and the thread can lose its own
		before := probetest.Read(t, p)
		start := time.Now()
		if _, err := f.WriteString("1"); err != nil {
			t.Skip(err)
		}
		own := time.Since(start).Seconds()
		after := probetest.Read(t, p)
		spent := since(t, before, after, "mm.compaction")
		t.Logf("%d zones in %.2f ms; own clock %.2f ms", after.Hist("", "mm.compaction_us", before).Count(), spent*1e3, own*1e3)
		r := spent / own
		if r > 1.001 {
			t.Fatalf("compaction took %.3f of the call", r)
		}
		if r > .85 {
			return
		}
		why = fmt.Sprintf("compaction took %.3f of the call", r)
		t.Log(why)
	}
	t.Error(why)
}

func since(t *testing.T, before, after *probetest.Readings, name string) float64 {
	t.Helper()
	a, ok := after.Value("", name)
	b, _ := before.Value("", name)
	if !ok {
		t.Fatalf("no %s", name)
	}
	return a - b
}

// ownPressure moves the test into a cgroup of the unified hierarchy and names its account of stalls: of
// its CPUs, not of all the host's.
func ownPressure(t *testing.T) string {
	t.Helper()
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if _, err := os.Stat(root + "/cgroup.controllers"); err != nil {
			continue
		}
		if root == "/sys/fs/cgroup" { // the small group has its own
			return root + "/semantos-reclaim-test/memory.pressure"
		}
		dir, home := root+"/semantos-reclaim-test", root+homeOf(t, "")
		pid := []byte(strconv.Itoa(os.Getpid()))
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			t.Skip(err)
		}
		if err := os.WriteFile(dir+"/cgroup.procs", pid, 0); err != nil {
			t.Skip(err)
		}
		t.Cleanup(func() {
			if err := os.WriteFile(home+"/cgroup.procs", pid, 0); err != nil {
				t.Error(err)
			}
			os.Remove(dir)
		})
		return dir + "/memory.pressure"
	}
	t.Skip("no unified hierarchy of cgroups")
	return ""
}

// oneCPU keeps all threads of the test on one CPU: PSI weighs a stall by how many CPUs its group's threads
// keep busy, and those of the runtime would halve it.
func oneCPU(t *testing.T) {
	t.Helper()
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	for cpu := 0; one.Count() == 0; cpu++ {
		if all.IsSet(cpu) {
			one.Set(cpu)
		}
	}
	keep := func(on *unix.CPUSet) {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range threads {
			tid, err := strconv.Atoi(d.Name())
			if err != nil {
				t.Fatal(err)
			}
			if err := unix.SchedSetaffinity(tid, on); err != nil && !errors.Is(err, unix.ESRCH) {
				t.Fatal(err)
			}
		}
	}
	keep(&one)
	t.Cleanup(func() { keep(&all) })
}

// homeOf gives the path of this process's cgroup in a hierarchy; "" is the unified one.
func homeOf(t *testing.T, controller string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.SplitN(strings.TrimSpace(line), ":", 3); len(f) == 3 && f[1] == controller {
			return f[2]
		}
	}
	return "/"
}

// stalls gives the seconds some task was stalled for memory.
func stalls(t *testing.T, pressure string) float64 {
	t.Helper()
	b, err := os.ReadFile(pressure)
	if err != nil {
		t.Skip(err)
	}
	first, _, _ := strings.Cut(string(b), "\n")
	_, total, _ := strings.Cut(first, "total=")
	us, err := strconv.ParseFloat(total, 64)
	if err != nil {
		t.Fatal(err)
	}
	return us / 1e6
}

func readAll(t *testing.T, name string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1<<20)
	for {
		n, err := f.Read(b)
		if n == 0 || err != nil {
			return
		}
	}
}

func lay(t *testing.T) string {
	t.Helper()
	f, err := os.CreateTemp("/var/tmp", "semantos-reclaim-")
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { os.Remove(f.Name()) })
	defer f.Close()
	b := make([]byte, 1<<20)
	for range size >> 20 {
		if _, err := f.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// smallGroup makes a memory cgroup, of version 1 or 2; the function it gives runs another one in it.
// Memory is charged to the process's group, whatever thread asks.
func smallGroup(t *testing.T) func(func()) {
	t.Helper()
	root, name, max := "/sys/fs/cgroup/memory", "memory", "memory.limit_in_bytes"
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		root, name, max = "/sys/fs/cgroup", "", "memory.max"
	}
	dir := filepath.Join(root, "semantos-reclaim-test")
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(dir, max), []byte(strconv.Itoa(limit)), 0); err != nil {
		t.Skip(err)
	}
	home := root + homeOf(t, name)
	move := func(to string) {
		if err := os.WriteFile(to+"/cgroup.procs", []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
			t.Fatal(err)
		}
	}
	return func(do func()) {
		move(dir)
		defer move(home)
		do()
	}
}

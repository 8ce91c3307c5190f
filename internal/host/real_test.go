package host_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"semantos/internal/host"
	"semantos/internal/host/hosttest"
	"semantos/internal/tune"
)

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: writes tunables of this host")
	}
	hosttest.Alone(t)
}

// pairMember is one side of vm.dirty_bytes and vm.dirty_ratio.
func pairMember(name, other string) *tune.Tunable {
	m := number(name, strings.ReplaceAll(name, ".", "/"), tune.ScopeHost)
	m.Counterpart = other
	return m
}

// TestPairs runs alone: these are the tunables of the host itself.
func TestPairs(t *testing.T) {
	needsRoot(t)
	for _, side := range []string{"vm.dirty", "vm.dirty_background"} {
		t.Run(side, func(t *testing.T) {
			h := host.New(host.Config{})
			ratio, bytes := pairMember(side+"_ratio", side+"_bytes"), pairMember(side+"_bytes", side+"_ratio")
			lookup := func(name string) *tune.Tunable {
				return map[string]*tune.Tunable{ratio.Name: ratio, bytes.Name: bytes}[name]
			}
			was := map[string]tune.Value{}
			for _, m := range []*tune.Tunable{ratio, bytes} {
				v, err := h.Read(m, "host")
				if err != nil {
					t.Fatal(err)
				}
				was[m.Name] = v
			}
			t.Cleanup(func() {
				if _, err := h.RestorePair(bytes, "host", was[bytes.Name], was[ratio.Name]); err != nil {
					t.Error(err)
				}
			})
			if was[bytes.Name] != "0" {
				t.Skip("needs the ratio to be the active member")
			}
			beside := h.Beside(bytes, "host", lookup)
			if diff := cmp.Diff(map[string]tune.Value{ratio.Name: was[ratio.Name]}, beside); diff != "" {
				t.Error(diff)
			}
			if got, err := h.Write(bytes, "host", "268435456"); err != nil || got != "268435456" {
				t.Fatalf("write gave %q, %v", got, err)
			}
			if _, err := h.Restore(bytes, "host", "0"); !errors.Is(err, host.ErrRestoreCounterpart) {
				t.Errorf("restore gave %v", err)
			}
			if got, err := h.Restore(ratio, "host", beside[ratio.Name]); err != nil || got != was[ratio.Name] {
				t.Errorf("restore of the counterpart gave %q, %v", got, err)
			}
			if got, err := h.Restore(bytes, "host", "0"); err != nil || got != "0" {
				t.Errorf("restore after it gave %q, %v", got, err)
			}
			// Refused by the kernel: both members as before.
			if _, err := h.Write(bytes, "host", "0"); !errors.Is(err, tune.ErrOutOfRange) {
				t.Errorf("write of 0 gave %v", err)
			}
			for _, m := range []*tune.Tunable{ratio, bytes} {
				if v, err := h.Read(m, "host"); err != nil || v != was[m.Name] {
					t.Errorf("%s is %q, %v; was %q", m.Name, v, err, was[m.Name])
				}
			}
			// A pair of which neither is active.
			if _, err := h.Write(bytes, "host", "268435456"); err != nil {
				t.Fatal(err)
			}
			if got, err := h.RestorePair(bytes, "host", "0", "0"); err != nil || got != "0" {
				t.Errorf("restoring two zeros gave %q, %v", got, err)
			}
			if v, err := h.Read(ratio, "host"); err != nil || v != "0" {
				t.Errorf("ratio is %q, %v", v, err)
			}
		})
	}
}

func TestLatencyIsHeldAndDropped(t *testing.T) {
	needsRoot(t)
	tun := &tune.Tunable{Name: "dev/cpu_dma_latency", Scope: tune.ScopeHost, Method: tune.MethodDMALatency, Kind: tune.KindInteger, Arity: 1}
	h, other := host.New(host.Config{}), host.New(host.Config{})
	if c := h.Probe(tun, ""); !c.Present {
		t.Skip("needs /dev/cpu_dma_latency: " + c.Reason)
	}
	before, err := h.Read(tun, "")
	if err != nil || before != "none" {
		t.Skipf("needs that nobody asks for a latency: %q, %v", before, err)
	}
	for _, v := range []tune.Value{"50", "20"} {
		if got, err := h.Write(tun, "host", v); err != nil || got != v {
			t.Fatalf("write gave %q, %v", got, err)
		}
		if seen, err := other.Read(tun, "host"); err != nil || seen != v {
			t.Errorf("another process sees %q, %v; want %s", seen, err, v)
		}
	}
	// Another's stricter request holds beside ours, and restoring ours leaves it.
	if got, err := other.Write(tun, "host", "5"); err != nil || got != "5" {
		t.Errorf("stricter gave %q, %v", got, err)
	}
	if got, err := h.Write(tun, "host", "60"); err != nil || got != "5" {
		t.Errorf("looser gave %q, %v", got, err)
	}
	if got, err := h.Restore(tun, "host", before); err != nil || got != "5" {
		t.Errorf("restore gave %q, %v", got, err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if v, err := h.Read(tun, "host"); err != nil || v != before {
		t.Errorf("at the end it is %q, %v", v, err)
	}
	if _, err := h.Write(tun, "host", "-3"); !errors.Is(err, tune.ErrOutOfRange) {
		t.Errorf("negative gave %v", err)
	}
}

func TestCgroup(t *testing.T) {
	needsRoot(t)
	for _, c := range []struct {
		dir  string
		tun  *tune.Tunable
		v    tune.Value
		bad  tune.Value
		want tune.Value
	}{
		{"/sys/fs/cgroup/cpu", &tune.Tunable{Name: "cgroup/cpu.shares", Path: "cpu.shares", Kind: tune.KindInteger}, "512", "x", "512"},
		{"/sys/fs/cgroup/cpu", &tune.Tunable{Name: "cgroup/cpu.cfs_quota_us", Path: "cpu.cfs_quota_us", Kind: tune.KindInteger}, "50000", "3", "50000"},
		{"/sys/fs/cgroup/pids", &tune.Tunable{Name: "cgroup/pids.max", Path: "pids.max", Kind: tune.KindInteger}, "77", "-5", "77"},
		{"/sys/fs/cgroup/memory", &tune.Tunable{Name: "cgroup/memory.limit_in_bytes", Path: "memory.limit_in_bytes", Kind: tune.KindBytes}, "10000001", "no", "9998336"},
		{"/sys/fs/cgroup/unified", &tune.Tunable{Name: "cgroup/cgroup.max.depth", Path: "cgroup.max.depth", Kind: tune.KindInteger}, "7", "-7", "7"},
	} {
		t.Run(c.tun.Name, func(t *testing.T) {
			c.tun.Scope, c.tun.Method, c.tun.Arity = tune.ScopeCgroup, tune.MethodCgroup, 1
			group := fmt.Sprintf("/semantos-test-%d", os.Getpid())
			dir := c.dir + group
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Skipf("needs a place for a cgroup: %v", err)
			}
			t.Cleanup(func() { os.Remove(dir) })
			h := host.New(host.Config{})
			id, err := h.Identity(tune.ScopeCgroup, group)
			if err != nil || len(id) == 0 {
				t.Errorf("identity %v, %v", id, err)
			}
			before, err := h.Read(c.tun, group)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := h.Write(c.tun, group, c.v); err != nil || got != c.want {
				t.Errorf("write gave %q, %v; want %q", got, err, c.want)
			}
			if _, err := h.Write(c.tun, group, c.bad); !errors.Is(err, tune.ErrOutOfRange) {
				t.Errorf("write of %q gave %v", c.bad, err)
			}
			all, err := h.Targets(c.tun)
			if err != nil || !strings.Contains(strings.Join(all, "\n"), group) {
				t.Errorf("targets %v, %v", all, err)
			}
			if got, err := h.Restore(c.tun, group, before); err != nil || got != before {
				t.Errorf("restore gave %q, %v; want %q", got, err, before)
			}
			if err := os.Remove(dir); err != nil {
				t.Fatal(err)
			}
			if _, err := h.Read(c.tun, group); !errors.Is(err, tune.ErrGone) {
				t.Errorf("removed cgroup gave %v", err)
			}
		})
	}
}

func TestCgroupDenies(t *testing.T) {
	t.Parallel()
	h := host.New(host.Config{})
	for _, file := range []string{"cgroup.procs", "cgroup.kill", "release_agent", "../cpu.shares", "devices.allow"} {
		tun := &tune.Tunable{Name: "cgroup/x", Path: file, Scope: tune.ScopeCgroup, Method: tune.MethodCgroup}
		if _, err := h.Write(tun, "/", "1"); !errors.Is(err, tune.ErrDenied) && !errors.Is(err, tune.ErrUnsupported) {
			t.Errorf("%s gave %v", file, err)
		}
	}
	tun := &tune.Tunable{Name: "cgroup/pids.max", Path: "pids.max", Scope: tune.ScopeCgroup, Method: tune.MethodCgroup}
	for _, target := range []string{"", "relative", "/../../etc", "/a//b", "/a/."} {
		if _, err := h.Read(tun, target); err == nil {
			t.Errorf("target %q was read", target)
		}
	}
}

func TestDebugfsSaysWhyNot(t *testing.T) {
	needsRoot(t)
	tun := &tune.Tunable{Name: "sched/base_slice_ns", Path: "sched/base_slice_ns", Scope: tune.ScopeHost, Method: tune.MethodDebugfs, Kind: tune.KindInteger}
	c := host.New(host.Config{}).Probe(tun, "")
	if !c.Writable && c.Reason == "" || c.Writable && !c.Present {
		t.Errorf("probe says %+v", c)
	}
}

// TestNamespacesOfAChild enters the namespace of a process of its own, as a container is entered.
func TestNamespacesOfAChild(t *testing.T) {
	needsRoot(t)
	child := exec.Command("sleep", "60")
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := child.Start(); err != nil {
		t.Skipf("needs to start a process in a namespace: %v", err)
	}
	t.Cleanup(func() {
		_ = child.Process.Kill() // it may have ended already
		_ = child.Wait()         // and says that it was killed
	})
	h := host.New(host.Config{})
	somaxconn := number("net.core.somaxconn", "net/core/somaxconn", tune.ScopeNetns)
	own, err := h.Read(somaxconn, "self")
	if err != nil {
		t.Fatal(err)
	}
	target, err := h.Resolve(somaxconn, fmt.Sprintf("pid:%d", child.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := h.Write(somaxconn, target, "77"); err != nil || got != "77" {
		t.Errorf("write gave %q, %v", got, err)
	}
	if now, err := h.Read(somaxconn, ""); err != nil || now != own {
		t.Errorf("our own is %q, %v; was %q", now, err, own)
	}
	id, err := h.Identity(tune.ScopeNetns, target)
	if err != nil || id["cookie"] == "" || id["ino"] == "" {
		t.Errorf("identity %v, %v", id, err)
	}
	spaces, err := h.Namespaces()
	if err != nil || len(spaces) == 0 {
		t.Fatalf("namespaces %+v, %v", spaces, err)
	}
	for _, n := range spaces {
		if n.Target == target {
			t.Error("a namespace without a socket is listed")
		}
	}
}

// TestNothingElseMoves diffs every readable tunable of the namespace around a write of each class.
func TestNothingElseMoves(t *testing.T) {
	t.Parallel()
	h := host.New(host.Config{})
	port := &tune.Tunable{Name: "net.ipv4.ip_local_port_range", Path: "net/ipv4/ip_local_port_range", Arity: 2,
		Scope: tune.ScopeNetns, Method: tune.MethodSysctl, Kind: tune.KindVector, Of: tune.KindInteger}
	for _, c := range []struct {
		tun *tune.Tunable
		v   tune.Value
	}{
		{number("net.core.somaxconn", "net/core/somaxconn", tune.ScopeNetns), "99"},
		{number("net.ipv4.tcp_slow_start_after_idle", "net/ipv4/tcp_slow_start_after_idle", tune.ScopeNetns), "0"},
		{tcpRmem(), "4096 99999 999999"},
		{port, "20000 50001"},
		{&tune.Tunable{Name: "net.ipv4.tcp_congestion_control", Path: "net/ipv4/tcp_congestion_control",
			Scope: tune.ScopeNetns, Method: tune.MethodSysctl, Kind: tune.KindText}, "reno"},
	} {
		t.Run(c.tun.Name, func(t *testing.T) {
			t.Parallel()
			ns := hosttest.FreshNetns(t)
			before := everything(t, h, ns.Target)
			was, err := h.Read(c.tun, ns.Target)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := h.Write(c.tun, ns.Target, c.v); err != nil {
				t.Fatal(err)
			}
			after := everything(t, h, ns.Target)
			path := "/proc/sys/" + c.tun.Path
			if tune.Canonical(after[path]) != c.v {
				t.Errorf("%s reads %q", path, after[path])
			}
			after[path] = before[path]
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("something else moved:\n%s", diff)
			}
			if _, err := h.Restore(c.tun, ns.Target, was); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(before, everything(t, h, ns.Target)); diff != "" {
				t.Errorf("not the same bytes after restore:\n%s", diff)
			}
		})
	}
}

func everything(t *testing.T, h *host.Host, target string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := h.InNetns(target, func() error {
		for _, dir := range []string{"/proc/sys/net/ipv4", "/proc/sys/net/core"} {
			err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				if text, err := os.ReadFile(path); err == nil { // some are write-only
					out[path] = string(text)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || len(out) < 50 {
		t.Fatalf("read %d tunables: %v", len(out), err)
	}
	return out
}

package guard

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"semantos/internal/host"
	"semantos/internal/tune"
	"semantos/safety/journal"
	"semantos/safety/journal/journaltest"
)

// oneCatalogue has a single tunable and no invariant.
type oneCatalogue struct{ t *tune.Tunable }

func (c oneCatalogue) Lookup(name string) (*tune.Tunable, string, error) {
	if target, ok := c.t.Match(name); ok {
		return c.t, target, nil
	}
	return nil, "", fmt.Errorf("look up %s: %w", name, tune.ErrUnknown)
}

func (oneCatalogue) Invariants([]tune.Change, func(string, string) (tune.Value, error)) []error {
	return nil
}

// realBench is a bench whose kernel is the real one and whose disk is still in memory.
type realBench struct {
	*bench
	host *host.Host
	cat  Catalogue
}

func newRealBench(t *testing.T, cat Catalogue) *realBench {
	t.Helper()
	b := &realBench{bench: &bench{kernel: newFakeKernel(), disk: journaltest.New(), boot: "boot-1", data: "/data"}, host: host.New(host.Config{}), cat: cat}
	b.restart(t)
	return b
}

// restart is what the next command does.
func (b *realBench) restart(t *testing.T) Recovered {
	t.Helper()
	copies, err := journal.ReadCopies(b.disk, "/run")
	if err != nil {
		t.Fatal(err)
	}
	bk, s := journal.OpenBook(b.disk, b.data, "/run")
	b.guard = &engine{act: b.host, cat: b.cat, log: bk, disk: b.disk, run: "/run", data: b.data, boot: b.boot, now: time.Now, state: journal.Load(s, copies, b.data)}
	found, err := b.guard.recoverAll(copies, b.data, "/run")
	if err != nil {
		t.Fatalf("recovery: %v", err)
	}
	return found
}

// mortal is a target that can be taken away.
type mortal struct {
	target string
	end    func()
}

// mortalKind makes targets of one scope; a later one gets the name of an earlier where the kernel allows.
type mortalKind struct {
	tunable tune.Tunable
	value   tune.Value
	make    func(t *testing.T, name string) mortal
}

func mortals(dir string) map[string]mortalKind {
	return map[string]mortalKind{
		"namespace": {tune.Tunable{Name: "net.ipv4.tcp_fin_timeout", Scope: tune.ScopeNetns, Method: tune.MethodSysctl, Path: "net/ipv4/tcp_fin_timeout", Kind: tune.KindInteger}, "17", mortalNetns},
		"device":    {tune.Tunable{Name: "net/{device}/tx_queue_len", Scope: tune.ScopeDevice, Method: tune.MethodSysfs, Path: "class/net/{device}/tx_queue_len", Kind: tune.KindInteger}, "77", mortalDevice},
		"cgroup": {tune.Tunable{Name: "cgroup/memory.swappiness", Scope: tune.ScopeCgroup, Method: tune.MethodCgroup, Path: "memory.swappiness", Kind: tune.KindInteger}, "13",
			func(t *testing.T, name string) mortal { return mortalCgroup(t, dir, name) }},
		"process": {tune.Tunable{Name: "process/oom_score_adj", Scope: tune.ScopeProcess, Method: tune.MethodProcess, Path: "oom_score_adj", Kind: tune.KindInteger}, "500", mortalProcess},
		"socket":  {tune.Tunable{Name: "socket/listen_backlog", Scope: tune.ScopeSocket, Method: tune.MethodBacklog, Kind: tune.KindInteger}, "33", mortalSocket},
	}
}

func sleeper(t *testing.T, flags uintptr) (*exec.Cmd, func()) {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	if err := cmd.Start(); err != nil {
		t.Skipf("needs root: %v", err)
	}
	end := func() { _ = cmd.Process.Kill(); _ = cmd.Wait() } // the second call finds it dead
	t.Cleanup(end)
	return cmd, end
}

func mortalNetns(t *testing.T, _ string) mortal {
	cmd, end := sleeper(t, syscall.CLONE_NEWNET)
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return mortal{"netns:" + strings.Trim(link, "net:[]"), end}
}

func mortalProcess(t *testing.T, _ string) mortal {
	cmd, end := sleeper(t, 0)
	return mortal{fmt.Sprintf("pid:%d", cmd.Process.Pid), end}
}

// mortalDevice makes a device of the first kind that this kernel has.
func mortalDevice(t *testing.T, name string) mortal {
	if name == "" {
		name = "smtmortal0"
	}
	var said []string
	for _, how := range [][]string{{"link", "add", name, "type", "dummy"}, {"tuntap", "add", "dev", name, "mode", "tap"}, {"link", "add", name, "type", "bridge"}} {
		out, err := exec.Command("ip", how...).CombinedOutput()
		if err == nil {
			end := func() { _ = exec.Command("ip", "link", "del", name).Run() } // the second call finds it gone
			t.Cleanup(end)
			return mortal{name, end}
		}
		said = append(said, fmt.Sprintf("ip %v: %v %s", how, err, out))
	}
	t.Skipf("no network device can be made: %v", said)
	return mortal{}
}

func mortalCgroup(t *testing.T, dir, name string) mortal {
	if name == "" {
		name = fmt.Sprintf("/semantos-mortal-%d", os.Getpid())
	}
	path := filepath.Join(dir, name)
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Skipf("needs root and the memory controller of cgroup v1 at %s: %v", dir, err)
	}
	end := func() { _ = os.Remove(path) } // the second call finds it gone
	t.Cleanup(end)
	return mortal{name, end}
}

func mortalSocket(t *testing.T, name string) mortal {
	addr := "127.0.0.1:0"
	if name != "" {
		addr, _, _ = strings.Cut(strings.TrimPrefix(name, "tcp:"), ";")
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	end := func() { _ = l.Close() } // the second call finds it closed
	t.Cleanup(end)
	target, err := host.New(host.Config{}).Resolve(&tune.Tunable{Name: "socket/listen_backlog", Scope: tune.ScopeSocket, Method: tune.MethodBacklog}, "tcp:"+l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return mortal{target, end}
}

// again makes targets until one has the name of the first, which is gone: namespaces get the lowest free
// number, devices, cgroups and ports the name they ask for. It is false where the kernel does not give it.
func (k mortalKind) again(t *testing.T, first string) (mortal, bool) {
	var m mortal
	for range 8 {
		if m = k.make(t, first); m.target == first {
			return m, true
		}
		if k.tunable.Scope == tune.ScopeSocket {
			break // its cookie is in the name
		}
	}
	return m, false
}

// TestVanishedTargets: what a trial or a commit holds on a namespace, device, cgroup, process or socket that
// vanishes is let go as gone, named, without an error, and a successor that takes its name is never touched.
func TestVanishedTargets(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes namespaces, devices and cgroups")
	}
	for name, k := range mortals("/sys/fs/cgroup/memory") {
		for _, step := range []string{"trial", "between slots", "commit", "guard died"} {
			t.Run(name+" in "+step, func(t *testing.T) { vanishes(t, k, step) })
		}
	}
}

func vanishes(t *testing.T, k mortalKind, step string) {
	m := k.make(t, "")
	b := newRealBench(t, oneCatalogue{&k.tunable})
	change := []tune.Change{{Tunable: k.tunable.Instance(m.target), Target: m.target, Proposed: k.value}}
	got, err := b.guard.apply(t.Context(), "r1", change, "test")
	if err != nil {
		t.Fatal(err)
	}
	if got[0].ReadBack != k.value || got[0].Change.Current == k.value {
		t.Fatalf("applied %+v", got)
	}
	switch step {
	case "between slots":
		if _, err := b.guard.revert("r1"); err != nil {
			t.Fatal(err)
		}
	case "commit":
		if err := b.guard.commit(t.Context(), "r1"); err != nil {
			t.Fatal(err)
		}
	}
	m.end()
	waitGone(t, b.host, &k.tunable, m.target)
	next, same := k.again(t, m.target)
	if !same {
		t.Logf("the kernel gave the successor another name: %s, after %s", next.target, m.target)
	}
	// The successor stands at the very value that we had tried.
	if _, err := b.host.Write(&k.tunable, next.target, k.value); err != nil {
		t.Fatal(err)
	}
	var ended []Restored
	if step == "guard died" {
		ended = b.restart(t).Restored
	} else {
		if _, err := b.guard.apply(t.Context(), "r1", change, "test"); err == nil {
			t.Error("a vanished target was written again")
		}
		if ended, err = b.guard.rollback(t.Context(), "r1", "test"); err != nil {
			t.Errorf("rollback: %v", err)
		}
	}
	if step != "guard died" && b.guard.state.Rollouts["r1"].Entries[0].End != journal.Gone ||
		step == "guard died" && !slices.ContainsFunc(ended, func(r Restored) bool { return r.Outcome == Gone && r.Target == m.target && r.Detail != "" }) {
		t.Errorf("ended as %+v", ended)
	}
	if found := b.restart(t); len(found.Restored) != 0 {
		t.Errorf("a second recovery found %+v", found.Restored)
	}
	if v, err := b.host.Read(&k.tunable, next.target); err != nil || v != k.value {
		t.Errorf("the successor %s is at %q, %v: it was touched", next.target, v, err)
	}
}

// waitGone waits until the kernel has taken the target down, which it does behind our back.
func waitGone(t *testing.T, h *host.Host, tn *tune.Tunable, target string) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if _, err := h.Read(tn, target); err != nil {
			return
		}
		if time.Since(start) > 10*time.Second {
			t.Fatalf("%s is still there", target)
		}
	}
}

package guard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"semantos/internal/host"
	"semantos/internal/host/hosttest"
	"semantos/internal/tune"
)

// namedCatalogue has one tunable of each scope whose targets have names that can be borne twice.
type namedCatalogue struct{}

func (namedCatalogue) Lookup(name string) (*tune.Tunable, string, error) {
	for _, t := range []tune.Tunable{
		{Name: "net.ipv4.tcp_fin_timeout", Scope: tune.ScopeNetns, Method: tune.MethodSysctl, Path: "net/ipv4/tcp_fin_timeout", Kind: tune.KindInteger},
		{Name: "socket/listen_backlog", Scope: tune.ScopeSocket, Method: tune.MethodBacklog, Kind: tune.KindInteger},
		{Name: "process/oom_score_adj", Scope: tune.ScopeProcess, Method: tune.MethodProcess, Path: "oom_score_adj", Kind: tune.KindInteger},
		{Name: "vm.evil", Scope: tune.ScopeHost, Method: tune.MethodSysctl, Path: "vm/evil", Kind: tune.KindInteger},
		{Name: "vm.climbing", Scope: tune.ScopeHost, Method: tune.MethodSysctl, Path: "vm/../../../etc/secret", Kind: tune.KindInteger},
	} {
		if t.Name == name {
			return &t, "", nil
		}
	}
	return nil, "", fmt.Errorf("look up %s: %w", name, tune.ErrUnknown)
}

func (namedCatalogue) Invariants([]tune.Change, func(string, string) (tune.Value, error)) []error {
	return nil
}

// onKernel is an engine that acts on a real machine, with its journal in memory.
func onKernel(t *testing.T, h *host.Host) *engine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: changes namespaces, sockets and processes of its own")
	}
	g := newBench(t).guard
	g.act, g.cat = h, namedCatalogue{}
	return g
}

// refusal applies one change and wants an error of some kind, after which the value is read.
func refusal(t *testing.T, g *engine, rollout string, c tune.Change, want error) {
	t.Helper()
	if _, err := g.apply(t.Context(), rollout, []tune.Change{c}, "uid 61100"); !errors.Is(err, want) {
		t.Errorf("%s on %s: %v, want %v", c.Tunable, c.Target, err, want)
	}
}

// swapped has everything of a rollout put back after its target became another, and wants it left alone.
func swapped(t *testing.T, g *engine, rollout string) {
	t.Helper()
	out, err := g.rollback(t.Context(), rollout, "uid 0")
	if err != nil || len(out) != 1 || out[0].Outcome != Gone {
		t.Errorf("rollback: %+v, %v", out, err)
	}
}

// TestANamespaceThatIsNotWhatItNames: an inode without a namespace, and one that a later namespace bears.
func TestANamespaceThatIsNotWhatItNames(t *testing.T) {
	g := onKernel(t, host.New(host.Config{}))
	ns := hosttest.FreshNetns(t)
	c := tune.Change{Tunable: "net.ipv4.tcp_fin_timeout", Target: ns.Target, Proposed: "41"}
	for _, target := range []string{"netns:1", "netns:4026531836999"} {
		refusal(t, g, "r0", tune.Change{Tunable: c.Tunable, Target: target, Proposed: "41"}, tune.ErrGone)
	}
	refusal(t, g, "r0", tune.Change{Tunable: c.Tunable, Target: "/proc/1/ns/net", Proposed: "41"}, tune.ErrUsage)
	if _, err := g.apply(t.Context(), "r1", []tune.Change{c}, "uid 61100"); err != nil {
		t.Fatal(err)
	}
	// The kernel gives inodes again, and cookies never: another cookie is another namespace.
	g.state.Rollouts["r1"].Entries[0].Identity["cookie"] = "1"
	c.Proposed = "42"
	refusal(t, g, "r1", c, tune.ErrGone)
	swapped(t, g, "r1")
	var now []byte
	ns.Do(func() { now, _ = os.ReadFile("/proc/sys/net/ipv4/tcp_fin_timeout") })
	if strings.TrimSpace(string(now)) != "41" {
		t.Errorf("the other namespace has %s", now)
	}
}

// TestASocketThatIsNotWhatItNames: another cookie, port or namespace than the named; and a server that
// listens again on the same port.
func TestASocketThatIsNotWhatItNames(t *testing.T) {
	h := host.New(host.Config{})
	g := onKernel(t, h)
	ns, other := hosttest.FreshNetns(t), hosttest.FreshNetns(t)
	listen := func(port int) (l net.Listener, s host.SocketTarget, backlog func() uint32) {
		var err error
		ns.Do(func() { l, err = plainListen(port) })
		if err != nil {
			t.Fatal(err)
		}
		find := func() host.Listener {
			all, err := h.Listeners(ns.Target)
			if err != nil || len(all) != 1 {
				t.Fatalf("listeners %v, %v", all, err)
			}
			return all[0]
		}
		if s, err = host.ParseSocketTarget(find().Target); err != nil {
			t.Fatal(err)
		}
		return l, s, func() uint32 { return find().Backlog }
	}
	l, s, backlog := listen(0)
	before := backlog()
	wrong := map[string]host.SocketTarget{"cookie": s, "port": s, "namespace": s, "protocol": s}
	for what, w := range wrong {
		switch what {
		case "cookie":
			w.Cookie++
		case "port":
			w.Local = netip.AddrPortFrom(s.Local.Addr(), s.Local.Port()+1)
		case "namespace":
			w.Netns = other.Inode
		case "protocol":
			w.Proto = "udp"
		}
		refusal(t, g, "r0", tune.Change{Tunable: "socket/listen_backlog", Target: w.String(), Proposed: "64"}, tune.ErrGone)
	}
	for _, target := range []string{"fd:3", "/proc/1/fd/3", "pid:1"} {
		refusal(t, g, "r0", tune.Change{Tunable: "socket/listen_backlog", Target: target, Proposed: "64"}, tune.ErrUsage)
	}
	if backlog() != before {
		t.Errorf("a refused request changed the backlog to %d", backlog())
	}
	c := tune.Change{Tunable: "socket/listen_backlog", Target: s.String(), Proposed: "64"}
	if _, err := g.apply(t.Context(), "r1", []tune.Change{c}, "uid 61100"); err != nil || backlog() != 64 {
		t.Fatalf("apply: %v, backlog %d", err, backlog())
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	l, again, backlog := listen(port)
	defer l.Close()
	if again.Local != s.Local || again.Cookie == s.Cookie {
		t.Fatalf("%s after %s", again, s)
	}
	refusal(t, g, "r1", c, tune.ErrGone)
	swapped(t, g, "r1")
	if backlog() != before {
		t.Errorf("the new server's backlog is %d, was %d", backlog(), before)
	}
}

// TestAProcessThatIsNotWhatItNames: a later process of the same pid is another one.
func TestAProcessThatIsNotWhatItNames(t *testing.T) {
	g := onKernel(t, host.New(host.Config{}))
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	c := tune.Change{Tunable: "process/oom_score_adj", Target: fmt.Sprintf("pid:%d", pid), Proposed: "300"}
	if _, err := g.apply(t.Context(), "r1", []tune.Change{c}, "uid 61100"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(25 * time.Millisecond) // the kernel tells start times in ticks of 10 ms
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	c.Proposed = "400"
	refusal(t, g, "r1", c, tune.ErrGone)
	if err := bearPid(pid); err != nil {
		t.Skipf("this host does not let a process choose its pid: %v", err)
	}
	defer func() {
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = unix.Wait4(pid, nil, 0, nil)
	}()
	value := func() string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	before := value()
	refusal(t, g, "r1", c, tune.ErrGone)
	swapped(t, g, "r1")
	if value() != before {
		t.Errorf("the later bearer of pid %d has %s, had %s", pid, value(), before)
	}
}

// bearPid starts a process that does nothing, with a pid of our choice.
func bearPid(pid int) error {
	set := [1]int32{int32(pid)}
	args := struct { // struct clone_args of linux/sched.h
		flags, pidfd, childTID, parentTID, exit, stack, stackSize, tls, setTID, setTIDSize uint64
	}{exit: uint64(unix.SIGCHLD), setTID: uint64(uintptr(unsafe.Pointer(&set))), setTIDSize: 1}
	got, _, errno := syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args), 0)
	if errno != 0 {
		return errno
	}
	for got == 0 { // the child: nothing but system calls is safe here
		syscall.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
	}
	return nil
}

// TestAPathThatIsNotWhatItNames: an entry whose file leads elsewhere, by a link or by its own name.
func TestAPathThatIsNotWhatItNames(t *testing.T) {
	root := t.TempDir()
	secret := filepath.Join(root, "etc", "secret")
	for _, dir := range []string{"proc/sys/vm", "etc"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.WriteFile(secret, []byte("7\n"), 0o644), os.Symlink(secret, filepath.Join(root, "proc/sys/vm/evil"))); err != nil {
		t.Fatal(err)
	}
	g := onKernel(t, host.New(host.Config{Root: root}))
	for _, name := range []string{"vm.evil", "vm.climbing"} {
		refusal(t, g, "r0", tune.Change{Tunable: name, Target: "host", Proposed: "1"}, tune.ErrDenied)
	}
	for _, name := range []string{"/etc/secret", "vm/evil", "../etc/secret"} {
		refusal(t, g, "r0", tune.Change{Tunable: name, Target: "host", Proposed: "1"}, tune.ErrUnknown)
	}
	if now, err := os.ReadFile(secret); err != nil || string(now) != "7\n" {
		t.Errorf("the file is %q, %v", now, err)
	}
}

// plainListen avoids Multipath TCP, whose sockets have two cookies.
func plainListen(port int) (net.Listener, error) {
	var c net.ListenConfig
	c.SetMultipathTCP(false)
	return c.Listen(context.Background(), "tcp4", fmt.Sprintf("127.0.0.1:%d", port))
}

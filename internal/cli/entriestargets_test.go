package cli_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"semantos/internal/host"
	"semantos/internal/host/hosttest"
	"semantos/internal/tune"
	"semantos/kb"
)

// newMachine prepares the targets: a namespace, a cgroup, sockets and a pair of links of the test's own,
// the root's block device, and idle loop devices that run the other schedulers.
func newMachine(t *testing.T) *machine {
	t.Helper()
	cat, err := kb.Load(kb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	mountDebugfs(t)
	m := &machine{h: host.New(host.Config{}), cat: cat, ns: hosttest.FreshNetns(t), byName: map[string]*tune.Tunable{}}
	t.Cleanup(func() {
		if err := m.h.Close(); err != nil {
			t.Error(err)
		}
	})
	if m.facts, err = m.h.Facts(); err != nil {
		t.Fatal(err)
	}
	for _, e := range cat.All() {
		m.byName[e.Name] = e
	}
	own, err := m.h.Resolve(m.byName["net.core.somaxconn"], "")
	if err != nil {
		t.Fatal(err)
	}
	m.targets = map[tune.Scope][]string{
		tune.ScopeHost:   {"host"},
		tune.ScopeNetns:  {m.ns.Target, own},
		tune.ScopeCgroup: {ownCgroup(t)},
		tune.ScopeSocket: m.ownSockets(t),
		tune.ScopeDevice: slices.Concat(m.blockDevices(t), ownLinks(t)),
	}
	for _, e := range cat.All() {
		m.watched = append(m.watched, m.instances(e)...)
	}
	return m
}

// mountDebugfs mounts it for the test where nobody has: the scheduler's own files are there.
func mountDebugfs(t *testing.T) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), " - debugfs ") {
		return
	}
	dir := t.TempDir()
	if err := unix.Mount("debugfs", dir, "debugfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		t.Logf("no debugfs: %v", err)
		return
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// ownCgroup makes an empty cgroup in every mounted tree, limited so that no limit is "none": a limit
// that depends on another is refused beside one.
func ownCgroup(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("semantos-entries-%d", os.Getpid())
	roots, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if err != nil {
		t.Fatal(err)
	}
	for _, root := range append(roots, "/sys/fs/cgroup/cgroup.procs") {
		if _, err := os.Stat(root); err != nil || strings.HasSuffix(filepath.Dir(root), ".slice") {
			continue
		}
		dir := filepath.Join(filepath.Dir(root), name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			continue // this tree takes none: its entries count as absent
		}
		t.Cleanup(func() {
			if err := os.Remove(dir); err != nil {
				t.Error(err)
			}
		})
		for _, limit := range [][2]string{{"memory.limit_in_bytes", "1G"}, {"memory.memsw.limit_in_bytes", "2G"},
			{"cpu.cfs_quota_us", "50000"}, {"cpu.max", "50000 100000"}} {
			// Most files are of another tree: only opening tells.
			if f, err := os.OpenFile(filepath.Join(dir, limit[0]), os.O_WRONLY, 0); err == nil {
				_, _ = f.WriteString(limit[1])
				f.Close()
			}
		}
	}
	return "/" + name
}

func (m *machine) ownSockets(t *testing.T) []string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	tcp, err := m.h.Resolve(m.byName["socket/listen_backlog"], "tcp:"+strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	if err != nil {
		t.Fatal(err)
	}
	udp, err := m.h.Resolve(m.byName["socket/rcvbuf"], "udp:"+strconv.Itoa(u.LocalAddr().(*net.UDPAddr).Port))
	if err != nil {
		t.Fatal(err)
	}
	return []string{tcp, udp}
}

// blockDevices gives the device of the root filesystem, and up to two idle loop devices, set to the
// schedulers whose own files would else be missing.
func (m *machine) blockDevices(t *testing.T) []string {
	t.Helper()
	var out []string
	var st unix.Stat_t
	if err := unix.Stat("/", &st); err == nil {
		link, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev)))
		if err == nil {
			if _, err := os.Stat(filepath.Join(link, "partition")); err == nil {
				link = filepath.Dir(link)
			}
			out = append(out, filepath.Base(link))
		}
	}
	loops, err := filepath.Glob("/sys/block/loop*")
	if err != nil {
		t.Fatal(err)
	}
	scheduler := m.byName["block/{device}/queue/scheduler"]
	wanted := []tune.Value{"bfq", "kyber"}
	for _, dir := range loops {
		if _, err := os.Stat(filepath.Join(dir, "loop")); err == nil || len(wanted) == 0 {
			continue // bound to a file: somebody's
		}
		device := filepath.Base(dir)
		old, err := m.h.Read(scheduler, device)
		if err != nil {
			continue
		}
		if _, err := m.h.Write(scheduler, device, wanted[0]); err != nil {
			wanted = wanted[1:] // not in this kernel
			continue
		}
		wanted = wanted[1:]
		t.Cleanup(func() {
			if _, err := m.h.Restore(scheduler, device, old); err != nil {
				t.Error(err)
			}
		})
		out = append(out, device)
	}
	return out
}

// ownLinks makes a pair of links in the namespace whose /sys is mounted, which is the host's: the files
// of a link in a fresh namespace show nowhere.
func ownLinks(t *testing.T) []string {
	t.Helper()
	name := fmt.Sprintf("smt%d", os.Getpid()%1000000)
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.NumTxQueues, attrs.NumRxQueues = name+"a", 1, 1
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name + "b"}); err != nil {
		t.Logf("no links of our own: %v", err)
		return nil
	}
	t.Cleanup(func() {
		link, err := netlink.LinkByName(name + "a")
		if err == nil {
			err = netlink.LinkDel(link)
		}
		if err != nil {
			t.Error(err)
		}
	})
	return []string{name + "a"}
}

package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"semantos/internal/host"
	"semantos/internal/host/hosttest"
	"semantos/internal/tune"
)

// disturbed says that a rollout ended by what the rest of the machine did: the kernel killed a stranger's process
// for lack of memory, or the command got no CPU for longer than its lease.
func disturbed(r tune.Rollout) bool {
	return r.Reason == tune.ReasonLimit && strings.Contains(r.Detail, "killed for lack of memory") ||
		r.Reason == tune.ReasonFault && strings.Contains(r.Detail, "stopped renewing its lease")
}

// applyTo tries a value on all targets that set names, watched, and takes it back; again when it was disturbed.
func applyTo(t *testing.T, ns *hosttest.Namespace, meter string, set []string, all []*exposureWitness, value string, more ...string) (result, tune.Rollout) {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	args := append([]string{"apply", "--meter", meter, "--yes", "--json", "--slo-max-p95", "10000"}, more...)
	for _, name := range set {
		args = append(args, "--set", name+"="+value)
	}
	for tries := 1; ; tries++ {
		stop := watchAll(t, value, all)
		got := inside(t, ns, data, args...)
		stop()
		var r tune.Rollout
		got.decode(t, &r)
		inside(t, ns, data, "rollback", "--all")
		asBefore(t, all)
		if tries == 3 || !disturbed(r) {
			return got, r
		}
		t.Log("again: " + r.Detail)
	}
}

// TestTargetsOfProcesses: five like processes that sleep a millisecond for each answer, one of which at a time
// has another timer slack.
func TestTargetsOfProcesses(t *testing.T) {
	ns := freshHost(t)
	var set []string
	var all []*exposureWitness
	for range 5 {
		pid := strconv.Itoa(answerer(t, "sleep", 5*time.Millisecond, nil))
		set = append(set, "process/timerslack_ns@pid:"+pid)
		all = append(all, fileWitness("pid:"+pid, "/proc/"+pid+"/timerslack_ns"))
	}
	got, r := applyTo(t, ns, "ebpf:comm="+comm(t), set, all, "50001", "--margin", "0.9", "--stage-time", "10s", "--steps", "20,50,100")
	endedHarmless(t, got, r)
	exposedAsSaid(t, r, all, 2*time.Second, 0)
	got, r = applyTo(t, ns, "ebpf:comm="+comm(t), set, all, "50000000", "--stage-time", "5s", "--steps", "20,50,100")
	endedAsHarm(t, got, r, all, 2*time.Second)
}

// grove is a control group of one's own in every tree that processes may be moved in.
type grove struct {
	target string
	dirs   []string
}

// plant makes it. Where the trees of version 1 have the CPU controller it is that one's and, so that probes
// see it, the unified one's; else the unified tree must have the controller.
func plant(t *testing.T, parent string, trees []string) (g grove) {
	t.Helper()
	g.target = "/" + parent
	for _, tree := range trees {
		dir := filepath.Join(tree, parent)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			for end := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
				err := os.Remove(dir) // its processes are gone, and the kernel notices a little later
				if err == nil {
					return
				}
				if time.Now().After(end) {
					t.Error(err)
					return
				}
			}
		})
		g.dirs = append(g.dirs, dir)
	}
	return g
}

func (g grove) take(t *testing.T, pid int) {
	t.Helper()
	for _, dir := range g.dirs {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// workers are five control groups with a process each that works a millisecond for each answer; equal and
// harmful are what is tried on them, with its values.
func workers(t *testing.T) (gs []grove, equal, harmful [2]string) {
	const root = "/sys/fs/cgroup"
	trees := []string{root + "/cpu", root + "/unified"}
	equal, harmful = [2]string{"cpu.shares", "1030"}, [2]string{"cpu.cfs_quota_us", "3000"}
	if _, err := os.Stat(trees[0] + "/cgroup.procs"); err != nil {
		trees = []string{root}
		equal, harmful = [2]string{"cpu.weight", "101"}, [2]string{"cpu.max", "3000 100000"}
	}
	name := fmt.Sprintf("semantos-units-%d", os.Getpid())
	for i := range 5 {
		g := plant(t, fmt.Sprintf("%s-%d", name, i), trees)
		if _, err := os.Stat(filepath.Join(g.dirs[0], equal[0])); err != nil {
			t.Skipf("no CPU controller for control groups here: %v", err)
		}
		gs = append(gs, g)
	}
	return gs, equal, harmful
}

// TestTargetsOfControlGroups: five like groups, with a server in each.
func TestTargetsOfControlGroups(t *testing.T) {
	ns := freshHost(t)
	gs, equal, harmful := workers(t)
	for _, g := range gs {
		answerer(t, "work", 20*time.Millisecond, func(pid int) { g.take(t, pid) })
	}
	of := func(file string) (set []string, all []*exposureWitness) {
		for _, g := range gs {
			set = append(set, "cgroup/"+file+"@"+g.target)
			all = append(all, fileWitness(g.target, filepath.Join(g.dirs[0], file)))
		}
		return set, all
	}
	set, all := of(equal[0])
	got, r := applyTo(t, ns, "ebpf:comm="+comm(t), set, all, equal[1], "--margin", "0.9", "--stage-time", "10s", "--steps", "20,50,100")
	endedHarmless(t, got, r)
	exposedAsSaid(t, r, all, 3*time.Second, 0)
	set, all = of(harmful[0])
	got, r = applyTo(t, ns, "ebpf:comm="+comm(t), set, all, harmful[1], "--stage-time", "5s", "--steps", "20,50,100")
	endedAsHarm(t, got, r, all, 2*time.Second)
}

// TestTargetsOfSockets: twenty listening sockets of one process, of which one at a time, 5 %, has a shorter
// backlog.
func TestTargetsOfSockets(t *testing.T) {
	ns := freshHost(t)
	var set []string
	var all []*exposureWitness
	h := host.New(host.Config{})
	t.Cleanup(func() { _ = h.Close() })
	for range 20 {
		var port uint16
		ns.Do(func() { port = slowServer(t, 20*time.Millisecond) })
		set = append(set, fmt.Sprintf("socket/listen_backlog@tcp:%d;%s", port, strings.Replace(ns.Target, ":", "=", 1)))
		all = append(all, &exposureWitness{name: fmt.Sprintf("port %d", port), read: func() string { return "" }})
	}
	seen := &backlogs{host: h, netns: ns.Target}
	for _, w := range all {
		port, _ := strconv.Atoi(strings.TrimPrefix(w.name, "port "))
		w.read = func() string { return seen.of(port) }
	}
	got, r := applyTo(t, ns, "ebpf:comm="+comm(t), set, all, "2048", "--margin", "0.9", "--stage-time", "12s", "--steps", "5,50,100")
	endedHarmless(t, got, r)
	exposedAsSaid(t, r, all, 1500*time.Millisecond, 1)
}

// backlogs reads what the kernel keeps of listening sockets; a look serves all that ask within a few
// milliseconds.
type backlogs struct {
	host  *host.Host
	netns string

	mu   sync.Mutex
	at   time.Time
	seen map[int]string
}

func (b *backlogs) of(port int) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Since(b.at) < 4*time.Millisecond {
		return b.seen[port]
	}
	b.seen = map[int]string{}
	_ = b.host.InNetns(b.netns, func() error { // what cannot be seen is not as it was, which fails the test
		sockets, err := netlink.SocketDiagTCP(unix.AF_INET)
		for _, s := range sockets {
			if s.State == netlink.TCP_LISTEN {
				b.seen[int(s.ID.SourcePort)] = strconv.Itoa(int(s.WQueue))
			}
		}
		return err
	})
	b.at = time.Now()
	return b.seen[port]
}

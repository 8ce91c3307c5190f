package host_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"semantos/internal/host"
	"semantos/internal/host/hosttest"
	"semantos/internal/tune"
)

func choice(name string) *tune.Tunable {
	return &tune.Tunable{Name: name, Path: name, Scope: tune.ScopeDevice, Method: tune.MethodChoice, Kind: tune.KindEnum}
}

func TestSymbolicLinks(t *testing.T) {
	t.Parallel()
	h := hosttest.Tree(t, map[string]string{
		"sys/devices/pci/vda/queue/read_ahead_kb": "128\n",
		"sys/kernel/uevent_helper":                "\n",
		"sys/block/.keep":                         "",
		"proc/sys/vm/swappiness":                  "60\n",
		"proc/sys/kernel/core_pattern":            "core\n",
		"etc/secret":                              "1\n",
	})
	link := func(to, at string) {
		t.Helper()
		if err := os.Symlink(to, h.Path(at)); err != nil {
			t.Fatal(err)
		}
	}
	link("../devices/pci/vda", "sys/block/vda")
	link("../../etc", "sys/block/out")
	link("/etc", "sys/block/abs")
	link("../kernel", "sys/block/helper")
	link("../kernel/core_pattern", "proc/sys/vm/pattern")
	sys := func(path string) *tune.Tunable {
		return &tune.Tunable{Name: path, Path: path, Scope: tune.ScopeHost, Method: tune.MethodSysfs, Kind: tune.KindInteger}
	}
	if v, err := h.Write(sys("block/vda/queue/read_ahead_kb"), "", "4096"); err != nil || v != "4096" {
		t.Errorf("through the device's link: %q, %v", v, err)
	}
	for _, tun := range []*tune.Tunable{sys("block/out/secret"), sys("block/abs/secret"), sys("block/helper/uevent_helper"),
		number("vm.pattern", "vm/pattern", tune.ScopeHost), sys("bus/pci/rescan"), sys("kernel/debug/sched/features"), sys("block/vda/../vda/queue/read_ahead_kb")} {
		for what, err := range map[string]error{
			"read":  second(h.Read(tun, "")),
			"write": second(h.Write(tun, "", "1")),
		} {
			if !errors.Is(err, tune.ErrDenied) {
				t.Errorf("%s of %s gave %v", what, tun.Path, err)
			}
		}
	}
	if text, err := os.ReadFile(h.Path("etc/secret")); err != nil || string(text) != "1\n" {
		t.Errorf("a file outside reads %q, %v", text, err)
	}
}

func second(_ tune.Value, err error) error { return err }

func TestTemplateCannotLeave(t *testing.T) {
	t.Parallel()
	h := hosttest.Tree(t, map[string]string{"sys/block/vda/queue/nr_requests": "64\n", "sys/queue/nr_requests": "1\n"})
	tun := &tune.Tunable{Name: "block/{device}/queue/nr_requests", Path: "block/{device}/queue/nr_requests",
		Scope: tune.ScopeDevice, Method: tune.MethodSysfs, Kind: tune.KindInteger}
	for _, target := range []string{"..", ".", "vda/..", "../..", "/", "vda/queue", "\x00"} {
		if v, err := h.Write(tun, target, "2"); err == nil {
			t.Errorf("target %q was written: %q", target, v)
		}
	}
	if v, err := h.Write(tun, "", "2"); err != nil || v != "2" {
		t.Errorf("the only device: %q, %v", v, err)
	}
}

func TestChoiceFile(t *testing.T) {
	t.Parallel()
	h := hosttest.Tree(t, map[string]string{"sys/kernel/mm/thp/enabled": "always [madvise] never\n"})
	tun := choice("kernel/mm/thp/enabled")
	if v, err := h.Read(tun, ""); err != nil || v != "madvise" {
		t.Errorf("read %q, %v", v, err)
	}
	// A plain file keeps what was written, so it looks as if the kernel had chosen that word.
	if v, err := h.Write(tun, "", "never"); err != nil || v != "never" {
		t.Errorf("write gave %q, %v", v, err)
	}
}

func TestTargetsOfTemplates(t *testing.T) {
	t.Parallel()
	h := hosttest.Tree(t, map[string]string{
		"sys/class/net/eth0/queues/rx-1/rps_cpus":              "0\n",
		"sys/class/net/eth0/queues/rx-0/rps_cpus":              "0\n",
		"sys/class/net/eth0/queues/tx-0/xps_cpus":              "0\n",
		"sys/class/net/lo/queues/rx-0/rps_cpus":                "0\n",
		"sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
		"sys/devices/system/cpu/cpuidle/current_driver":        "none\n",
		"proc/sys/vm/swappiness":                               "60\n",
		"sys/fs/cgroup/a/b/cpu.max":                            "max 100000\n",
		"sys/fs/cgroup/a/cpu.max":                              "max 100000\n",
		"sys/fs/cgroup/memory/x/memory.limit_in_bytes":         "9223372036854771712\n",
		"sys/fs/cgroup/memory/memory.limit_in_bytes":           "9223372036854771712\n",
		"proc/self/cgroup":                                     "4:memory:/x\n0::/a/b\n",
		"proc/self/mountinfo": "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n" +
			"31 30 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
	})
	rps := &tune.Tunable{Name: "net/{device}/queues/{queue}/rps_cpus", Path: "class/net/{device}/queues/{queue}/rps_cpus",
		Scope: tune.ScopeDevice, Method: tune.MethodSysfs, Kind: tune.KindBitmask}
	governor := &tune.Tunable{Name: "cpu/{device}/cpufreq/scaling_governor", Path: "devices/system/cpu/{device}/cpufreq/scaling_governor",
		Scope: tune.ScopeDevice, Method: tune.MethodSysfs, Kind: tune.KindEnum}
	cpuMax := &tune.Tunable{Name: "cgroup/cpu.max", Path: "cpu.max", Scope: tune.ScopeCgroup, Method: tune.MethodCgroup, Kind: tune.KindVector, Of: tune.KindInteger, Arity: 2}
	v1 := &tune.Tunable{Name: "cgroup/memory.limit_in_bytes", Path: "memory.limit_in_bytes", Scope: tune.ScopeCgroup, Method: tune.MethodCgroup, Kind: tune.KindBytes}
	for _, c := range []struct {
		tun  *tune.Tunable
		want []string
	}{
		{rps, []string{"eth0/rx-0", "eth0/rx-1", "lo/rx-0"}},
		{governor, []string{"cpu0"}},
		{number("vm.swappiness", "vm/swappiness", tune.ScopeHost), []string{"host"}},
		{number("vm.absent", "vm/absent", tune.ScopeHost), nil},
		{number("net.core.somaxconn", "net/core/somaxconn", tune.ScopeNetns), []string{"netns:0"}},
		{cpuMax, []string{"/a", "/a/b"}},
		{v1, []string{"/", "/x"}},
	} {
		got, err := h.Targets(c.tun)
		if err != nil {
			t.Errorf("%s: %v", c.tun.Name, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", c.tun.Name, diff)
		}
	}
	if got, err := h.Resolve(cpuMax, "self"); err != nil || got != "/a/b" {
		t.Errorf("own cgroup in v2 is %q, %v", got, err)
	}
	if got, err := h.Resolve(v1, "self"); err != nil || got != "/x" {
		t.Errorf("own cgroup in v1 is %q, %v", got, err)
	}
	if v, err := h.Write(cpuMax, "/a", "50000 100000"); err != nil || v != "50000 100000" {
		t.Errorf("cpu.max gave %q, %v", v, err)
	}
	if _, err := h.Write(cpuMax, "/a", "50000"); !errors.Is(err, tune.ErrType) {
		t.Errorf("half of cpu.max gave %v", err)
	}
	if _, err := h.Write(cpuMax, "/c", "50000 100000"); !errors.Is(err, tune.ErrGone) {
		t.Errorf("absent cgroup gave %v", err)
	}
	if got, err := h.Write(rps, "eth0/rx-1", "3"); err != nil || got != "3" {
		t.Errorf("rps gave %q, %v", got, err)
	}
}

func TestFacts(t *testing.T) {
	t.Parallel()
	h := hosttest.Tree(t, map[string]string{
		"proc/meminfo":                     "MemTotal:       16384 kB\nSwapTotal: 0 kB\n",
		"proc/swaps":                       "Filename\n/dev/zram0 partition 1 0 100\n",
		"proc/sys/kernel/osrelease":        "6.1.0-18-amd64\n",
		"proc/sys/kernel/random/boot_id":   "0c0ffee0\n",
		"sys/devices/system/cpu/online":    "0-2,8\n",
		"sys/devices/system/node/online":   "0-1\n",
		"sys/block/sda/queue/rotational":   "1\n",
		"sys/block/sda/device/type":        "0\n",
		"sys/block/loop0/queue/rotational": "1\n",
		"etc/os-release":                   "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n",
		"sys/class/dmi/id/sys_vendor":      "QEMU\n",
	})
	f, err := h.Facts()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{"mem_total_bytes": 16384 * 1024, "swap_total_bytes": 0, "page_size": float64(os.Getpagesize()),
		"cpus": 4, "numa_nodes": 2, "kernel": 6001, "is_zram_swap": 1, "rotational_any": 1}
	if diff := cmp.Diff(want, f.Num); diff != "" {
		t.Error(diff)
	}
	if f.Text["kernel"] != "6.1.0-18-amd64" || f.Text["virt"] != "kvm" || f.Text["distro"] != "Debian GNU/Linux 12" || f.Text["arch"] == "" {
		t.Errorf("words %v", f.Text)
	}
	if id, err := h.BootID(); err != nil || id != "0c0ffee0" {
		t.Errorf("boot id %q, %v", id, err)
	}
	empty := host.New(host.Config{Root: t.TempDir()})
	if _, err := empty.Facts(); err == nil {
		t.Error("facts of nothing")
	}
	if _, err := empty.BootID(); err == nil {
		t.Error("boot id of nothing")
	}
}

func TestIdentityInATree(t *testing.T) {
	t.Parallel()
	h := hosttest.Tree(t, map[string]string{
		"sys/block/vda/diskseq":      "9\n",
		"sys/class/net/eth0/ifindex": "2\n",
		"proc/42/stat":               "42 (a) b (c) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 777 1 2\n",
		"proc/43/stat":               "43 (short) S 1\n",
	})
	for _, c := range []struct {
		scope  tune.Scope
		target string
		want   tune.Identity
		err    error
	}{
		{tune.ScopeHost, "host", tune.Identity{}, nil},
		{tune.ScopeDevice, "vda", tune.Identity{"diskseq": "9"}, nil},
		{tune.ScopeDevice, "eth0/rx-0", tune.Identity{"ifindex": "2"}, nil},
		{tune.ScopeDevice, "cpu0", tune.Identity{}, nil},
		{tune.ScopeDevice, "../x", nil, tune.ErrDenied},
		{tune.ScopeProcess, "pid:42", tune.Identity{"pid": "42", "start": "777"}, nil},
		{tune.ScopeProcess, "pid:43", nil, tune.ErrCorrupt},
		{tune.ScopeProcess, "pid:44", nil, tune.ErrGone},
		{tune.ScopeProcess, "pid:../42", nil, tune.ErrUsage},
		{tune.ScopeNetns, "netns:0", tune.Identity{"ino": "0"}, nil},
		{tune.ScopeNetns, "netns:x", nil, tune.ErrUsage},
		{"galaxy", "milky way", nil, tune.ErrUsage},
	} {
		got, err := h.Identity(c.scope, c.target)
		if !errors.Is(err, c.err) || !cmp.Equal(got, c.want) {
			t.Errorf("%s %s: %v, %v; want %v, %v", c.scope, c.target, got, err, c.want, c.err)
		}
	}
}

func TestPathStaysBelowTheRoot(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	h := host.New(host.Config{Root: root + "/"})
	for parts, want := range map[string]string{"proc/stat": "proc/stat", "/proc/stat": "proc/stat", "../../etc": "../etc"} {
		got := h.Path(parts)
		if parts == "../../etc" {
			want = "etc"
		}
		if got != filepath.Join(root, want) {
			t.Errorf("%s gave %s", parts, got)
		}
	}
}

func TestProtectedIsNeverWritten(t *testing.T) {
	t.Parallel()
	h := hosttest.Tree(t, map[string]string{"proc/sys/vm/swappiness": "60\n"})
	tun := number("vm.swappiness", "vm/swappiness", tune.ScopeHost)
	tun.Protected = true
	for _, err := range []error{second(h.Write(tun, "", "60")), second(h.Restore(tun, "", "60"))} {
		if !errors.Is(err, tune.ErrDenied) {
			t.Errorf("gave %v", err)
		}
	}
	if c := h.Probe(tun, ""); !c.Readable || c.Writable || c.Reason == "" {
		t.Errorf("probe says %+v", c)
	}
}

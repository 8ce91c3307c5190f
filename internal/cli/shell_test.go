package cli

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"

	"semantos/internal/tune"
)

// catalogue is a small fixture by the name of the instance.
func catalogue(name string) (*tune.Tunable, error) {
	all := map[string]*tune.Tunable{
		"net.core.somaxconn": {Name: "net.core.somaxconn", Scope: tune.ScopeNetns, Method: tune.MethodSysctl, Path: "net/core/somaxconn"},
		"net.ipv4.tcp_rmem":  {Name: "net.ipv4.tcp_rmem", Scope: tune.ScopeNetns, Method: tune.MethodSysctl, Path: "net/ipv4/tcp_rmem"},
		"vm.dirty_bytes": {Name: "vm.dirty_bytes", Scope: tune.ScopeHost, Method: tune.MethodSysctl, Path: "vm/dirty_bytes",
			Counterpart: "vm.dirty_ratio"},
		"vm.dirty_ratio": {Name: "vm.dirty_ratio", Scope: tune.ScopeHost, Method: tune.MethodSysctl, Path: "vm/dirty_ratio",
			Counterpart: "vm.dirty_bytes"},
		"block/vda/queue/read_ahead_kb": {Name: "block/{device}/queue/read_ahead_kb", Scope: tune.ScopeDevice,
			Method: tune.MethodSysfs, Path: "block/{device}/queue/read_ahead_kb"},
		"socket/listen_backlog": {Name: "socket/listen_backlog", Scope: tune.ScopeSocket, Method: tune.MethodBacklog},
		"cgroup/cpu.max":        {Name: "cgroup/cpu.max", Scope: tune.ScopeCgroup, Method: tune.MethodCgroup, Path: "cpu.max"},
	}
	t, ok := all[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, tune.ErrUnknown)
	}
	return t, nil
}

func managedFixture() []tune.Managed {
	return []tune.Managed{
		{Tunable: "net.core.somaxconn", Scope: tune.ScopeNetns, Target: "netns:1", Original: "8", Current: "4096", State: "committed"},
		{Tunable: "net.ipv4.tcp_rmem", Scope: tune.ScopeNetns, Target: "netns:2", Original: "4096 131072 6291456", Current: "4096 131072 16777216", State: "persisted"},
		{Tunable: "vm.dirty_bytes", Scope: tune.ScopeHost, Target: "host", Original: "0", Current: "268435456", State: "committed"},
		{Tunable: "vm.dirty_ratio", Scope: tune.ScopeHost, Target: "host", Original: "20", Current: "0", State: "committed"},
		{Tunable: "block/vda/queue/read_ahead_kb", Scope: tune.ScopeDevice, Target: "vda", Original: "0", Current: "128", State: "committed"},
		{Tunable: "socket/listen_backlog", Scope: tune.ScopeSocket, Target: "tcp:0.0.0.0:80;netns=1;cookie=4f", Original: "8", Current: "511", State: "committed"},
		{Tunable: "cgroup/cpu.max", Scope: tune.ScopeCgroup, Target: "/a b", Original: "max 100000", Current: "50000 100000", State: "trying"},
	}
}

func TestUndoLines(t *testing.T) {
	t.Parallel()
	enter := func(target string) string {
		if target == "netns:1" {
			return ""
		}
		return "nsenter --net=/proc/77/ns/net "
	}
	changes := []tune.Change{}
	for _, m := range managedFixture() {
		changes = append(changes, tune.Change{Tunable: m.Tunable, Scope: m.Scope, Target: m.Target, Proposed: m.Original})
	}
	changes = append(changes, tune.Change{Tunable: "vm.unknown", Proposed: "1"})
	got := undoLines(changes, catalogue, func(string) string { return "/sys/fs/cgroup" }, enter)
	want := []string{
		"sysctl -w net.core.somaxconn=8",
		"nsenter --net=/proc/77/ns/net sysctl -w 'net.ipv4.tcp_rmem=4096 131072 6291456'",
		"sysctl -w vm.dirty_bytes=0",
		"sysctl -w vm.dirty_ratio=20",
		"echo 0 > /sys/block/vda/queue/read_ahead_kb",
		"# socket/listen_backlog on tcp:0.0.0.0:80;netns=1;cookie=4f lives in a running process' socket, which only semantos rollback reaches",
		"echo 'max 100000' > '/sys/fs/cgroup/a b/cpu.max'",
		"# vm.unknown: vm.unknown: unknown name",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestSysctlNameKeepsDotsOfInterfaces(t *testing.T) {
	t.Parallel()
	for rel, want := range map[string]string{
		"net/ipv4/tcp_rmem":              "net.ipv4.tcp_rmem",
		"net/ipv4/conf/eth0.1/rp_filter": "net.ipv4.conf.eth0/1.rp_filter",
	} {
		if got := sysctlName(rel); got != want {
			t.Errorf("sysctlName(%q) = %q, want %q", rel, got, want)
		}
	}
}

func TestQuoteIsSafeForTheShell(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a=b c": "'a=b c'", "plain/1.0": "plain/1.0", "it's $(x)": `'it'\''s $(x)'`, "": "''",
	} {
		if got := quote(in); got != want {
			t.Errorf("quote(%q) = %s, want %s", in, got, want)
		}
	}
}

func exported(t *testing.T, format string) string {
	t.Helper()
	var b bytes.Buffer
	if err := exportFormats()[format](&b, keptFrom(managedFixture(), catalogue, "netns:1")); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestExportSysctl(t *testing.T) {
	t.Parallel()
	text := exported(t, "sysctl")
	for _, want := range []string{"\nnet.core.somaxconn = 4096\n", "\nvm.dirty_bytes = 268435456\n",
		"# net.ipv4.tcp_rmem = 4096 131072 16777216 holds in the network namespace netns:2 only",
		"# block/vda/queue/read_ahead_kb = 128 is no sysctl: echo 128 > /sys/block/vda/queue/read_ahead_kb"} {
		if !strings.Contains(text, want) {
			t.Errorf("lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "cpu.max") || strings.Contains(text, "\nvm.dirty_ratio") {
		t.Errorf("has what is not committed or not writable:\n%s", text)
	}
}

func TestExportTuned(t *testing.T) {
	t.Parallel()
	text := exported(t, "tuned")
	want := "[sysctl]\nnet.core.somaxconn=4096\nvm.dirty_bytes=268435456\n\n[sysfs]\n/sys/block/vda/queue/read_ahead_kb=128\n"
	if !strings.Contains(text, want) {
		t.Errorf("lacks %q:\n%s", want, text)
	}
}

func TestExportAnsibleIsYAML(t *testing.T) {
	t.Parallel()
	var got struct {
		Sysctl []map[string]string `yaml:"semantos_sysctl"`
		Sysfs  []map[string]string `yaml:"semantos_sysfs"`
	}
	if err := yaml.Unmarshal([]byte(exported(t, "ansible")), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]map[string]string{{"name": "net.core.somaxconn", "value": "4096"}, {"name": "vm.dirty_bytes", "value": "268435456"}}, got.Sysctl); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]map[string]string{{"path": "/sys/block/vda/queue/read_ahead_kb", "value": "128"}}, got.Sysfs); diff != "" {
		t.Error(diff)
	}
}

func TestParseSetting(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   string
		want setting
		ok   bool
	}{
		{"vm.swappiness=10", setting{"vm.swappiness", "", "10"}, true},
		{"net.ipv4.tcp_rmem=4096,131072,16777216", setting{"net.ipv4.tcp_rmem", "", "4096,131072,16777216"}, true},
		{"socket/listen_backlog@tcp:0.0.0.0:80;netns=1;cookie=4f=511", setting{"socket/listen_backlog", "tcp:0.0.0.0:80;netns=1;cookie=4f", "511"}, true},
		{"vm.swappiness", setting{}, false}, {"=1", setting{}, false}, {"vm.swappiness=", setting{}, false},
		{"a@=1", setting{}, false}, {"@b=1", setting{}, false},
	} {
		got, err := parseSetting(c.in)
		if (err == nil) != c.ok || got != c.want {
			t.Errorf("parseSetting(%q) = %+v, %v", c.in, got, err)
		}
		if err != nil && exitOf(err) != exitUsage {
			t.Errorf("%q: exit status %d", c.in, exitOf(err))
		}
	}
}

func FuzzParseSetting(f *testing.F) {
	f.Add("net.core.somaxconn@netns:1=4096")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseSetting(text)
		if err == nil && (s.Name == "" || s.Value == "" || strings.Contains(s.Value, "=")) {
			t.Errorf("%q gave %+v", text, s)
		}
	})
}

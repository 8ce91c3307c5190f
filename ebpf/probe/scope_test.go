package probe_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"semantos/ebpf/probe"
	"semantos/ebpf/probetest"
	"semantos/internal/tune"
)

// counts says what a probe narrowed to a scope counts of two children's renamings, each "n" to pt-a and
// to pt-b.
func counts(t *testing.T, s probe.Scope, in, out *probetest.Child, n int) float64 {
	t.Helper()
	p := probetest.Load(t, probetest.Renames(true), probe.Options{Scope: s})
	defer p.Close()
	in.Ask("%d", n)
	out.Ask("%d", n)
	got, _, _ := renamed(t, p)
	return got
}

func TestScope(t *testing.T) {
	in, out := probetest.Start(t, "renamer"), probetest.Start(t, "renamer")
	in.Hear()
	out.Hear()
	in.Ask("=pt-leader")
	tgid := uint32(in.Pid)
	expect := func(name string, s probe.Scope, want float64) {
		t.Helper()
		if got := counts(t, s, in, out, 20); got != want {
			t.Errorf("%s: counted %v, want %v", name, got, want)
		}
	}
	expect("process", probe.Scope{TGID: tgid}, 40)
	expect("no such process", probe.Scope{TGID: 1 << 30}, 0)
	// The thread's own name at the time of the event: from pt-a it is renamed 20 times in each child.
	expect("thread name", probe.Scope{Comm: "pt-a"}, 40)
	expect("a longer name", probe.Scope{Comm: "pt-aa"}, 0)
	expect("thread name and process", probe.Scope{Comm: "pt-a", TGID: tgid}, 20)
	expect("thread name and no such process", probe.Scope{Comm: "pt-a", TGID: 1 << 30}, 0)
}

// TestScopeLeader holds that a name counts for all threads of the process that bears it.
func TestScopeLeader(t *testing.T) {
	in, out := probetest.Start(t, "threaded"), probetest.Start(t, "threaded")
	in.Hear()
	out.Hear()
	in.Ask("=fifteen-letters")
	if got := counts(t, probe.Scope{Comm: "fifteen-letters"}, in, out, 20); got != 40 {
		t.Errorf("counted %v, want 40", got)
	}
}

func TestScopeNetns(t *testing.T) {
	in, out := probetest.Start(t, "renamer"), probetest.Start(t, "renamer")
	in.Hear()
	out.Hear()
	inode, err := strconv.ParseUint(in.Ask("netns"), 10, 32)
	if err != nil {
		t.Skip("no network namespace here: ", err)
	}
	if got := counts(t, probe.Scope{Netns: uint32(inode)}, in, out, 20); got != 40 {
		t.Errorf("counted %v, want 40", got)
	}
}

func TestScopeCgroup(t *testing.T) {
	in, out := probetest.Start(t, "renamer"), probetest.Start(t, "renamer")
	in.Hear()
	out.Hear()
	dir := filepath.Join(unified(t), fmt.Sprintf("semantos-test-%d", in.Pid))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skip("no cgroup can be made: ", err)
	}
	t.Cleanup(func() {
		in.Kill()
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(in.Pid)), 0); err != nil {
		t.Skip("no process can be moved to a cgroup: ", err)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	if got := counts(t, probe.Scope{Cgroup: st.Ino}, in, out, 20); got != 40 {
		t.Errorf("counted %v, want 40", got)
	}
}

// unified finds the cgroup v2 hierarchy, or mounts it for the test.
func unified(t *testing.T) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			return f[1]
		}
	}
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "cgroup2", 0, ""); err != nil {
		t.Skip("no unified cgroup hierarchy: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestScopeName(t *testing.T) {
	for _, name := range []string{strings.Repeat("x", 16), "a\x00b"} {
		if _, err := probe.Load(probetest.Renames(true), probe.Options{Scope: probe.Scope{Comm: name}}); !errors.Is(err, tune.ErrOutOfRange) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

package cli

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"semantos/internal/host"
	"semantos/internal/tune"
	"semantos/safety/rollout"
	"semantos/workloads/meter"
)

// TestKillsAreToldApart: what the log names a stranger's is counted by itself, everything else as before.
func TestKillsAreToldApart(t *testing.T) {
	t.Parallel()
	var log []host.Kill
	var broken error
	k := &killed{list: func() ([]host.Kill, error) { return append([]host.Kill{}, log...), broken },
		ours:  func(k host.Kill) bool { return k.Comm == "ours" },
		usual: map[string]float64{}, apart: map[string]float64{}}
	want := func(what string, total, counted float64, strangers ...rollout.Vital) {
		t.Helper()
		got := k.look(t.Context(), total)
		if len(got) != 1+len(strangers) || got[0].Value != counted || got[0].Kind != rollout.Count {
			t.Fatalf("%s: %+v", what, got)
		}
		for i, s := range strangers {
			s.Name, s.Kind = vitalKilledIn+s.Name, rollout.Stranger
			if got[1+i] != s {
				t.Errorf("%s: %+v, want %+v", what, got[1+i], s)
			}
		}
	}
	log = []host.Kill{{Seq: 3, Group: "/g"}, {Seq: 5, Group: "/g"}}
	want("before the trial", 7, 7)
	log = append(log, host.Kill{Seq: 9, Group: "/g"}, host.Kill{Seq: 10, Group: "/f"})
	want("not looked at without a kill", 7, 7)
	want("two strangers", 9, 7, rollout.Vital{Name: "/f", Value: 1}, rollout.Vital{Name: "/g", Value: 1, Usual: 2})
	log = append(log, host.Kill{Seq: 11, Group: "/g", Comm: "ours"})
	want("one of ours in the same group", 10, 8, rollout.Vital{Name: "/f", Value: 1}, rollout.Vital{Name: "/g", Value: 1, Usual: 2})
	want("one that the log does not name", 11, 9, rollout.Vital{Name: "/f", Value: 1}, rollout.Vital{Name: "/g", Value: 1, Usual: 2})
	log, broken = append(log, host.Kill{Seq: 12, Group: "/g"}), errors.New("no log")
	want("no log", 12, 10, rollout.Vital{Name: "/f", Value: 1}, rollout.Vital{Name: "/g", Value: 1, Usual: 2})
	broken = nil
	want("a log that could not be read once", 13, 11, rollout.Vital{Name: "/f", Value: 1}, rollout.Vital{Name: "/g", Value: 1, Usual: 2})

	// A log that does not answer holds no look up, and excuses nothing.
	stuck := make(chan struct{})
	defer close(stuck)
	k = &killed{list: func() ([]host.Kill, error) { <-stuck; return nil, nil }}
	for _, total := range []float64{4, 5} {
		if got := k.look(t.Context(), total); len(got) != 1 || got[0].Value != total {
			t.Errorf("%+v", got)
		}
	}
}

// TestWhatATrialTouches: a group's own or a process's target, below, above or in the group at its limit, and what
// the meter measures.
func TestWhatATrialTouches(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for pid, text := range map[string]string{"7": "4:memory:/a/b\n0::/\n", "8": "3:cpu:/a\n0::/z/y\n", "9": "4:memory:/ab\n"} {
		if err := os.MkdirAll(filepath.Join(root, "proc", pid), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "proc", pid, "cgroup"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	h := host.New(host.Config{Root: root})
	process := func(pid string) []tune.Change { return []tune.Change{{Scope: tune.ScopeProcess, Target: "pid:" + pid}} }
	cgroup := func(name string) []tune.Change { return []tune.Change{{Scope: tune.ScopeCgroup, Target: name}} }
	nginx := &ebpfMeter{of: meter.Traffic{Comm: "nginx"}}
	for _, tc := range []struct {
		name    string
		kill    host.Kill
		changes []tune.Change
		meter   rollout.Meter
		want    bool
	}{
		{"its process's group", host.Kill{Group: "/a"}, process("7"), nil, true},
		{"version 2", host.Kill{Group: "/z"}, process("8"), nil, true},
		{"another controller's tree", host.Kill{Group: "/a"}, process("8"), nil, false},
		{"a group of a like name", host.Kill{Group: "/a"}, process("9"), nil, false},
		{"the process itself, gone", host.Kill{Group: "/q", Pid: 11}, process("11"), nil, true},
		{"its group", host.Kill{Group: "/a"}, cgroup("/a"), nil, true},
		{"above it", host.Kill{Group: "/a"}, cgroup("/a/b"), nil, true},
		{"below it", host.Kill{Group: "/a/b"}, cgroup("/a"), nil, true},
		{"beside it", host.Kill{Group: "/b"}, cgroup("/a"), nil, false},
		{"what is measured", host.Kill{Group: "/b", Comm: "nginx"}, nil, &witnessMeter{Meter: nginx}, true},
		{"something else", host.Kill{Group: "/b", Comm: "fio"}, []tune.Change{{Scope: tune.ScopeHost, Target: "host"}}, nginx, false},
	} {
		if got := touches(h, tc.kill, tc.changes, tc.meter); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

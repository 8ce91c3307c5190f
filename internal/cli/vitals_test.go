package cli

import (
	"os"
	"path/filepath"
	"testing"

	"semantos/internal/config"
	"semantos/internal/host"
	"semantos/safety/rollout"
)

func vitalTree(t *testing.T, files map[string]string) *vitals {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return &vitals{path: host.New(host.Config{Root: root}).Path,
		cfg: config.Config{PSIMaxMemory: 10, PSIMaxIO: 80, PSIMaxCPU: 95, MinMemAvailable: 3}}
}

// TestVitalsRead: each limit from its own file and line, what is off or absent left out.
func TestVitalsRead(t *testing.T) {
	t.Parallel()
	v := vitalTree(t, map[string]string{
		"proc/vmstat":          "nr_free_pages 5\noom_kill 3\n",
		"proc/meminfo":         "MemTotal:  1000 kB\nMemFree: 10 kB\nMemAvailable:  250 kB\n",
		"proc/pressure/memory": "some avg10=9.00 avg60=9.00 avg300=9.00 total=900\nfull avg10=1.00 avg60=4.50 avg300=2.00 total=700\n",
		"proc/pressure/io":     "some avg10=1 avg60=1 avg300=1 total=5\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=4\n",
		"proc/pressure/cpu":    "some avg10=30.00 avg60=20.00 avg300=1.00 total=11\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
	})
	want := []rollout.Vital{
		{Name: vitalKills, Kind: rollout.Count, Value: 3},
		{Name: vitalMemory, Kind: rollout.Stall, Value: 700, Limit: 10, Usual: 4.5},
		{Name: vitalIO, Kind: rollout.Stall, Value: 4, Limit: 80},
		{Name: vitalCPU, Kind: rollout.Stall, Value: 11, Limit: 95, Usual: 30},
		{Name: vitalLeft, Kind: rollout.Floor, Value: 25, Limit: 3},
	}
	got := v.Look(t.Context())
	if len(got) != len(want) {
		t.Fatalf("%+v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%+v, want %+v", got[i], want[i])
		}
	}
	v.cfg = config.Config{}
	if got := v.Look(t.Context()); len(got) != 1 || got[0].Name != vitalKills {
		t.Errorf("with every limit off: %+v", got)
	}
}

// TestVitalsThatAreNotThere: an old kernel, a container, a torn file: nothing is read, and nothing breaks.
func TestVitalsThatAreNotThere(t *testing.T) {
	t.Parallel()
	for name, files := range map[string]map[string]string{
		"empty":    {},
		"old psi":  {"proc/pressure/memory": "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n", "proc/pressure/io": ""},
		"torn":     {"proc/pressure/memory": "full avg10=x", "proc/meminfo": "MemAvailable:\nMemTotal: 5 kB\n", "proc/vmstat": "oom_kill"},
		"no total": {"proc/pressure/memory": "full avg10=1.00 avg60=4.50 avg300=2.00\n"},
	} {
		if got := vitalTree(t, files).Look(t.Context()); len(got) != 0 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestVitalsOfThisHost: the real kernel's files are understood.
func TestVitalsOfThisHost(t *testing.T) {
	t.Parallel()
	v := &vitals{path: host.New(host.Config{}).Path, cfg: config.Config{PSIMaxMemory: 10, PSIMaxIO: 80, PSIMaxCPU: 95, MinMemAvailable: 3}}
	got := map[string]rollout.Vital{}
	for _, x := range v.Look(t.Context()) {
		got[x.Name] = x
	}
	if _, err := os.Stat("/proc/pressure/memory"); err == nil && got[vitalMemory].Limit == 0 {
		t.Error("memory pressure is there, and was not read")
	}
	if left := got[vitalLeft].Value; left <= 0 || left > 100 {
		t.Errorf("%v %% of memory is available", left)
	}
}

// BenchmarkLook is what one look of the watch reads, once a second while a trial runs.
func BenchmarkLook(b *testing.B) {
	v := &vitals{path: host.New(host.Config{}).Path, cfg: config.Config{PSIMaxMemory: 10, PSIMaxIO: 80, PSIMaxCPU: 95, MinMemAvailable: 3}}
	for b.Loop() {
		v.Look(b.Context())
	}
}

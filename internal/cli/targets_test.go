package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"semantos/internal/host/hosttest"
)

// house is a network namespace with a server that answers, and a witness of one of its tunables.
type house struct {
	*exposureWitness
	ns *hosttest.Namespace
}

const witnessed = "/proc/sys/net/ipv4/tcp_retries2"

func newHouse(t *testing.T) *house {
	t.Helper()
	ns := hosttest.FreshNetns(t)
	var file *os.File
	var err error
	ns.Do(func() {
		if file, err = os.Open(witnessed); err != nil {
			return
		}
		keep := exec.Command("sleep", "300") // a process, so that others see the namespace
		if err = keep.Start(); err == nil {
			t.Cleanup(func() { _ = keep.Process.Kill(); _ = keep.Wait() })
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return &house{ns: ns, exposureWitness: &exposureWitness{name: ns.Target, read: func() string {
		buf := make([]byte, 32)
		n, _ := file.ReadAt(buf, 0)
		return strings.TrimSpace(string(buf[:n]))
	}}}
}

// TestTargetsExposeWhatTheySay is a rollout over five real namespaces, measured by their servers' own requests:
// what an independent witness integrates of each stage is the share that the stage names.
func TestTargetsExposeWhatTheySay(t *testing.T) {
	host := freshHost(t)
	const n = 5
	meter, how := "ebpf:comm="+comm(t), []string{"--margin", "0.9", "--stage-time", "12s", "--steps", "20,50,100"}
	args := append([]string{"--use-ebpf", "auto", "apply", "--meter", meter, "--dry-run", "--json"}, how...)
	var set []string
	var all []*exposureWitness
	for range n {
		h := newHouse(t)
		all = append(all, h.exposureWitness)
		h.ns.Do(func() { slowServer(t, time.Millisecond) })
		set = append(set, "net.ipv4.tcp_retries2@"+h.ns.Target)
		args = append(args, "--set", set[len(set)-1]+"=14")
	}
	dry := inside(t, host, filepath.Join(t.TempDir(), "data"), args...)
	if dry.exit != 0 || !strings.Contains(dry.stdout, `"mode": "targets"`) {
		t.Errorf("dry run: exit %d\n%s%s", dry.exit, dry.stdout, dry.stderr)
	}
	got, r := applyTo(t, host, meter, set, all, "14", how...)
	endedHarmless(t, got, r)
	exposedAsSaid(t, r, all, 1200*time.Millisecond, 1)
}

// comm is what the kernel calls this process, whose servers answer.
func comm(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

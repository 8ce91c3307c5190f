package cli

import (
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"semantos/internal/host/hosttest"
	"semantos/internal/tune"
)

// house is a network namespace with a server that answers, and a witness of one of its tunables.
type house struct {
	ns   *hosttest.Namespace
	file *os.File

	mu      sync.Mutex
	changes []turn
}

type turn struct {
	at      time.Time
	treated bool
}

const witnessed = "/proc/sys/net/ipv4/tcp_retries2"

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{ns: hosttest.FreshNetns(t)}
	var err error
	h.ns.Do(func() {
		if h.file, err = os.Open(witnessed); err != nil {
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
	t.Cleanup(func() { h.file.Close() })
	return h
}

// witness looks every few milliseconds, on its own, whether the namespace has the change.
func (h *house) witness(stop <-chan struct{}, changed string) {
	buf := make([]byte, 32)
	last := false
	for {
		select {
		case <-stop:
			return
		case <-time.After(4 * time.Millisecond):
		}
		n, _ := h.file.ReadAt(buf, 0)
		if now := strings.TrimSpace(string(buf[:n])) == changed; now != last {
			h.mu.Lock()
			h.changes = append(h.changes, turn{time.Now(), now})
			h.mu.Unlock()
			last = now
		}
	}
}

// treated is how long the namespace had the change between two moments.
func (h *house) treated(from, to time.Time) time.Duration {
	var sum time.Duration
	on, since := false, from
	for _, c := range append(h.changes, turn{to, false}) {
		at := c.at
		if at.Before(from) {
			on, since = c.treated, from
			continue
		}
		if at.After(to) {
			at = to
		}
		if on {
			sum += at.Sub(since)
		}
		on, since = c.treated, at
		if !c.at.Before(to) {
			break
		}
	}
	return sum
}

// TestTargetsExposeWhatTheySay is a rollout over five real namespaces, measured by their servers' own requests:
// what an independent witness integrates of each stage is the share that the stage names.
func TestTargetsExposeWhatTheySay(t *testing.T) {
	host := freshHost(t)
	const n = 5
	args := []string{"apply", "--stage-time", "12s", "--steps", "20,50,100", "--meter", "ebpf:comm=" + comm(t), "--yes", "--json"}
	var houses []*house
	stop := make(chan struct{})
	var watching sync.WaitGroup
	for range n {
		h := newHouse(t)
		houses = append(houses, h)
		h.ns.Do(func() { slowServer(t, time.Millisecond) })
		args = append(args, "--set", "net.ipv4.tcp_retries2@"+h.ns.Target+"=14")
		watching.Add(1)
		go func() { defer watching.Done(); h.witness(stop, "14") }()
	}
	data := filepath.Join(t.TempDir(), "data")
	dry := inside(t, host, data, append([]string{"--use-ebpf", "auto"}, append(args, "--dry-run")...)...)
	if dry.exit != 0 || !strings.Contains(dry.stdout, `"mode": "targets"`) {
		t.Errorf("dry run: exit %d\n%s%s", dry.exit, dry.stdout, dry.stderr)
	}
	got := inside(t, host, data, args...)
	close(stop)
	watching.Wait()
	var r tune.Rollout
	got.decode(t, &r)
	if len(r.Stages) < 2 {
		if strings.Contains(got.stderr, "ebpf") && got.exit == 4 {
			t.Skip("probes cannot be loaded here: " + got.stderr)
		}
		t.Fatalf("exit %d, %s: %s\n%s", got.exit, r.State, r.Detail, got.stderr)
	}
	if r.State != tune.Committed && r.Reason != tune.ReasonInconclusive {
		t.Errorf("a harmless change: %s (%s) %s", r.State, r.Reason, r.Detail)
	}
	from := r.Started
	for i, st := range r.Stages {
		if st.Mode != "targets" {
			t.Fatalf("stage %d is by %s: %s", i, st.Mode, st.Reason)
		}
		to := from.Add(time.Duration(st.Seconds * float64(time.Second)))
		length := to.Sub(from)
		sum := time.Duration(0)
		for _, h := range houses {
			sum += h.treated(from, to)
		}
		from = to
		if st.Share == 100 {
			continue // its end alternates with untreated targets
		}
		if i == 0 {
			length -= 1200 * time.Millisecond // the untreated slot before the first treated one
		}
		share := 100 * sum.Seconds() / (n * length.Seconds())
		slot := 100 * 1.3 / length.Seconds()
		if math.Abs(share-st.Share) > slot*st.Share/100+3 {
			t.Errorf("stage of %.0f %%: the witness saw %.1f %% (reported %.1f)", st.Share, share, st.Exposed)
		}
		t.Logf("stage of %.0f %%: witness %.1f %%, reported %.1f %%, %.1f s, %s", st.Share, share, st.Exposed, st.Seconds, st.Reason)
	}
	t.Logf("%s (%s): %s", r.State, r.Reason, r.Detail)
	inside(t, host, data, "rollback", "--all")
	for _, h := range houses {
		b := make([]byte, 8)
		k, _ := h.file.ReadAt(b, 0)
		if v := strings.TrimSpace(string(b[:k])); v != "15" {
			t.Errorf("%s is left at %s", h.ns.Target, v)
		}
	}
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

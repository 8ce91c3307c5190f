package guard

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"semantos/ebpf/writers"
	"semantos/internal/host"
	"semantos/internal/tune"
)

// kernelWitness has the kernel tell who writes sysctls, as semantos itself does.
type kernelWitness struct {
	host *host.Host
	told string

	mu    sync.Mutex
	watch *writers.Watch
	why   string
}

func (w *kernelWitness) Start() {
	root, _, err := w.host.UnifiedRoot()
	var watch *writers.Watch
	if err == nil {
		watch, err = writers.Open(root)
	}
	w.mu.Lock()
	w.watch, w.why = watch, fmt.Sprint(err)
	w.mu.Unlock()
	word := "yes"
	if err != nil {
		word = err.Error()
	}
	if err := os.WriteFile(w.told, []byte(word), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

func (w *kernelWitness) Hold(*tune.Tunable, string) {}

func (w *kernelWitness) Writes(t *tune.Tunable, target string) tune.Seen {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.watch == nil {
		return tune.Seen{Why: w.why}
	}
	var netns uint64
	if _, err := fmt.Sscanf(target, "netns:%d", &netns); err != nil {
		return tune.Seen{Why: err.Error()}
	}
	return w.watch.Writes(t.Path, netns)
}

// watches waits until the guard's watch has begun, and reports whether the kernel tells here.
func (s *stage) watches() bool {
	s.t.Helper()
	for start := time.Now(); time.Since(start) < 20*time.Second; time.Sleep(5 * time.Millisecond) {
		word, err := os.ReadFile(s.witness)
		if err == nil && len(word) > 0 {
			if string(word) != "yes" {
				s.t.Logf("the kernel does not tell who writes: %s", word)
			}
			return string(word) == "yes"
		}
	}
	s.t.Fatal("the watch did not begin")
	return false
}

func apply1(t *testing.T, c *Client, rollout, value string) {
	t.Helper()
	if _, err := c.Apply(t.Context(), rollout, []tune.Change{{Tunable: netNames()[1], Target: ownNetns(), Proposed: tune.Value(value)}}, "test"); err != nil {
		t.Fatal(err)
	}
}

// shellWrites has a shell write tcp_fin_timeout in the test's namespace, and gives its number.
func shellWrites(t *testing.T, value string) int {
	t.Helper()
	cmd := exec.Command("sh", "-c", "echo "+value+" > /proc/sys/net/ipv4/tcp_fin_timeout")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return cmd.Process.Pid
}

// TestYieldNamesTheWriter: at the end of a trial, at its next write and at a commit; in its namespace alone;
// and nobody where several wrote, where the value is not what was written, and where nobody watched.
func TestYieldNamesTheWriter(t *testing.T) {
	s := newStage(t)
	s.witness = filepath.Join(t.TempDir(), "told")
	c := s.client(t)
	if !s.watches() {
		t.Skip("the kernel does not tell who writes sysctls here")
	}
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	self := plain(strings.TrimSpace(string(comm)))
	end := func(rollout string) string {
		t.Helper()
		got, err := c.Rollback(t.Context(), rollout, "test")
		if err != nil || len(got) != 1 || got[0].Outcome != Yielded {
			t.Fatalf("rollback %s: %+v, %v", rollout, got, err)
		}
		return got[0].Detail
	}
	named := func(text string, pid int) {
		t.Helper()
		if want := fmt.Sprintf("; written by sh (pid %d, of %s, pid %d; uid 0", pid, self, os.Getpid()); !strings.Contains(text, want) || strings.Contains(text, NotKnown) {
			t.Errorf("%q does not say %q", text, want)
		}
	}
	nobody := func(text, why string) {
		t.Helper()
		if !strings.Contains(text, "; "+NotKnown+why) {
			t.Errorf("%q does not say %q", text, NotKnown+why)
		}
	}
	apply1(t, c, "r1", "17")
	pid := shellWrites(t, "41")
	_, err = c.Apply(t.Context(), "r1", []tune.Change{{Tunable: netNames()[1], Target: ownNetns(), Proposed: "18"}}, "test")
	named(fmt.Sprint(err), pid)
	named(fmt.Sprint(c.Commit(t.Context(), "r1")), pid)
	named(end("r1"), pid)

	apply1(t, c, "r2", "17")
	pid = shellWrites(t, "0x2a")
	named(end("r2"), pid)

	apply1(t, c, "r3", "17")
	one := shellWrites(t, "43")
	two := shellWrites(t, "44")
	text := end("r3")
	nobody(text, fmt.Sprintf("several wrote it: \"43\" by sh (pid %d", one))
	if !strings.Contains(text, fmt.Sprintf("\"44\" by sh (pid %d", two)) {
		t.Errorf("%q leaves out the second", text)
	}

	// Somebody in another namespace writes the same words.
	apply1(t, c, "r4", "17")
	if out, err := exec.Command("unshare", "-n", "sh", "-c", "echo 45 > /proc/sys/net/ipv4/tcp_fin_timeout").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	pid = shellWrites(t, "45")
	named(end("r4"), pid)

	// What stands is left by this guard, and changed while nobody watches.
	apply1(t, c, "r5", "17")
	if err := c.Commit(t.Context(), "r5"); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	shellWrites(t, "46")
	if err := os.Remove(s.witness); err != nil {
		t.Fatal(err)
	}
	c = s.client(t)
	s.watches()
	nobody(end("r5"), "nobody watched before 20")
}

// TestForeignWriteFoundAtTheStart: a guard that finds a dead one's value changed says that nobody watched.
func TestForeignWriteFoundAtTheStart(t *testing.T) {
	s := newStage(t)
	s.witness = filepath.Join(t.TempDir(), "told")
	s.startParent(0, 0)
	if line := <-s.lines; line != "applied" {
		t.Fatalf("parent said %q", line)
	}
	kill(t, s.guard)
	_ = s.cmd.Wait() // 1: it lost its guard
	s.waitUnlocked(time.Second)
	shellWrites(t, "47")
	notes := strings.Join(s.recover(), "\n")
	if !strings.Contains(notes, "net.ipv4.tcp_fin_timeout") || !strings.Contains(notes, NotKnown+noWitness) {
		t.Errorf("%s", notes)
	}
}

package guard

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// TestYieldsToTuneD: a real TuneD sets what a trial holds. It is yielded to and not written again, neither
// while TuneD runs nor after its end, when TuneD itself puts back what it had found.
func TestYieldsToTuneD(t *testing.T) {
	tuned, err := exec.LookPath("tuned")
	if err != nil {
		t.Skip("needs TuneD (Debian: tuned)")
	}
	s := newStage(t)
	s.witness = filepath.Join(t.TempDir(), "told")
	etc := t.TempDir()
	for file, text := range map[string]string{
		"tuned-main.conf":     "daemon = 1\nreapply_sysctl = 0\n",
		"semantos/tuned.conf": "[main]\nsummary=a test\n[sysctl]\nnet.ipv4.tcp_fin_timeout=41\n",
		"profile_mode":        "manual\n",
	} {
		path := filepath.Join(etc, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c := s.client(t)
	watches := s.watches()
	if _, err := c.Apply(t.Context(), "r1", []tune.Change{{Tunable: netNames()[1], Target: ownNetns(), Proposed: "17"}}, "test"); err != nil {
		t.Fatal(err)
	}
	// Its configuration lies over /etc/tuned for itself alone.
	cmd := exec.Command("unshare", "-m", "sh", "-c", `mount --bind "$0" /etc/tuned && exec "$1" --no-dbus -p semantos -P "$0/pid" -l"$0/log"`, etc, tuned)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // ended already in a good run
	for start := time.Now(); readNet(netNames()[1]) != "41"; time.Sleep(20 * time.Millisecond) {
		if time.Since(start) > 20*time.Second {
			log, _ := os.ReadFile(filepath.Join(etc, "log"))
			t.Fatalf("TuneD did not set it: %s", log)
		}
	}
	got, err := c.Rollback(t.Context(), "r1", "test")
	if err != nil || len(got) != 1 || got[0].Outcome != Yielded || got[0].Found != "41" {
		t.Fatalf("rollback beside TuneD: %+v, %v", got, err)
	}
	if want := fmt.Sprintf("; written by tuned (pid %d, of ", cmd.Process.Pid); watches && !strings.Contains(got[0].Detail, want) {
		t.Errorf("%q does not name TuneD (%q)", got[0].Detail, want)
	}
	if now := readNet(netNames()[1]); now != "41" {
		t.Errorf("fought over: %q", now)
	}
	if err := unix.Kill(cmd.Process.Pid, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // its status is its own affair
	left := readNet(netNames()[1])
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	s.recover()
	if now := readNet(netNames()[1]); now != left {
		t.Errorf("TuneD left %q, now it is %q", left, now)
	}
}

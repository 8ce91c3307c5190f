package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTunerFindings(t *testing.T) {
	t.Parallel()
	proc := t.TempDir()
	process := func(pid, comm string) {
		dir := filepath.Join(proc, pid)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "comm"), []byte(comm+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	process("10", "nginx")
	process("self", "tuned") // no pid
	if got := tunerFindings(proc); len(got) != 1 || got[0].Status != "ok" {
		t.Errorf("no tuner: %+v", got)
	}
	process("77", "tuned")
	process("78", "bpftune")
	got := tunerFindings(proc)
	if len(got) != 1 || got[0].Status != "limited" || !strings.Contains(got[0].Text, "tuned (pid 77), bpftune (pid 78)") || got[0].Hint == "" {
		t.Errorf("two tuners: %+v", got)
	}
	if got := tunerFindings(filepath.Join(proc, "absent")); len(got) != 1 || got[0].Status != "limited" {
		t.Errorf("an unreadable /proc: %+v", got)
	}
}

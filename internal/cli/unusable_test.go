package cli

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"semantos/internal/tune"
)

// spoil puts a plain file where DATA_DIR was.
func (m *machine) spoil(t *testing.T) {
	t.Helper()
	if err := os.Rename(m.data, m.data+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.data, []byte("no folder\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestUnusableDataDirStillRestores: the run folder's copies are enough to put back what a killed semantos
// left; the command then fails for its own reason.
func TestUnusableDataDirStillRestores(t *testing.T) {
	t.Parallel()
	for _, next := range [][]string{{"rollback", "--all"}, {"recommend", "--window", "2s"}, {"serve", "--listen", "127.0.0.1:0"},
		{"apply", "--set", "vm.vfs_cache_pressure=90", "--yes", "--stage-time", "1s"}} {
		t.Run(next[0], func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, nil)
			cmd, _ := m.start(t, "apply", "--set", "vm.swappiness=40", "--yes", "--stage-time", "60s")
			m.becomes(t, "proc/sys/vm/swappiness", "40", 30*time.Second)
			if err := syscall.Kill(guardOf(t, cmd.Process.Pid), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // only its end matters
			m.spoil(t)
			got := m.run(t, next...)
			if got.exit != 1 || m.read(t, "proc/sys/vm/swappiness") != "60" || m.read(t, "proc/sys/vm/vfs_cache_pressure") != "100" {
				t.Errorf("exit %d, swappiness %s", got.exit, m.read(t, "proc/sys/vm/swappiness"))
			}
			for _, word := range []string{"vm.swappiness on host was left at", m.data, "Try: "} {
				if !strings.Contains(got.stderr, word) {
					t.Errorf("%q is not said:\n%s", word, got.stderr)
				}
			}
		})
	}
}

// TestRollbackWithoutHistory: a committed value goes back though history cannot be opened.
func TestRollbackWithoutHistory(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	if got := m.run(t, "apply", "--set", "vm.swappiness=40", "--yes", "--stage-time", "1s"); got.exit != 0 {
		t.Fatal(got.stderr)
	}
	m.spoil(t)
	got := m.run(t, "rollback", "--all")
	if got.exit != 1 || m.read(t, "proc/sys/vm/swappiness") != "60" || !strings.Contains(got.stdout, "restored") || !strings.Contains(got.stderr, m.data) {
		t.Errorf("exit %d\n%s%s", got.exit, got.stdout, got.stderr)
	}
}

// TestKilledCommandIsNotRunning: history ends what nobody runs any more.
func TestKilledCommandIsNotRunning(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	cmd, _ := m.start(t, "apply", "--set", "vm.swappiness=40", "--yes", "--stage-time", "60s")
	m.becomes(t, "proc/sys/vm/swappiness", "40", 30*time.Second)
	state := func() tune.Rollout {
		var doc historyDocument
		m.run(t, "history", "--json").decode(t, &doc)
		if len(doc.Rollouts) != 1 {
			t.Fatalf("history %+v", doc.Rollouts)
		}
		return doc.Rollouts[0]
	}
	if r := state(); r.State != tune.Running {
		t.Errorf("while it runs: %s", r.State)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	m.becomes(t, "proc/sys/vm/swappiness", "60", 3*time.Second)
	for deadline := time.Now().Add(3 * time.Second); state().State == tune.Running && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond) // the guard is about to end
	}
	if r := state(); r.State != tune.RolledBack || r.Reason != tune.ReasonInterrupted {
		t.Errorf("after it was killed: %s (%s)", r.State, r.Reason)
	}
}

// TestUndoLinesRemovePersistedFiles: else the next boot would set the value again.
func TestUndoLinesRemovePersistedFiles(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	if got := m.run(t, "apply", "--set", "vm.swappiness=40", "--yes", "--persist", "--stage-time", "1s"); got.exit != 0 {
		t.Fatal(got.stderr)
	}
	files, err := filepath.Glob(filepath.Join(m.root, "etc/sysctl.d/*semantos*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, %v", files, err)
	}
	if got := m.run(t, "undo", "--print"); !strings.Contains(got.stdout, "rm -f "+files[0]+"\n") {
		t.Errorf("lines:\n%s", got.stdout)
	}
}

package cli

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"semantos/console"
	"semantos/internal/tune"
)

// steady is a meter that always reads the same: nothing gets worse by the change.
func steady(t *testing.T) string {
	t.Helper()
	script := filepath.Join(t.TempDir(), "steady")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nsleep 0.2\necho 1.0,2.0,100,0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return "cmd:" + script
}

func TestApplyKeepsWhatIsNotWorseAndRollbackGivesTheBytesBack(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	before := m.kernel(t)
	got := m.run(t, "apply", "--set", "vm.swappiness=40", "--set", "vm.vfs_cache_pressure=80", "--meter", steady(t), "--stage-time", "3s", "--json")
	var r tune.Rollout
	got.decode(t, &r)
	if got.exit != 0 || r.State != tune.Committed || r.Effect == nil || len(r.Stages) == 0 {
		t.Fatalf("exit %d, %+v\n%s", got.exit, r, got.stderr)
	}
	if v := m.read(t, "proc/sys/vm/swappiness"); v != "40" {
		t.Errorf("swappiness is %s", v)
	}
	m.looksCommitted(t, r.ID)

	got = m.run(t, "rollback", r.ID, "--json")
	var back console.RollbackResult
	got.decode(t, &back)
	if got.exit != 0 || len(back.Restored) != 2 || back.Restored[0].State != "restored" {
		t.Errorf("exit %d, %+v", got.exit, back)
	}
	for name, text := range before {
		if now := m.kernel(t)[name]; strings.TrimSpace(now) != strings.TrimSpace(text) {
			t.Errorf("%s is %q, was %q", name, now, text)
		}
	}
	var history historyDocument
	m.run(t, "history", "--json").decode(t, &history)
	if len(history.Rollouts) != 1 || history.Rollouts[0].State != tune.RolledBack || history.Rollouts[0].Reason != tune.ReasonOperator {
		t.Errorf("history %+v", history.Rollouts)
	}
	if got := m.run(t, "rollback", "--all"); got.exit != 0 || !strings.Contains(got.stdout, "Nothing to roll back") {
		t.Errorf("exit %d: %s", got.exit, got.stdout)
	}
}

// looksCommitted asks every command that only reads.
func (m *machine) looksCommitted(t *testing.T, id string) {
	t.Helper()
	var status statusDocument
	m.run(t, "status", "--json").decode(t, &status)
	if len(status.Managed) != 2 || status.Managed[0].State != "committed" || status.Managed[0].Original != "60" || status.Managed[0].Current != "40" {
		t.Errorf("status %+v", status.Managed)
	}
	var verify verifyDocument
	if got := m.run(t, "verify", "--json"); got.exit != 0 {
		t.Errorf("verify: exit %d %s", got.exit, got.stderr)
	} else if got.decode(t, &verify); !verify.OK || len(verify.Checks) != 2 {
		t.Errorf("verify %+v", verify)
	}
	var explain explainDocument
	m.run(t, "explain", id, "--json").decode(t, &explain)
	if explain.Rollout == nil || explain.Rollout.ID != id || !explain.Recommendation.Provenance.Operator {
		t.Errorf("explain %+v", explain)
	}
	if got := m.run(t, "undo", "--print"); !strings.Contains(got.stdout, "sysctl -w vm.swappiness=60\n") {
		t.Errorf("undo --print: %s", got.stdout)
	}
	if got := m.run(t, "export"); !strings.Contains(got.stdout, "\nvm.swappiness = 40\n") {
		t.Errorf("export: %s", got.stdout)
	}
	for _, args := range [][]string{{"status"}, {"history"}, {"verify"}, {"explain", id}} {
		got := m.run(t, args...)
		if got.exit != 0 || !strings.Contains(got.stdout, "vm.swappiness") {
			t.Errorf("%v: exit %d\n%s", args, got.exit, got.stdout)
		}
	}
}

func TestPersistWritesForTheNextBootAndRollbackRemovesIt(t *testing.T) {
	t.Parallel()
	m := newMachine(t, map[string]string{"etc/sysctl.d/10-distribution.conf": "vm.swappiness = 60\n"})
	var r tune.Rollout
	got := m.run(t, "apply", "--set", "vm.swappiness=40", "--yes", "--persist", "--stage-time", "1s", "--json")
	got.decode(t, &r)
	if got.exit != 0 || r.State != tune.Committed || len(r.Persisted) != 1 {
		t.Fatalf("exit %d, persisted %v\n%s", got.exit, r.Persisted, got.stderr)
	}
	files, err := filepath.Glob(filepath.Join(m.root, "etc/sysctl.d/*semantos*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, %v", files, err)
	}
	if text, err := os.ReadFile(files[0]); err != nil || !strings.Contains(string(text), "swappiness") || !strings.Contains(string(text), "40") {
		t.Errorf("%s, %v", text, err)
	}
	if got := m.run(t, "rollback", r.Recommendation.ID); got.exit != 0 || m.read(t, "proc/sys/vm/swappiness") != "60" {
		t.Errorf("rollback: exit %d\n%s", got.exit, got.stderr)
	}
	if _, err := os.Stat(files[0]); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", files[0], err)
	}
}

func TestVerifySeesWhatSomethingElseChangedAndRollbackYields(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	if got := m.run(t, "apply", "--set", "vm.swappiness=40", "--yes", "--stage-time", "1s"); got.exit != 0 {
		t.Fatal(got)
	}
	m.write(t, "proc/sys/vm/swappiness", "33\n")
	var doc verifyDocument
	got := m.run(t, "verify", "--json")
	got.decode(t, &doc)
	if got.exit != 1 || doc.OK || doc.Checks[0].Verdict != "changed" || doc.Checks[0].Live != "33" {
		t.Errorf("exit %d, %+v", got.exit, doc)
	}
	if got := m.run(t, "rollback", "--all"); got.exit != 0 || !strings.Contains(got.stdout, "yielded") {
		t.Errorf("exit %d: %s", got.exit, got.stdout)
	}
	if v := m.read(t, "proc/sys/vm/swappiness"); v != "33" {
		t.Errorf("the other writer's value became %s", v)
	}
}

func TestVetoIsExit3AndYesPassesIt(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	var r tune.Rollout
	got := m.run(t, "apply", "--set", "vm.swappiness=0", "--stage-time", "1s", "--tau", "0.01", "--json")
	got.decode(t, &r)
	if got.exit != 3 || r.State != tune.Vetoed || r.Reason == "" || m.read(t, "proc/sys/vm/swappiness") != "60" {
		t.Errorf("exit %d, %+v", got.exit, r)
	}
	got = m.run(t, "apply", "--set", "vm.swappiness=40", "--stage-time", "1s", "--tau", "0.01", "--yes", "--json")
	got.decode(t, &r)
	if got.exit != 0 || r.State != tune.Committed || r.Effect != nil || r.Reason != tune.ReasonUnmeasured {
		t.Errorf("exit %d, %+v\n%s", got.exit, r, got.stderr)
	}
}

func TestUnmeasuredWithoutYesIsPutBack(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	var r tune.Rollout
	got := m.run(t, "apply", "--set", "vm.swappiness=40", "--stage-time", "1s", "--json")
	got.decode(t, &r)
	if got.exit != 3 || r.State != tune.RolledBack || m.read(t, "proc/sys/vm/swappiness") != "60" {
		t.Errorf("exit %d, %+v", got.exit, r)
	}
}

func TestDryRunPrintsTheDiffAndWritesNothing(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	before := m.kernel(t)
	got := m.run(t, "apply", "--set", "net.ipv4.tcp_rmem=4096,131072,16777216", "--dry-run")
	if got.exit != 0 || !strings.Contains(got.stdout, "\n- 4096 131072 6291456\n+ 4096 131072 16777216\n") {
		t.Errorf("exit %d:\n%s%s", got.exit, got.stdout, got.stderr)
	}
	var doc dryRunDocument
	m.run(t, "apply", "--set", "vm.swappiness=40", "--dry-run", "--json").decode(t, &doc)
	if !doc.Admissible || len(doc.Recommendation.Changes) != 1 || doc.Recommendation.ID == "" {
		t.Errorf("%+v", doc)
	}
	for name, text := range m.kernel(t) {
		if before[name] != text {
			t.Errorf("%s changed", name)
		}
	}
}

// start runs the binary itself in the background, as a user would.
func (m *machine) start(t *testing.T, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	cmd := exec.Command(binary, append([]string{"--root", m.root, "--data-dir", m.data}, args...)...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, m.env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, nil
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd, &out
}

// becomes waits until a file reads as wanted.
func (m *machine) becomes(t *testing.T, name, want string, limit time.Duration) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for m.read(t, name) != want {
		if time.Now().After(deadline) {
			t.Fatalf("%s is %q and not %q after %s", name, m.read(t, name), want, limit)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// guardOf finds the guard among the children of a process.
func guardOf(t *testing.T, parent int) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(parent), "task", strconv.Itoa(parent), "children"))
	if err != nil {
		t.Fatal(err)
	}
	tasks, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(parent), "task", "*", "children"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range tasks {
		data, err = os.ReadFile(file)
		if err != nil {
			continue
		}
		for _, pid := range strings.Fields(string(data)) {
			line, _ := os.ReadFile(filepath.Join("/proc", pid, "cmdline"))
			if strings.Contains(string(line), "\x00guard\x00") {
				n, err := strconv.Atoi(pid)
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
		}
	}
	t.Fatalf("process %d has no guard", parent)
	return 0
}

func TestInterruptPutsBack(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, nil)
			cmd, out := m.start(t, "apply", "--set", "vm.swappiness=40", "--yes", "--stage-time", "60s", "--json")
			m.becomes(t, "proc/sys/vm/swappiness", "40", 30*time.Second)
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // the status is read below
			var r tune.Rollout
			result{stdout: out.String()}.decode(t, &r)
			if cmd.ProcessState.ExitCode() != 3 || r.State != tune.RolledBack || r.Reason != tune.ReasonInterrupted {
				t.Errorf("exit %d, %s %s", cmd.ProcessState.ExitCode(), r.State, r.Reason)
			}
			if v := m.read(t, "proc/sys/vm/swappiness"); v != "60" {
				t.Errorf("swappiness is %s", v)
			}
		})
	}
}

func TestParentKilledTheGuardRestores(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	cmd, _ := m.start(t, "apply", "--set", "vm.swappiness=40", "--yes", "--stage-time", "60s")
	m.becomes(t, "proc/sys/vm/swappiness", "40", 30*time.Second)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	m.becomes(t, "proc/sys/vm/swappiness", "60", 3*time.Second)
}

func TestGuardKilledTheParentEnds1AndTheNextCommandRestores(t *testing.T) {
	t.Parallel()
	for _, next := range [][]string{{"rollback", "--all"}, {"recommend", "--window", "2s"}, {"apply", "--set", "vm.vfs_cache_pressure=90", "--yes", "--stage-time", "1s"},
		{"undo"}} {
		t.Run(next[0], func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, nil)
			cmd, _ := m.start(t, "apply", "--set", "vm.swappiness=40", "--yes", "--stage-time", "60s")
			m.becomes(t, "proc/sys/vm/swappiness", "40", 30*time.Second)
			if err := syscall.Kill(guardOf(t, cmd.Process.Pid), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // the status is read below
			if code := cmd.ProcessState.ExitCode(); code != 1 {
				t.Errorf("exit %d after the guard's death, want 1", code)
			}
			// What only reads reports it and leaves it.
			if got := m.run(t, "status"); got.exit != 0 || !strings.Contains(got.stdout, "in_doubt") || m.read(t, "proc/sys/vm/swappiness") != "40" {
				t.Errorf("status: exit %d\n%s", got.exit, got.stdout)
			}
			if got := m.run(t, "tunables", "--domain", "vm"); got.exit != 0 || !strings.Contains(got.stderr, "vm.swappiness on host was left at") {
				t.Errorf("tunables: exit %d\n%s", got.exit, got.stderr)
			}
			got := m.run(t, next...)
			if got.exit != 0 || m.read(t, "proc/sys/vm/swappiness") != "60" {
				t.Errorf("%v: exit %d, swappiness %s\n%s%s", next, got.exit, m.read(t, "proc/sys/vm/swappiness"), got.stdout, got.stderr)
			}
			if !strings.Contains(got.stderr, "vm.swappiness") {
				t.Errorf("%v does not say what it restored:\n%s", next, got.stderr)
			}
		})
	}
}

func TestWithoutRightsRecommendOnlyReportsLeftovers(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	cmd, _ := m.start(t, "apply", "--set", "vm.swappiness=40", "--yes", "--stage-time", "60s")
	m.becomes(t, "proc/sys/vm/swappiness", "40", 30*time.Second)
	if err := syscall.Kill(guardOf(t, cmd.Process.Pid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // only its end matters
	got := m.runAs(t, 1000, "recommend", "--window", "2s")
	if got.exit != 0 || m.read(t, "proc/sys/vm/swappiness") != "40" || !strings.Contains(got.stderr, "vm.swappiness") {
		t.Errorf("exit %d, swappiness %s\n%s", got.exit, m.read(t, "proc/sys/vm/swappiness"), got.stderr)
	}
}

func TestSecondWriterIsRefused(t *testing.T) {
	t.Parallel()
	m := newMachine(t, nil)
	m.start(t, "apply", "--set", "vm.swappiness=40", "--yes", "--stage-time", "60s")
	m.becomes(t, "proc/sys/vm/swappiness", "40", 30*time.Second)
	other := &machine{root: m.root, data: filepath.Join(t.TempDir(), "other")}
	got := other.run(t, "apply", "--set", "vm.vfs_cache_pressure=90", "--yes", "--stage-time", "1s", "--json")
	var doc errorDocument
	got.decode(t, &doc)
	if got.exit != 1 || !strings.Contains(doc.Error.Message, "another semantos") || doc.Error.Hint == "" {
		t.Errorf("exit %d, %+v", got.exit, doc)
	}
	if v := m.read(t, "proc/sys/vm/vfs_cache_pressure"); v != "100" {
		t.Errorf("the second writer wrote %s", v)
	}
}

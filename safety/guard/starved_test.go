package guard

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

const (
	envCgroup = "SEMANTOS_TEST_CGROUP" // whose memory limit the parent breaks
	envShared = "SEMANTOS_TEST_SHARED" // the guard is started inside it
	envFsize  = "SEMANTOS_TEST_FSIZE"  // the largest file a guard may write, in bytes
)

// helperEater tries a value and then takes memory until the kernel kills it.
func helperEater() error {
	enter := func() error {
		return os.WriteFile(filepath.Join(os.Getenv(envCgroup), "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0o644)
	}
	if os.Getenv(envShared) != "" {
		if err := enter(); err != nil {
			return err
		}
	}
	c, err := Start(context.Background(), StartConfig{Env: roleEnv("guard"), Stderr: os.Stderr})
	if err != nil {
		return err
	}
	if err := errors.Join(enter(), os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0o644)); err != nil {
		return err
	}
	fmt.Println("ready", c.Pid())
	if _, err := c.Apply(context.Background(), "r1", []tune.Change{{Tunable: netNames()[1], Target: ownNetns(), Proposed: "17"}}, "test"); err != nil {
		return err
	}
	fmt.Println("applied")
	var eaten [][]byte
	for range 4096 { // of 1 MiB, far beyond the limit
		chunk := make([]byte, 1<<20)
		for i := 0; i < len(chunk); i += 4096 {
			chunk[i] = 1
		}
		eaten = append(eaten, chunk)
	}
	return fmt.Errorf("ate %d MiB and lives", len(eaten))
}

// TestParentOutOfMemory: the kernel kills the parent at its memory limit; the guard, beside it in the same
// cgroup or outside, restores.
func TestParentOutOfMemory(t *testing.T) {
	for _, where := range []string{"outside", "in the same cgroup"} {
		t.Run("guard "+where, func(t *testing.T) {
			s := newStage(t)
			cgroup := fmt.Sprintf("/sys/fs/cgroup/memory/semantos-oom-%d", os.Getpid())
			if err := os.Mkdir(cgroup, 0o755); err != nil {
				t.Skipf("needs the memory controller of cgroup v1: %v", err)
			}
			t.Cleanup(func() { // the guard has let go of its lock, but may not have ended yet
				err := os.Remove(cgroup)
				for i := 0; err != nil && i < 100; i++ {
					time.Sleep(20 * time.Millisecond)
					err = os.Remove(cgroup)
				}
				if err != nil {
					t.Error(err)
				}
			})
			if err := os.WriteFile(filepath.Join(cgroup, "memory.limit_in_bytes"), []byte("100663296"), 0o644); err != nil {
				t.Fatal(err)
			}
			env := []string{envCgroup + "=" + cgroup}
			if where != "outside" {
				env = append(env, envShared+"=1")
			}
			s.startRole("eater", env...)
			if line := <-s.lines; line != "applied" {
				t.Fatalf("parent said %q", line)
			}
			adj, _ := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", s.guard))
			t.Logf("the guard's oom_score_adj is %s", strings.TrimSpace(string(adj)))
			_ = s.cmd.Wait()
			if ws, ok := s.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !ws.Signaled() || ws.Signal() != syscall.SIGKILL {
				t.Fatalf("the parent was not killed: %v", s.cmd.ProcessState)
			}
			events, err := os.ReadFile(filepath.Join(cgroup, "memory.oom_control"))
			if err != nil || !strings.Contains(string(events), "oom_kill 1") {
				t.Errorf("oom_control %q, %v: want one kill", events, err)
			}
			if took := s.waitUnlocked(2 * time.Second); took > time.Second {
				t.Errorf("restoring took %v", took)
			}
			s.check("after the parent was killed for memory", []map[string]string{s.before})
		})
	}
}

// TestFileSizeLimit: a journal that may not grow on the real file system stops changes with a reason, never
// the guard nor a restore.
func TestFileSizeLimit(t *testing.T) {
	s := newStage(t)
	c, err := Start(t.Context(), StartConfig{Env: s.env("guard", envFsize+"=20000"), Stderr: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	var full error
	for i := 0; full == nil && i < 300; i++ {
		_, full = c.Apply(t.Context(), "r1", []tune.Change{{Tunable: netNames()[1], Target: ownNetns(), Proposed: tune.Value(fmt.Sprint(18 + i))}}, "")
	}
	if !errors.Is(full, tune.ErrStorage) || tune.Hint(full) == "" {
		t.Errorf("apply beyond the limit: %v", full)
	}
	s.check("after the limit", []map[string]string{s.before})
	if _, err := c.Rollback(t.Context(), "r1", ""); err != nil {
		t.Errorf("rollback beyond the limit: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	s.recover()
	s.check("after the next command", []map[string]string{s.before})
}

// limitFiles is RLIMIT_FSIZE of a helper guard.
func limitFiles() error {
	n, err := strconv.ParseUint(os.Getenv(envFsize), 10, 64)
	if err != nil {
		return nil // not asked for
	}
	return unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: n, Max: n})
}

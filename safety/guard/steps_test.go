package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"semantos/internal/host"
	"semantos/internal/tune"
)

const (
	envDie    = "SEMANTOS_TEST_DIE"    // at which access to a tunable the victim is killed; 0 never
	envVictim = "SEMANTOS_TEST_VICTIM" // guard, parent or both
)

// deadlyHost kills at a chosen access: before a write, and after it, when its record is not yet made.
type deadlyHost struct {
	*host.Host
	left   *int
	victim string
}

func newDeadlyHost(h *host.Host) deadlyHost {
	n, err := strconv.Atoi(os.Getenv(envDie))
	if err != nil || n == 0 {
		n = -1
	}
	return deadlyHost{h, &n, os.Getenv(envVictim)}
}

func (h deadlyHost) access() {
	if *h.left < 0 {
		return
	}
	if *h.left--; *h.left != 0 {
		return
	}
	*h.left = -1
	if h.victim != "guard" {
		_ = unix.Kill(os.Getppid(), unix.SIGKILL) // the parent helper: it is there, or has just died
	}
	if h.victim != "parent" {
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	}
}

func (h deadlyHost) Write(t *tune.Tunable, target string, v tune.Value) (tune.Value, error) {
	h.access()
	got, err := h.Host.Write(t, target, v)
	h.access()
	return got, err
}

func (h deadlyHost) Restore(t *tune.Tunable, target string, v tune.Value) (tune.Value, error) {
	h.access()
	got, err := h.Host.Restore(t, target, v)
	h.access()
	return got, err
}

// helperTeller tells one whole story and what it is about to do before it does it.
func helperTeller() error {
	ctx := context.Background()
	c, err := Start(ctx, StartConfig{Env: roleEnv("guard"), Stderr: os.Stderr})
	if err != nil {
		return err
	}
	var over atomic.Bool
	go func() {
		if <-c.Done(); !over.Load() {
			os.Exit(1)
		}
	}()
	fmt.Println("ready", c.Pid())
	values := map[string]string{netNames()[0]: "4096 65536 2097152", netNames()[1]: "17", netNames()[2]: "77"}
	var bundle []tune.Change
	for _, n := range netNames() {
		bundle = append(bundle, tune.Change{Tunable: n, Target: ownNetns(), Proposed: tune.Value(values[n])})
	}
	apply := func() error { _, err := c.Apply(ctx, "story", bundle, "test"); return err }
	revert := func() error { _, err := c.Revert(ctx, "story"); return err }
	rollback := func() error { _, err := c.Rollback(ctx, "story", "test"); return err }
	commit := func() error {
		told, err := json.Marshal(values)
		if err != nil {
			return err
		}
		fmt.Println("commit", string(told))
		if err := c.Commit(ctx, "story"); err != nil {
			return err
		}
		fmt.Println("committed")
		fmt.Println("rollback")
		return nil
	}
	for _, step := range []func() error{apply, revert, apply, commit, rollback} {
		if err := step(); err != nil {
			return err
		}
	}
	fmt.Println("back")
	over.Store(true)
	return c.Close()
}

// TestKilledAtEveryStep: parent, guard or both are killed with SIGKILL before and after each write of a
// whole story: apply, revert, apply again, commit, roll back. What stands is then committed or as before.
func TestKilledAtEveryStep(t *testing.T) {
	stride := 4
	if os.Getenv("SOAK") != "" {
		stride = 1
	}
	for i, victim := range []string{"parent", "guard", "both"} {
		for step := 1 + i; step < 100; step += stride {
			over := false
			t.Run(fmt.Sprintf("%s at access %d", victim, step), func(t *testing.T) { over = killedAt(t, victim, step) })
			if t.Failed() {
				return
			}
			if over {
				if step < 20 {
					t.Errorf("%s: only %d accesses: the story is not told", victim, step)
				}
				break
			}
		}
	}
}

func killedAt(t *testing.T, victim string, step int) (over bool) {
	s := newStage(t)
	s.startRole("teller", envDie+"="+strconv.Itoa(step), envVictim+"="+victim)
	_ = s.cmd.Wait() // killed, lost its guard, or at its end
	if s.cmd.ProcessState.Success() {
		over = true
	}
	allowed := s.told()
	if took := s.waitUnlocked(2 * time.Second); took > time.Second {
		t.Errorf("restoring took %v", took)
	}
	if victim == "parent" {
		s.check("when the guard had ended", allowed)
	}
	s.recover()
	s.check("after the next command", allowed)
	if notes := s.recover(); len(notes) != 0 {
		t.Errorf("a second recovery says %q", notes)
	}
	managed, err := Inspect(s.data, s.run, hostBoot(t))
	if err != nil {
		t.Fatal(err)
	}
	s.rollbackAll(managed)
	s.check("after rollback", []map[string]string{s.before})
	return over
}

// TestRefusedByTheKernel: a value that the kernel refuses half-way through a vector, a file that may not be
// written, and a busy one take the whole bundle back, and the error names the tunable.
func TestRefusedByTheKernel(t *testing.T) {
	for _, c := range []struct {
		name, value string
		want        error
	}{
		{"net.ipv4.tcp_rmem", "8192 262144 4294967296", tune.ErrOutOfRange}, // EINVAL after two elements were taken
		{"net.ipv4.tcp_congestion_control", "cubic", tune.ErrNotPermitted},  // EPERM outside the first namespace
		{"net.core.rmem_max", "300000", nil},                                // 0444 there
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t)
			client := s.client(t)
			before := readNet(c.name)
			bundle := []tune.Change{{Tunable: netNames()[1], Target: ownNetns(), Proposed: "17"}, {Tunable: c.name, Target: ownNetns(), Proposed: tune.Value(c.value)}}
			_, err := client.Apply(t.Context(), "r1", bundle, "test")
			if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.name) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			t.Log(err)
			s.check("after the refusal", []map[string]string{s.before})
			if now := readNet(c.name); now != before {
				t.Errorf("%s is %q, was %q", c.name, now, before)
			}
			if _, err := client.Apply(t.Context(), "r2", bundle[:1], "test"); err != nil {
				t.Errorf("the next bundle: %v", err)
			}
		})
	}
}

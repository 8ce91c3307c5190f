package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// TestKillAnyone: the parent, its guard or both are killed at a random moment; every tunable is then
// committed or exactly as before, at once when the guard lived, after the next command otherwise.
func TestKillAnyone(t *testing.T) {
	kills := 20
	if os.Getenv("SOAK") != "" {
		kills = 200
	}
	for i := range kills {
		victim := []string{"parent", "guard", "both"}[i%3]
		t.Run(fmt.Sprintf("%03d %s", i, victim), func(t *testing.T) {
			s := newStage(t)
			rng := rand.New(rand.NewPCG(uint64(i), 29))
			s.startParent(uint64(i)+1, time.Duration(rng.IntN(3))*time.Millisecond)
			time.Sleep(time.Duration(rng.IntN(120_000)) * time.Microsecond)
			if victim != "parent" {
				kill(t, s.guard)
			}
			if victim != "guard" {
				kill(t, s.cmd.Process.Pid)
			}
			_ = s.cmd.Wait() // killed, or 1 after its guard was lost
			allowed := s.told()
			if victim == "guard" && s.cmd.ProcessState.ExitCode() != 1 {
				t.Errorf("parent exits %v after losing its guard", s.cmd.ProcessState)
			}
			if took := s.waitUnlocked(2 * time.Second); took > time.Second {
				t.Errorf("restoring took %v", took)
			}
			if victim == "parent" {
				s.check("when the guard had ended", allowed)
			}
			s.recover()
			s.check("after the next command", allowed)
			h := hostBoot(t)
			managed, err := Inspect(s.data, s.run, h)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range managed {
				if m.State != "committed" {
					t.Errorf("still %s: %+v", m.State, m)
				}
			}
			s.rollbackAll(managed)
			s.check("after rollback", []map[string]string{s.before})
		})
	}
}

func (s *stage) rollbackAll(managed []tune.Managed) {
	s.t.Helper()
	c, err := Start(s.t.Context(), StartConfig{Env: s.env("guard"), Stderr: os.Stderr})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, m := range managed {
		if _, err := c.Rollback(s.t.Context(), m.Rollout, "test"); err != nil {
			s.t.Error(err)
		}
	}
	if err := c.Close(); err != nil {
		s.t.Error(err)
	}
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatalf("kill %d: %v", pid, err)
	}
}

func hostBoot(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func TestStoppedParentLosesItsLease(t *testing.T) {
	s := newStage(t)
	s.startParent(0, 0)
	if line := <-s.lines; line != "applied" {
		t.Fatalf("parent said %q", line)
	}
	if readNet(netNames()[0]) == s.before[netNames()[0]] {
		t.Fatal("nothing was applied")
	}
	if err := unix.Kill(s.cmd.Process.Pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for fmt.Sprint(readAllNet()) != fmt.Sprint(s.before) {
		if time.Since(start) > time.Second {
			t.Fatalf("not restored within a second: %v", readAllNet())
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Logf("restored after %v", time.Since(start))
	kill(t, s.cmd.Process.Pid)
	_ = s.cmd.Wait()
	s.waitUnlocked(2 * time.Second)
}

func TestGuardEndsOnSIGTERM(t *testing.T) {
	s := newStage(t)
	s.startParent(0, 0)
	<-s.lines
	for _, ignored := range []unix.Signal{unix.SIGINT, unix.SIGHUP, unix.SIGPIPE} {
		if err := unix.Kill(s.guard, ignored); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(50 * time.Millisecond)
	if !guardAlive(s.run) {
		t.Fatal("a terminal's signal ended the guard")
	}
	if err := unix.Kill(s.guard, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = s.cmd.Wait() // 1: it lost its guard
	s.waitUnlocked(time.Second)
	s.check("after SIGTERM", []map[string]string{s.before})
}

func TestSecondWriterIsRefused(t *testing.T) {
	s := newStage(t)
	s.startParent(0, 0)
	<-s.lines
	elsewhere := append(s.env("guard"), envData+"="+t.TempDir())
	_, err := Start(t.Context(), StartConfig{Env: elsewhere, Stderr: os.Stderr})
	if !errors.Is(err, tune.ErrBusy) || !strings.Contains(tune.Hint(err), fmt.Sprint(s.guard)) {
		t.Errorf("got %v, hint %q, want busy naming %d", err, tune.Hint(err), s.guard)
	}
	// Seen from outside, without a lock: what is tried, and how it would be undone.
	managed, err := Inspect(s.data, s.run, hostBoot(t))
	if err != nil || len(managed) != 3 || managed[0].State != "trying" {
		t.Errorf("inspect: %+v, %v", managed, err)
	}
	undo, err := InspectUndo(s.data, s.run, hostBoot(t), "r0-0")
	if err != nil || len(undo) != 3 || string(undo[2].Proposed) != s.before[netNames()[0]] {
		t.Errorf("undo: %+v, %v", undo, err)
	}
	kill(t, s.guard)
	kill(t, s.cmd.Process.Pid)
	_ = s.cmd.Wait()
	s.waitUnlocked(time.Second)
	if managed, err = Inspect(t.TempDir(), s.run, hostBoot(t)); err != nil || len(managed) != 3 || managed[0].State != "in_doubt" {
		t.Errorf("inspect from another data folder: %+v, %v", managed, err)
	}
	s.data = t.TempDir()
	if notes := s.recover(); !strings.Contains(strings.Join(notes, "\n"), "put back") {
		t.Errorf("notes %q", notes)
	}
	s.check("after a command with another data folder", []map[string]string{s.before})
}

func (s *stage) client(t *testing.T) *Client {
	t.Helper()
	c, err := Start(t.Context(), StartConfig{Env: s.env("guard"), Stderr: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestClientSeesTypedErrors(t *testing.T) {
	s := newStage(t)
	c := s.client(t)
	ns := ownNetns()
	one := func(name, target, current, value string) []tune.Change {
		return []tune.Change{{Tunable: name, Target: target, Current: tune.Value(current), Proposed: tune.Value(value)}}
	}
	for _, tc := range []struct {
		changes []tune.Change
		want    error
	}{
		{one("net.ipv4.nothing", ns, "", "1"), tune.ErrUnknown},
		{one("net.ipv4.tcp_fin_timeout", ns, "12345", "1"), tune.ErrStale},
		{one("net.ipv4.tcp_fin_timeout", ns, "", "soon"), tune.ErrType},
		{one("net.ipv4.tcp_rmem", ns, "", "9000 5000 100"), tune.ErrOutOfRange},
		{one("net.ipv4.tcp_fin_timeout", "netns:1", "", "1"), tune.ErrGone},
	} {
		if _, err := c.Apply(t.Context(), "r1", tc.changes, ""); !errors.Is(err, tc.want) {
			t.Errorf("%v: got %v, want %v", tc.changes, err, tc.want)
		}
	}
	if _, err := c.Rollback(t.Context(), "nothing", ""); !errors.Is(err, tune.ErrUnknown) || tune.Hint(err) == "" {
		t.Errorf("rollback of nothing: %v", err)
	}
	if _, err := c.Rollback(t.Context(), "../../etc/passwd", ""); err == nil {
		t.Error("a path is no rollout")
	}
	if m, err := c.Managed(t.Context()); err != nil || m == nil || len(m) != 0 {
		t.Errorf("managed: %v, %v", m, err)
	}
	s.check("after refusals", []map[string]string{s.before})
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	select {
	case <-c.Done():
	default:
		t.Error("Done is open after Close")
	}
}

func TestGarbageEndsAndRestores(t *testing.T) {
	for name, garbage := range map[string][]byte{
		"no JSON":       append(binary.BigEndian.AppendUint32(nil, 4), "!!!!"...),
		"too long":      binary.BigEndian.AppendUint32(nil, 1<<31),
		"empty":         {0, 0, 0, 0},
		"unknown field": append(binary.BigEndian.AppendUint32(nil, 31), `{"id":9,"verb":"bye","path":""}`...),
		"two values":    append(binary.BigEndian.AppendUint32(nil, 4), `{}{}`...),
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			c := s.client(t)
			if _, err := c.Apply(t.Context(), "r1", []tune.Change{{Tunable: netNames()[1], Target: ownNetns(), Proposed: "17"}}, ""); err != nil {
				t.Fatal(err)
			}
			if readNet(netNames()[1]) != "17" {
				t.Fatal("not applied")
			}
			if _, err := c.conn.Write(garbage); err != nil {
				t.Fatal(err)
			}
			select {
			case <-c.Done():
			case <-time.After(2 * time.Second):
				t.Fatal("guard goes on after garbage")
			}
			s.waitUnlocked(time.Second)
			s.check("after garbage", []map[string]string{s.before})
		})
	}
}

func TestGuardThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	_, err := Start(t.Context(), StartConfig{Env: roleEnv("broken-guard")})
	if !errors.Is(err, tune.ErrCorrupt) || !strings.Contains(err.Error(), "load catalogue") {
		t.Errorf("got %v", err)
	}
	if err := Run(t.Context(), Config{}); !errors.Is(err, tune.ErrUsage) {
		t.Errorf("a guard started by hand: %v", err)
	}
}

// TestDiskFullForReal fills the file system under the journal.
func TestDiskFullForReal(t *testing.T) {
	s := newStage(t)
	if err := unix.Mount("tmpfs", s.data, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("needs root: mount a small tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(s.data, unix.MNT_DETACH) })
	c := s.client(t)
	bundle := []tune.Change{{Tunable: netNames()[1], Target: ownNetns(), Proposed: "17"}}
	if _, err := c.Apply(t.Context(), "r1", bundle, ""); err != nil {
		t.Fatal(err)
	}
	filler, err := os.Create(filepath.Join(s.data, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	for chunk := make([]byte, 512); err == nil; {
		_, err = filler.Write(chunk)
	}
	_ = filler.Close()
	var full error
	for i := 0; full == nil && i < 500; i++ { // the journal's last page still takes some records
		_, full = c.Apply(t.Context(), "r1", []tune.Change{{Tunable: netNames()[1], Target: ownNetns(), Proposed: tune.Value(fmt.Sprint(18 + i))}}, "")
	}
	if !errors.Is(full, tune.ErrStorage) || !strings.Contains(full.Error(), "journal.log") || tune.Hint(full) == "" {
		t.Errorf("apply on a full disk: %v", full)
	}
	s.check("after a full disk", []map[string]string{s.before})
	if _, err := c.Rollback(t.Context(), "r1", ""); err != nil {
		t.Errorf("rollback on a full disk: %v", err)
	}
	if err := os.Remove(filepath.Join(s.data, "filler")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Apply(t.Context(), "r2", bundle, ""); err != nil {
		t.Errorf("apply when there is space again: %v", err)
	}
}

func TestUnusableFolders(t *testing.T) {
	s := newStage(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	good := s.data
	s.data = filepath.Join(file, "data")
	c := s.client(t)
	_, err := c.Apply(t.Context(), "r1", []tune.Change{{Tunable: netNames()[1], Target: ownNetns(), Proposed: "17"}}, "")
	if !errors.Is(err, tune.ErrStorage) || !strings.Contains(err.Error(), s.data) || tune.Hint(err) == "" {
		t.Errorf("apply without a journal: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	s.data, s.run = good, filepath.Join(file, "run")
	if _, err := Start(t.Context(), StartConfig{Env: s.env("guard")}); !errors.Is(err, tune.ErrStorage) || !strings.Contains(err.Error(), s.run) {
		t.Errorf("start without a run folder: %v", err)
	}
	s.check("after refusals", []map[string]string{s.before})
}

package rollout

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"semantos/internal/tune"
	"semantos/safety/guard"
)

// TestAGuardStartsOnAHungDisk: a guard that is killed leaves its value, a committed one and half a record, and
// then the journal's disk hangs. The next guard puts the first back, answers, and rolls the second back on
// request, while nothing can be written there.
func TestAGuardStartsOnAHungDisk(t *testing.T) {
	b := newDiskBench(t)
	apply := func(rollout, value string) {
		t.Helper()
		change := tune.Change{Tunable: finTimeout, Scope: tune.ScopeNetns, Target: b.target, Proposed: tune.Value(value)}
		if _, err := b.client.Apply(t.Context(), rollout, []tune.Change{change}, "test"); err != nil {
			t.Fatal(err)
		}
	}
	apply("kept", "41")
	if err := b.client.Commit(t.Context(), "kept"); err != nil {
		t.Fatal(err)
	}
	apply("tried", "43")
	if err := syscall.Kill(b.client.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-b.client.Done()
	journal, err := os.OpenFile(filepath.Join(b.mount, "data", "journal", "journal.log"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := journal.WriteString(`{"crc32c":"00`); err != nil {
		t.Fatal(err)
	}
	if err := journal.Close(); err != nil {
		t.Fatal(err)
	}
	b.freeze()
	cfg := guard.StartConfig{Stderr: os.Stderr,
		Env: append(os.Environ(), envGuard+"=1", envData+"="+filepath.Join(b.mount, "data"), envRun+"="+b.run)}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	// From this thread, and so in its namespace: Start itself only waits.
	c, err := guard.Start(ctx, cfg)
	if got := b.value(); got != "41" {
		t.Errorf("with the disk hung a new guard left %s, want 41", got)
	}
	if err != nil {
		b.thaw()
		t.Fatalf("no guard starts on a hung disk: %v", err)
	}
	if out, err := c.Rollback(ctx, "kept", "test"); err != nil || len(out) != 1 || out[0].Outcome != guard.PutBack {
		t.Errorf("rollback: %+v, %v", out, err)
	}
	if got := b.value(); got != b.before {
		t.Errorf("a rollback left %s, want %s", got, b.before)
	}
	b.thaw()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	held, err := guard.Inspect(filepath.Join(b.mount, "data"), b.run, "")
	if err != nil || len(held) != 0 {
		t.Errorf("the journal tells of %+v, %v", held, err)
	}
}

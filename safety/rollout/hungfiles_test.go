package rollout

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
	"semantos/safety/guard"
)

// TestHungBootFilesDoNotHoldARestore: somebody persists a kept rollout and the disk of what the next boot reads
// hangs. A trial above it is put back at once on request, and when the command ends; the guard is then gone or
// killed, and once the disk answers the next one finds no file that nobody knows of.
func TestHungBootFilesDoNotHoldARestore(t *testing.T) {
	for _, end := range []string{"on request", "the command ends", "killed"} {
		t.Run(end, func(t *testing.T) {
			b := newDiskBench(t)
			if err := b.client.Close(); err != nil {
				t.Fatal(err)
			}
			b.root, b.data = filepath.Join(b.mount, "root"), t.TempDir() // the journal's disk is well
			b.start()
			b.apply("kept", "41")
			if err := b.client.Commit(t.Context(), "kept"); err != nil {
				t.Fatal(err)
			}
			b.apply("tried", "43")
			b.freeze()
			persisted := make(chan error, 1)
			go func() {
				_, err := b.client.Persist(context.Background(), "kept")
				persisted <- err
			}()
			time.Sleep(time.Second) // it waits
			asked := time.Now()
			ended := make(chan error, 1)
			switch end {
			case "on request":
				if _, err := b.client.Rollback(t.Context(), "tried", "test"); err != nil {
					t.Error(err)
				}
			default:
				go func() { ended <- b.client.Close() }()
			}
			if took := b.until("41").Sub(asked); took > 250*time.Millisecond {
				t.Errorf("a restore took %s beside a hung disk", took)
			}
			if err := <-persisted; err == nil {
				t.Error("a persist that was given up says nothing")
			}
			if end == "killed" {
				if err := unix.Kill(b.client.Pid(), unix.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
			if end != "on request" {
				if end == "the command ends" {
					time.Sleep(11 * time.Second) // its guard gives the disk ten
				}
				time.Sleep(500 * time.Millisecond)
				if !guard.Alive(b.run) {
					t.Error("another guard could start while a file may still come late")
				}
			}
			b.thaw()
			if end == "on request" {
				ended <- b.client.Close()
			}
			if err := <-ended; err != nil && end != "killed" {
				t.Error(err)
			}
			b.start()
			left, _ := filepath.Glob(filepath.Join(b.root, "etc", "*", "*"))
			managed, err := b.client.Managed(t.Context())
			if err != nil || len(managed) != 1 || managed[0].State != "committed" || len(left) != 0 {
				t.Errorf("the next guard has %+v, %v and the files %s", managed, err, left)
			}
			files, err := b.client.Persist(t.Context(), "kept")
			if err != nil || len(files) != 1 {
				t.Fatalf("persist: %v, %v", files, err)
			}
			if text, err := os.ReadFile(files[0]); err != nil || !strings.Contains(string(text), "tcp_fin_timeout = 41") {
				t.Errorf("the next boot reads %q, %v", text, err)
			}
			if _, err := b.client.Rollback(t.Context(), "kept", "test"); err != nil || b.value() != b.before {
				t.Errorf("rolled back to %s, %v", b.value(), err)
			}
		})
	}
}

func (b *diskBench) apply(rollout, value string) {
	b.t.Helper()
	change := tune.Change{Tunable: finTimeout, Scope: tune.ScopeNetns, Target: b.target, Proposed: tune.Value(value)}
	if _, err := b.client.Apply(context.Background(), rollout, []tune.Change{change}, "test"); err != nil {
		b.t.Fatal(err)
	}
}

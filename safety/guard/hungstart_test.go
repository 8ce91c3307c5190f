package guard

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"semantos/internal/tune"
	"semantos/safety/journal"
	"semantos/safety/journal/journaltest"
)

// silentDisk is a disk of journaltest of which nothing below a folder is read, as on a disk that is gone.
type silentDisk struct {
	*journaltest.Disk
	below string
	gate  chan struct{}
}

func (d *silentDisk) ReadFile(path string) ([]byte, error) {
	if d.below != "" && strings.HasPrefix(path, d.below) {
		<-d.gate
	}
	return d.Disk.ReadFile(path)
}

// TestAFreezeIsLookedForBesideADeadDisk: while values stand, the guard looks for a freeze every moment. A data
// folder that cannot even be read neither holds it up nor hides the freeze of the run folder, and once it
// answers it is believed.
func TestAFreezeIsLookedForBesideADeadDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		d := &silentDisk{Disk: b.disk, gate: make(chan struct{})}
		b.guard.disk = d
		b.apply(t, "a-1", "q.low=12")
		d.below = "/data"
		start := time.Now()
		for range 5 {
			b.guard.obeyFreeze()
		}
		if took := time.Since(start); took > 100*time.Millisecond { // a restore may wait behind each
			t.Errorf("the guard waited %s for the data folder", took)
		}
		b.expect(t, map[string]string{"q.low@host": "12"})
		if _, err := b.guard.rollback(t.Context(), "a-1", "uid 0"); err != nil {
			t.Error(err)
		}
		b.untouched(t)
		if err := writeFreeze(b.disk, "/data/"+freezeName, tune.Freeze{By: "uid 0"}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		d.below = ""
		close(d.gate)
		synctest.Wait()
		if f := b.guard.frozen(context.Background(), freezeAsk); f == nil || f.By != "uid 0" {
			t.Errorf("once the disk answers it is frozen by %+v", f)
		}
	})
}

// TestHalfAPersistIsTakenBackAfterTheValues: the files of a persist that was not finished may lie on a disk that
// hangs; what a dead guard left on the machine, also one of another data folder, does not wait for them, and the
// start waits a moment only.
func TestHalfAPersistIsTakenBackAfterTheValues(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.apply(t, "kept", "q.plain=6")
		if err := b.guard.commit(t.Context(), "kept"); err != nil {
			t.Fatal(err)
		}
		file := journal.File{Path: "/etc/sysctl.d/zz.conf", Content: "half"}
		if err := b.guard.promise(t.Context(), true, journal.Record{Kind: journal.Persisting, Rollout: "kept", Files: []journal.File{file}}); err != nil {
			t.Fatal(err)
		}
		b.disk.Files[file.Path] = []byte("half")
		b.apply(t, "tried", "q.low=12")
		other := &bench{kernel: b.kernel, disk: b.disk, boot: b.boot, data: "/elsewhere"}
		obk, _ := journal.OpenBook(b.disk, other.data, "/run")
		other.guard = &engine{act: b.kernel, cat: newFakeCatalogue(), log: obk, disk: b.disk, run: "/run", data: other.data, boot: b.boot,
			now: time.Now, state: journal.NewState()}
		other.apply(t, "stranger", "q.high=30")
		d := &silentDisk{Disk: b.disk, below: "/etc", gate: make(chan struct{})}
		copies, err := journal.ReadCopies(d, "/run")
		if err != nil {
			t.Fatal(err)
		}
		bk, s := journal.OpenBook(d, b.data, "/run")
		b.guard.disk, b.guard.log, b.guard.state = d, bk, journal.Load(s, copies, b.data)
		b.guard.files = newLanes()
		done, start := make(chan error, 1), time.Now()
		go func() {
			_, err := b.guard.recoverAll(copies, b.data, "/run")
			done <- err
		}()
		synctest.Wait()
		b.expect(t, map[string]string{"q.low@host": "10", "q.plain@host": "6", "q.high@host": "20"})
		if err := <-done; !errors.Is(err, errLate) || time.Since(start) > startWait+recordGrace {
			t.Errorf("the start took %s: %v", time.Since(start), err)
		}
		if out, err := b.guard.revert("kept"); err == nil { // it answers
			t.Errorf("a kept rollout was reverted: %+v", out)
		}
		close(d.gate)
		b.guard.files.stop(t.Context())
		b.guard.settle()
		if b.guard.state.Rollouts["kept"].Outlives() {
			t.Error("half a persist is not known to be taken back")
		}
		if left := b.disk.Files[file.Path]; left != nil {
			t.Errorf("half a persist left %q", left)
		}
	})
}

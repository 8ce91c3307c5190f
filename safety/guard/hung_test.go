package guard

import (
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"semantos/internal/tune"
	"semantos/safety/journal"
	"semantos/safety/journal/journaltest"
)

// hungDisk is a disk of journaltest whose writes below the data folder block from hang to release, as on a frozen
// file system; the run folder goes on.
type hungDisk struct {
	*journaltest.Disk
	gate chan struct{} // nil: it answers
}

type hungFile struct {
	journal.DiskFile
	d    *hungDisk
	path string
}

func (d *hungDisk) Append(path string) (journal.DiskFile, error) {
	f, err := d.Disk.Append(path)
	return hungFile{f, d, path}, err
}

func (d *hungDisk) wait(path string) {
	if d.gate != nil && strings.HasPrefix(path, "/data") {
		<-d.gate
	}
}

func (f hungFile) Write(p []byte) (int, error) {
	f.d.wait(f.path)
	return f.DiskFile.Write(p)
}

func (f hungFile) Sync() error {
	f.d.wait(f.path)
	return f.DiskFile.Sync()
}

func (d *hungDisk) hang() (release func()) {
	gate := make(chan struct{})
	d.gate = gate
	return func() { close(gate) }
}

// queued is a bench whose journal is written by the queue's goroutine, as in the guard process.
func queuedBench(t *testing.T) (*bench, *hungDisk, *queue) {
	b := newBench(t)
	d := &hungDisk{Disk: b.disk}
	bk, _ := journal.OpenBook(d, b.data, "/run")
	q := newQueue(bk)
	b.guard.log, b.guard.disk = q, d
	return b, d, q
}

// TestRestoreNeverWaitsForTheDisk: whatever ends a rollout, its values are back and the answer is given
// without any time passing while the disk hangs; afterwards the journal tells the same story in order.
func TestRestoreNeverWaitsForTheDisk(t *testing.T) {
	t.Parallel()
	for name, restore := range map[string]func(g *engine) error{
		"revert":    func(g *engine) error { _, err := g.revert("a-1"); return err },
		"rollback":  func(g *engine) error { _, err := g.rollback(t.Context(), "a-1", "uid 0"); return err },
		"lost":      func(g *engine) error { _, err := g.undoUncommitted("the command is lost"); return err },
		"committed": func(g *engine) error { _, err := g.rollback(t.Context(), "c-1", "uid 0"); return err },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, d, q := queuedBench(t)
				rollout := "a-1"
				if name == "committed" {
					rollout = "c-1"
				}
				b.apply(t, rollout, "q.low=12", "q.high=40", "m.mode=on")
				if name == "committed" {
					if err := b.guard.commit(t.Context(), rollout); err != nil {
						t.Fatal(err)
					}
				}
				release := d.hang()
				start := time.Now()
				if err := restore(b.guard); err != nil {
					t.Errorf("while the disk hangs: %v", err)
				}
				if took := time.Since(start); took != 0 {
					t.Errorf("a restore waited %s for the disk", took)
				}
				b.untouched(t)
				release()
				q.stop(t.Context())
				b.start()
				if len(b.guard.state.Open()) != 0 && name != "revert" {
					t.Errorf("the journal does not know the end: %+v", b.guard.state.Open()[0])
				}
				b.untouched(t)
			})
		})
	}
}

// TestGuardDiesAfterAnUnrecordedRestore: the guard is killed while nothing of a restore has reached the
// disk. The next start finds an entry in doubt with the original in place, touches nothing and closes it.
func TestGuardDiesAfterAnUnrecordedRestore(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"revert", "rollback", "lost"} {
		t.Run(verb, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, d, q := queuedBench(t)
				b.apply(t, "a-1", "q.low=12", "p.bytes=4096", "m.mode=on", "n.vec@netns:1=4 5 6")
				release := d.hang()
				var err error
				switch verb {
				case "revert":
					_, err = b.guard.revert("a-1")
				case "rollback":
					_, err = b.guard.rollback(t.Context(), "a-1", "uid 0")
				default:
					_, err = b.guard.undoUncommitted("the command is lost")
				}
				if err != nil {
					t.Fatal(err)
				}
				left := b.disk // what a killed guard leaves: nothing of the restore
				b.disk = journaltest.New()
				maps.Copy(b.disk.Files, left.Files)
				if n := len(journal.Scan(b.disk.Files[journal.Path("/data")]).Records); n == 0 {
					t.Fatal("nothing was journaled at all")
				}
				b.start()
				b.untouched(t)
				if b.err != nil || len(b.guard.state.Open()) != 0 {
					t.Errorf("recovery left %+v: %v", b.guard.state.Open(), b.err)
				}
				for _, r := range b.found.Restored {
					if r.Outcome != Already {
						t.Errorf("%s was %s over its own original", r.Tunable, r.Outcome)
					}
				}
				if len(b.found.Restored) != 4 {
					t.Errorf("recovery looked at %d entries, want 4", len(b.found.Restored))
				}
				release()
				q.stop(t.Context())
			})
		})
	}
}

// served is a guard's server over a pipe, on a bench whose disk can hang.
func served(t *testing.T) (*bench, *hungDisk, net.Conn, func()) {
	b, d, q := queuedBench(t)
	ours, theirs := net.Pipe()
	s := &guardServer{conn: theirs, engine: b.guard, frames: make(chan wireRequest, maxQueued), start: time.Now(), lapse: make(chan struct{}, 1),
		cfg: Config{Now: time.Now}, pace: Config{}.pace()}
	b.guard.files = newLanes()
	ctx := t.Context()
	done := make(chan error, 1)
	go s.receive(func(error) {})
	go func() { done <- s.serve(ctx) }()
	return b, d, ours, func() {
		if err := writeFrame(ours, wireRequest{ID: 99, Verb: verbBye}); err != nil {
			t.Error(err)
		}
		answers(t, ours, 99)
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = ours.Close()
		b.guard.files.stop(t.Context())
		b.guard.settle()
		q.stop(t.Context())
	}
}

// answers reads replies until one has this id.
func answers(t *testing.T, conn net.Conn, id uint64) map[uint64]wireReply {
	t.Helper()
	got := map[uint64]wireReply{}
	for {
		var r wireReply
		if err := readReply(conn, &r); err != nil {
			t.Fatal(err)
		}
		got[r.ID] = r
		if r.ID == id {
			return got
		}
	}
}

// TestARestoreNeedsNotWaitBehindTheDisk: an apply, or a commit, that waits for a hung disk makes way for
// the rollback behind it: at once where it is the same rollout, after a moment where it is another.
func TestARestoreNeedsNotWaitBehindTheDisk(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		waiting wireRequest
		limit   time.Duration
	}{
		{"another dose", wireRequest{Verb: verbApply, Rollout: "a-1", Changes: changes("q.low=15"), Actor: "x"}, recordGrace},
		{"the same dose again", wireRequest{Verb: verbApply, Rollout: "a-1", Changes: changes("q.low=12"), Actor: "x"}, recordGrace},
		{"its commit", wireRequest{Verb: verbCommit, Rollout: "a-1"}, recordGrace},
		{"another rollout", wireRequest{Verb: verbApply, Rollout: "b-1", Changes: changes("q.plain=6"), Actor: "x"}, makeWayAfter + recordGrace},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, d, conn, end := served(t)
				ask := func(q wireRequest) {
					if err := writeFrame(conn, q); err != nil {
						t.Fatal(err)
					}
				}
				ask(wireRequest{ID: 1, Verb: verbApply, Rollout: "a-1", Changes: changes("q.low=12"), Actor: "x"})
				if r := answers(t, conn, 1)[1]; r.Error != nil {
					t.Fatal(r.Error.Text)
				}
				release := d.hang()
				c.waiting.ID = 2
				ask(c.waiting)
				time.Sleep(3 * time.Second) // it waits, and the limit breaks
				start := time.Now()
				ask(wireRequest{ID: 3, Verb: verbRollback, Rollout: "a-1", Actor: "x"})
				got := answers(t, conn, 3)
				if took := time.Since(start); took > c.limit {
					t.Errorf("the rollback waited %s behind the disk, want %s at most", took, c.limit)
				}
				if got[3].Error != nil || got[2].Error == nil || !slices.Contains(got[2].Error.Kinds, "canceled") {
					t.Errorf("rollback %+v, what waited %+v", got[3].Error, got[2].Error)
				}
				b.expect(t, map[string]string{"q.low@host": "10"})
				release()
				end()
				b.start()
				b.untouched(t)
				if open := b.guard.state.Open(); len(open) != 0 {
					t.Errorf("the journal's end does not agree: %+v", *open[0])
				}
			})
		})
	}
}

// TestQueueThatIsFullLosesRecordsNotRestores: a disk that hangs for hours cannot stop a restore, and the
// change after it is refused.
func TestQueueThatIsFullLosesRecordsNotRestores(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, d, q := queuedBench(t)
		b.apply(t, "a-1", "q.low=12")
		release := d.hang()
		for range queueLength + 10 {
			q.Later(false, journal.Record{Kind: journal.Reverted, Rollout: "x", Tunable: "q.low", Target: "host"})
		}
		if _, err := b.guard.rollback(t.Context(), "a-1", "uid 0"); err != nil {
			t.Error(err)
		}
		b.untouched(t)
		_, err := b.guard.apply(t.Context(), "b-1", []tune.Change{change("q.plain=6")}, "uid 0")
		if err == nil || !strings.Contains(err.Error(), "write journal") {
			t.Errorf("a change beside a full queue: %v", err)
		}
		b.untouched(t)
		release()
		q.stop(t.Context())
	})
}

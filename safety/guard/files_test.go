package guard

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"semantos/internal/tune"
	"semantos/safety/journal"
	"semantos/safety/journal/journaltest"
)

// deafDisk is a disk of journaltest of which one access below a folder hangs, before it has an effect or after;
// what comes behind it waits with it.
type deafDisk struct {
	journal.Disk
	below string
	skip  int // accesses that still answer
	after bool
	reads bool // also a read hangs
	gate  chan struct{}
	hung  atomic.Bool
}

// access does one thing on the disk, and hangs where it is to.
func (d *deafDisk) access(path string, do func()) {
	hangs := d.gate != nil && d.below != "" && strings.HasPrefix(path, d.below)
	if hangs {
		d.skip--
		hangs = d.skip < 0
	}
	if hangs {
		d.hung.Store(true)
	}
	if hangs && !d.after {
		<-d.gate
	}
	do()
	if hangs && d.after {
		<-d.gate
	}
}

func (d *deafDisk) ReadFile(path string) (data []byte, err error) {
	if !d.reads {
		return d.Disk.ReadFile(path)
	}
	d.access(path, func() { data, err = d.Disk.ReadFile(path) })
	return data, err
}

func (d *deafDisk) Replace(path string, data []byte, perm fs.FileMode) (err error) {
	d.access(path, func() { err = d.Disk.Replace(path, data, perm) })
	return err
}

func (d *deafDisk) Remove(path string) (err error) {
	d.access(path, func() { err = d.Disk.Remove(path) })
	return err
}

// bootFiles is what the next boot would read.
func (b *bench) bootFiles() (text string, n int) {
	for _, path := range slices.Sorted(maps.Keys(b.disk.Files)) {
		if strings.HasPrefix(path, "/etc/") {
			text, n = text+string(b.disk.Files[path]), n+1
		}
	}
	return text, n
}

// TestARestoreNeedsNotWaitBehindAFile: while the disk of a file hangs that a verb has to do with, what is put
// back of another rollout does not wait for it; once the disk answers, files and journal tell the same story.
func TestARestoreNeedsNotWaitBehindAFile(t *testing.T) {
	t.Parallel()
	frozenHost := func(t *testing.T, b *bench, _ func(wireRequest)) {
		if err := writeFreeze(b.disk, "/run/frozen", tune.Freeze{By: "x", DataDir: "/data"}); err != nil {
			t.Fatal(err)
		}
		if err := writeFreeze(b.disk, "/data/frozen", tune.Freeze{By: "x", DataDir: "/data"}); err != nil {
			t.Fatal(err)
		}
	}
	persist := wireRequest{ID: 5, Verb: verbPersist, Rollout: "k-1"}
	persisted := func(_ *testing.T, _ *bench, ask func(wireRequest)) { ask(persist) }
	for _, c := range []struct {
		name    string
		before  func(*testing.T, *bench, func(wireRequest))
		below   string
		reads   bool
		waiting wireRequest
		then    func(*testing.T, *bench) // with the disk in order again
	}{
		{"persist", nil, "/etc", false, persist, func(t *testing.T, b *bench) {
			if text, n := b.bootFiles(); n != 0 || b.guard.state.Rollouts["k-1"].Outlives() {
				t.Errorf("a persist that was given up left %q", text)
			}
			if _, err := b.guard.persist(t.Context(), "k-1"); err != nil {
				t.Fatal(err)
			}
			if _, n := b.bootFiles(); n != 2 {
				t.Errorf("asked again it wrote %d files", n)
			}
		}},
		{"persist, read", nil, "/etc", true, persist, func(t *testing.T, b *bench) {
			if text, n := b.bootFiles(); n != 0 {
				t.Errorf("a persist that was given up left %q", text)
			}
		}},
		{"rollback", persisted, "/etc", false, wireRequest{Verb: verbRollback, Rollout: "k-1", Actor: "x"}, func(t *testing.T, b *bench) {
			text, n := b.bootFiles()
			if ro := b.guard.state.Rollouts["k-1"]; n != 0 || ro != nil && !ro.Closed {
				t.Errorf("a rollback left %q, %+v", text, ro)
			}
			b.expect(t, map[string]string{"q.plain@host": "5", "q.round@host": "4096"})
		}},
		{"release", persisted, "/etc", false, wireRequest{Verb: verbRelease, Rollout: "k-1", Changes: named("q.round"), Actor: "x"}, func(t *testing.T, b *bench) {
			if text, _ := b.bootFiles(); strings.Contains(text, "round") || !strings.Contains(text, "plain") {
				t.Errorf("the next boot reads %q", text)
			}
			if ro := b.guard.state.Rollouts["k-1"]; releasing(ro) || ro.Refiled != nil {
				t.Error("it is still releasing")
			}
			b.expect(t, map[string]string{"q.plain@host": "50", "q.round@host": "4096"})
		}},
		{"freeze", nil, "/data", false, wireRequest{Verb: verbFreeze, Actor: "y"}, func(t *testing.T, b *bench) {
			for _, path := range []string{"/run/frozen", "/data/frozen"} {
				if f := readFreeze(b.disk, path); f == nil || f.By != "y" {
					t.Errorf("%s is %+v", path, f)
				}
			}
		}},
		{"thaw", frozenHost, "/data", false, wireRequest{Verb: verbThaw, Actor: "x"}, func(t *testing.T, b *bench) {
			if f := b.guard.frozen(t.Context(), freezeAsk); f == nil {
				t.Error("a thaw that was given up thawed")
			}
			if err := b.guard.thaw(t.Context()); err != nil || b.guard.frozen(t.Context(), freezeAsk) != nil {
				t.Errorf("asked again it did not thaw: %v", err)
			}
		}},
		{"apply beside another data folder", nil, "/elsewhere", true, wireRequest{Verb: verbApply, Rollout: "b-1", Changes: changes("m.side=1"), Actor: "x"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, conn, d, end := deafServed(t, c.below, c.reads, c.before)
				limit := makeWayAfter + recordGrace
				c.waiting.ID = 7
				ask := func(q wireRequest) {
					if err := writeFrame(conn, q); err != nil {
						t.Fatal(err)
					}
				}
				ask(c.waiting)
				synctest.Wait()
				if !d.hung.Load() {
					t.Fatal("nothing hangs")
				}
				if c.waiting.Verb != verbFreeze { // that waits for three seconds at most
					time.Sleep(5 * time.Second)
				}
				start := time.Now()
				ask(wireRequest{ID: 8, Verb: verbRollback, Rollout: "a-1", Actor: "x"})
				got := answers(t, conn, 8)
				if took := time.Since(start); took > limit {
					t.Errorf("a restore waited %s behind the file, want %s at most", took, limit)
				}
				if got[8].Error != nil || got[7].Error == nil || !slices.Contains(got[7].Error.Kinds, "storage") {
					t.Errorf("rollback %+v, what waited %+v", got[8].Error, got[7].Error)
				}
				b.expect(t, map[string]string{"q.low@host": "10", "m.side@host": "67"})
				close(d.gate)
				end()
				b.guard.files, b.guard.disk = lanes{}, b.disk // it goes on by itself
				b.guard.log, _ = journal.OpenBook(b.disk, b.data, "/run")
				if c.then != nil {
					c.then(t, b)
				}
				b.start() // the journal agrees
				if b.err != nil || len(b.found.Restored) > 0 {
					t.Errorf("the next guard found %+v, %v", b.found.Restored, b.err)
				}
				if c.then != nil && c.name != "persist" && c.name != "thaw" {
					c.then(t, b)
				}
			})
		})
	}
}

// deafServed serves a guard that keeps k-1 and o-1 (of another data folder) and tries a-1, on a disk that hangs
// from here on.
func deafServed(t *testing.T, below string, reads bool, before func(*testing.T, *bench, func(wireRequest))) (*bench, net.Conn, *deafDisk, func()) {
	t.Helper()
	b, _, conn, end := served(t)
	ask := func(q wireRequest) {
		if err := writeFrame(conn, q); err != nil {
			t.Fatal(err)
		}
		if r := answers(t, conn, q.ID)[q.ID]; r.Error != nil {
			t.Fatal(r.Error.Text)
		}
	}
	ask(wireRequest{ID: 1, Verb: verbApply, Rollout: "k-1", Changes: changes("q.plain=50", "q.round=8192"), Actor: "x"})
	ask(wireRequest{ID: 2, Verb: verbCommit, Rollout: "k-1"})
	if below != "/data" || before == nil { // nothing is tried on a frozen host
		ask(wireRequest{ID: 3, Verb: verbApply, Rollout: "a-1", Changes: changes("q.low=12"), Actor: "x"})
	} else {
		ask(wireRequest{ID: 3, Verb: verbApply, Rollout: "a-1", Changes: changes("q.low=12"), Actor: "x"})
		ask(wireRequest{ID: 4, Verb: verbCommit, Rollout: "a-1"})
	}
	if below == "/elsewhere" {
		other := &bench{kernel: b.kernel, disk: b.disk, boot: b.boot, data: "/elsewhere"}
		bk, s := journal.OpenBook(b.disk, other.data, "/run")
		other.guard = &engine{act: b.kernel, cat: newFakeCatalogue(), log: bk, disk: b.disk, run: "/run", data: other.data, boot: b.boot,
			now: time.Now, state: journal.Load(s, nil, other.data)}
		kept(t, other, "o-1", false, "q.high=30")
	}
	if before != nil {
		before(t, b, ask)
	}
	synctest.Wait()
	d := &deafDisk{Disk: b.guard.disk, below: below, reads: reads, gate: make(chan struct{})}
	b.guard.disk = d
	return b, conn, d, end
}

// A rollout's own rollback does not wait for the files of its persist: its values are back within a moment.
func TestItsOwnRestoreNeedsNotWaitBehindAFile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, conn, d, end := deafServed(t, "/etc", false, nil)
		ask := func(q wireRequest) {
			if err := writeFrame(conn, q); err != nil {
				t.Fatal(err)
			}
		}
		ask(wireRequest{ID: 7, Verb: verbPersist, Rollout: "k-1"})
		time.Sleep(time.Second)
		start := time.Now()
		ask(wireRequest{ID: 8, Verb: verbRollback, Rollout: "k-1", Actor: "x"})
		answers(t, conn, 7)
		synctest.Wait()
		if took := time.Since(start); took > recordGrace {
			t.Errorf("its restore waited %s", took)
		}
		b.expect(t, map[string]string{"q.plain@host": "5", "q.round@host": "4096", "q.low@host": "12"})
		time.Sleep(time.Second) // it waits for what it persisted, until something else is to be put back
		start = time.Now()
		ask(wireRequest{ID: 9, Verb: verbRollback, Rollout: "a-1", Actor: "x"})
		got := answers(t, conn, 9)
		if took := time.Since(start); took > makeWayAfter+recordGrace {
			t.Errorf("another restore waited %s", took)
		}
		if e := got[8].Error; e == nil || !slices.Contains(e.Kinds, "storage") || !strings.Contains(e.Hint, "rollback k-1") || len(got[8].Restored) != 2 {
			t.Errorf("its own rollback was answered with %+v", got[8])
		}
		b.untouched(t)
		close(d.gate)
		synctest.Wait() // nobody asks for anything
		if n := len(b.guard.state.Open()); n != 0 {
			t.Errorf("%d rollouts are held once their files are back", n)
		}
		end()
		if text, n := b.bootFiles(); n != 0 || len(b.guard.state.Open()) != 0 {
			t.Errorf("left %q and %+v", text, b.guard.state.Open())
		}
	})
}

// A file that is written in time, after something was asked to be put back, is taken back: the journal is not
// waited for too.
func TestAFileInTimeIsTheLast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, conn, d, end := deafServed(t, "/etc", false, nil)
		ask := func(q wireRequest) {
			if err := writeFrame(conn, q); err != nil {
				t.Fatal(err)
			}
		}
		ask(wireRequest{ID: 7, Verb: verbPersist, Rollout: "k-1"})
		synctest.Wait()
		release := d.Disk.(*hungDisk).hang()
		start := time.Now()
		ask(wireRequest{ID: 8, Verb: verbRollback, Rollout: "a-1", Actor: "x"})
		time.AfterFunc(makeWayAfter+recordGrace/2, func() { close(d.gate) })
		got := answers(t, conn, 8)
		if took := time.Since(start); took > makeWayAfter+recordGrace {
			t.Errorf("a restore waited %s", took)
		}
		if _, n := b.bootFiles(); got[7].Error == nil || n != 0 {
			t.Errorf("the persist was answered with %+v, %d files", got[7].Error, n)
		}
		b.expect(t, map[string]string{"q.low@host": "10"})
		release()
		end()
	})
}

// What could not be taken back of one persist is, before the next one writes files of other names.
func TestPersistAgainAfterAFailure(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	kept(t, b, "r1", false, "q.plain=50", "q.round=8192")
	b.disk.Full, b.disk.Stuck = "/etc/tmpfiles.d", "/etc/sysctl.d/zz-semantos-01700000000-r1.conf"
	if _, err := b.guard.persist(t.Context(), "r1"); !errors.Is(err, tune.ErrStorage) {
		t.Fatalf("on a full disk: %v", err)
	}
	b.guard.now = func() time.Time { return time.Unix(1700000001, 0) }
	b.disk.Full = ""
	if _, err := b.guard.persist(t.Context(), "r1"); !errors.Is(err, tune.ErrStorage) {
		t.Fatalf("with half of it left: %v", err)
	}
	b.disk.Stuck = ""
	files, err := b.guard.persist(t.Context(), "r1")
	if text, n := b.bootFiles(); err != nil || len(files) != 2 || n != 2 {
		t.Errorf("%v, %v; the next boot reads %s", files, err, text)
	}
}

// moment is what a guard killed then leaves.
type moment struct {
	files  map[string][]byte
	values map[string]tune.Value
}

// TestDiesWhileAFileIsLate hangs each access to what the next boot reads in turn, before and after its effect,
// in verbs that make way, and kills the guard at each effect on kernel and disk from there on: the next guard
// finds files and journal in agreement, and a rollback leaves nothing.
func TestDiesWhileAFileIsLate(t *testing.T) {
	t.Parallel()
	persist := func(ctx context.Context, g *engine) error { return second(g.persist(ctx, "r1")) }
	release := func(ctx context.Context, g *engine) error {
		return second(g.release(ctx, "r1", named("q.plain", "m.mode"), ""))
	}
	more := func(ctx context.Context, g *engine) error {
		return second(g.release(ctx, "r1", named("q.high"), ""))
	}
	rollback := func(ctx context.Context, g *engine) error { return second(g.rollback(ctx, "r1", "")) }
	type verbs = []func(context.Context, *engine) error
	for name, c := range map[string]struct {
		persisted bool
		late      verbs // while it hangs
		then      verbs // when it answers
	}{
		"persist":            {false, verbs{persist}, nil},
		"persist, again":     {false, verbs{persist}, verbs{persist}},
		"persist, twice":     {false, verbs{persist, persist}, verbs{persist}},
		"persist, rollback":  {false, verbs{persist, rollback}, nil},
		"release":            {true, verbs{release}, nil},
		"release, another":   {true, verbs{release, more}, verbs{more}},
		"release, rollback":  {true, verbs{release, rollback}, nil},
		"rollback":           {true, verbs{rollback}, nil},
		"rollback, again":    {true, verbs{rollback, rollback}, verbs{rollback}},
		"persist, roll back": {false, verbs{persist, rollback, persist}, verbs{rollback}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for skip := 0; ; skip++ {
				late := false
				for _, after := range []bool{false, true} {
					synctest.Test(t, func(t *testing.T) {
						moments, hung, end := lateStory(t, c.persisted, c.late, c.then, skip, after)
						late = late || hung
						for i, m := range moments {
							m.check(t)
							if t.Failed() {
								t.Fatalf("access %d hung (after its effect: %v), killed at effect %d of %d", skip, after, i, len(moments))
							}
						}
						end.settled(t, name)
					})
				}
				if t.Failed() {
					return
				}
				if !late {
					if skip < 2 {
						t.Fatalf("only %d accesses hang: the story is not told", skip)
					}
					return
				}
			}
		})
	}
}

// lateStory performs verbs while an access hangs, lets the disk answer, and performs others.
func lateStory(t *testing.T, persisted bool, late, then []func(context.Context, *engine) error, skip int, after bool) (moments []moment, hung bool, end *bench) {
	b := newBench(t)
	kept(t, b, "r1", persisted, "q.plain=50", "q.round=8192", "m.mode=on", "q.high=40")
	d := &deafDisk{Disk: b.disk, below: "/etc", reads: true, skip: skip, after: after, gate: make(chan struct{})}
	b.guard.disk, b.guard.files = d, newLanes()
	second := int64(1700000000) // two persists never write the same file
	b.guard.now = func() time.Time { second++; return time.Unix(second, 0) }
	var mu sync.Mutex // its lane has effects too
	keep := func() {
		mu.Lock()
		defer mu.Unlock()
		moments = append(moments, moment{b.disk.Copy(), maps.Clone(b.kernel.values)})
	}
	b.kernel.hook, b.disk.Hook = keep, keep
	for i, verb := range late {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		err := verb(ctx, b.guard)
		cancel()
		synctest.Wait()
		if i == 0 && d.hung.Load() && err == nil {
			t.Error("something is late and nobody is told")
		}
	}
	close(d.gate)
	synctest.Wait()
	if len(then) == 0 {
		b.guard.settle()
	}
	for _, verb := range then {
		_ = verb(t.Context(), b.guard) // some have nothing left to do
	}
	b.guard.settle()
	if len(b.guard.owed) > 0 {
		t.Errorf("%d things are still owed", len(b.guard.owed))
	}
	b.guard.files.stop(t.Context())
	keep()
	b.guard.files, b.guard.disk = lanes{}, b.disk
	return moments, d.hung.Load(), b
}

// check lets a guard begin from what was left.
func (m moment) check(t *testing.T) {
	t.Helper()
	b := &bench{kernel: newFakeKernel(), disk: journaltest.New(), boot: "boot-1", data: "/data"}
	maps.Copy(b.disk.Files, m.files)
	b.kernel.values = maps.Clone(m.values)
	b.start()
	if b.err != nil {
		t.Fatal(b.err)
	}
	b.agrees(t)
	if _, err := b.guard.rollback(t.Context(), "r1", ""); err != nil {
		t.Error(err)
	}
	b.untouched(t)
	if text, n := b.bootFiles(); n != 0 {
		t.Errorf("a rollback left %q", text)
	}
}

// agrees compares what the next boot would set with what the journal says and the kernel has.
func (b *bench) agrees(t *testing.T) {
	t.Helper()
	ro := b.guard.state.Rollouts["r1"]
	text, n := b.bootFiles()
	if ro.Persisting || releasing(ro) || ro.Refiled != nil {
		t.Errorf("something is still pending: %+v", ro)
	}
	if n > 0 && !ro.Persisted {
		t.Errorf("nobody knows of %q", text)
	}
	for name, line := range map[string]string{"q.plain": "q/plain", "q.round": "q.round", "m.mode": "m/mode", "q.high": "q.high"} {
		en := ro.Entry(name, "host")
		if strings.Contains(text, line) && en.Released {
			t.Errorf("the next boot would set %s, which was released", name)
		}
		stands := b.kernel.values[name+"@host"] == en.Last // a rollback that was cut is listed as held again
		if ro.Persisted && n > 0 && en.End == "" && stands && !strings.Contains(text, line) {
			t.Errorf("the next boot would not set %s, which is kept", name)
		}
		if !ro.Closed && en.Released && b.kernel.values[name+"@host"] != en.Old {
			t.Errorf("%s was released and is %s", name, b.kernel.values[name+"@host"])
		}
	}
}

// settled is how a story ends when nobody was killed.
func (b *bench) settled(t *testing.T, name string) {
	t.Helper()
	b.agrees(t)
	ro := b.guard.state.Rollouts["r1"]
	_, n := b.bootFiles()
	switch {
	case strings.Contains(name, "roll"):
		told := map[journal.Kind]int{}
		for _, r := range journal.Scan(b.disk.Files[journal.Path(b.data)]).Records {
			told[r.Kind]++
		}
		if !ro.Closed || n != 0 || told[journal.Closed] != 1 || told[journal.Unpersisted] != told[journal.Persisting] {
			t.Errorf("%s: closed %v, %d files, told %v", name, ro.Closed, n, told)
		}
		b.untouched(t)
	case name == "persist, again", name == "persist, twice":
		if !ro.Persisted || n != 2 {
			t.Errorf("%s: persisted %v, %d files", name, ro.Persisted, n)
		}
	}
}

// A fault in work on a file is that work's error; the guard goes on.
func TestAFaultInAFileIsItsError(t *testing.T) {
	t.Parallel()
	g := &engine{files: newLanes()}
	err := g.onDisk(t.Context(), g.files.boot, func() error { panic("broken") }, nil)
	if err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("got %v", err)
	}
	if !g.files.stop(t.Context()) {
		t.Error("it does not end")
	}
}

// What is late is heard of in the order of its lane, whichever is looked at first.
func TestLateIsHeardInOrder(t *testing.T) {
	t.Parallel()
	one, other := &lane{}, &lane{}
	results := make([]chan error, 3)
	var heard []int
	g := &engine{}
	for i, l := range []*lane{one, one, other} {
		results[i] = make(chan error, 1)
		g.owed = append(g.owed, owed{lane: l, result: results[i], then: func(error) { heard = append(heard, i) }})
	}
	results[1] <- nil // between the look at the first and at this one both were done
	results[2] <- nil
	g.settle()
	if !slices.Equal(heard, []int{2}) {
		t.Errorf("heard of %v", heard)
	}
	results[0] <- nil
	g.settle()
	if !slices.Equal(heard, []int{2, 0, 1}) || len(g.owed) > 0 {
		t.Errorf("heard of %v", heard)
	}
}

// A disk that hangs for hours takes only so much; then what needs it is refused at once, and what is late is
// heard of in order.
func TestALaneThatIsFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &engine{files: newLanes()}
		gate := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var heard []int
		full := 0
		for i := range laneLength + 5 {
			err := g.onDisk(ctx, g.files.boot, func() error { <-gate; return nil }, func(error) { heard = append(heard, i) })
			synctest.Wait()
			switch {
			case errors.Is(err, errLate):
			case errors.Is(err, tune.ErrStorage):
				full++
			default:
				t.Errorf("got %v", err)
			}
		}
		if full != 4 { // one is under way
			t.Errorf("%d were refused", full)
		}
		if err := g.onDisk(t.Context(), g.files.freeze, func() error { return nil }, nil); err != nil {
			t.Errorf("another lane: %v", err)
		}
		close(gate)
		synctest.Wait()
		g.settle()
		if len(heard) != laneLength+1 || !slices.IsSorted(heard) {
			t.Errorf("heard of %v", heard)
		}
		g.files.stop(t.Context())
	})
}

package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"semantos/internal/tune"
)

// faulty is the real file system with faults put in.
type faulty struct {
	OS
	full   bool // writes stop half-way
	keeps  bool // and what was written cannot be cut off again
	dead   bool // syncs fail
	sealed bool // nothing can be opened
	head   bool // the run folder cannot be written
	opened int
}

type faultyFile struct {
	File
	d *faulty
}

func (d *faulty) Append(path string) (File, error) {
	if d.sealed {
		return nil, syscall.EROFS
	}
	d.opened++
	f, err := d.OS.Append(path)
	return &faultyFile{f, d}, err
}

func (d *faulty) Replace(path string, data []byte) error {
	if d.head {
		return syscall.ENOSPC
	}
	return d.OS.Replace(path, data)
}

func (f *faultyFile) Write(p []byte) (int, error) {
	if f.d.full {
		n, _ := f.File.Write(p[:len(p)/2])
		return n, syscall.ENOSPC
	}
	return f.File.Write(p)
}

func (f *faultyFile) Sync() error {
	if f.d.dead {
		return syscall.EIO
	}
	return f.File.Sync()
}

func (f *faultyFile) Truncate(size int64) error {
	if f.d.keeps {
		return syscall.EIO
	}
	return f.File.Truncate(size)
}

// tb is what a test and a property have in common.
type tb interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Fatal(args ...any)
}

// desk is one data folder whose log guards open one after the other.
type desk struct {
	cfg  Config
	disk *faulty
	now  time.Time
}

func newDesk(t testing.TB) *desk {
	t.Helper()
	d := &desk{disk: &faulty{}, now: noon}
	top := t.TempDir()
	d.cfg = Config{Disk: d.disk, Dir: filepath.Join(top, "data", "journal"), DataDir: filepath.Join(top, "data"), Boot: "b",
		HeadFile: HeadPath(filepath.Join(top, "run"), filepath.Join(top, "data")),
		Now:      func() time.Time { d.now = d.now.Add(time.Second); return d.now }}
	return d
}

func deed(i int) Entry {
	return Entry{Kind: Wrote, Actor: guardActor, Rollout: "r", Tunable: "vm.swappiness", New: tune.Value(fmt.Sprint(i))}
}

func (d *desk) fill(t testing.TB, l *Log, n int) {
	t.Helper()
	for i := range n {
		if err := l.Append(deed(i)); err != nil {
			t.Fatal(err)
		}
	}
}

// check verifies with what the run folder knows.
func (d *desk) check(t tb) Report {
	t.Helper()
	anchors, err := RunAnchor(d.cfg.HeadFile)
	if err != nil {
		t.Fatal(err)
	}
	return verify(t, d.cfg.Dir, anchors...)
}

func (d *desk) whole(t tb, records int) Report {
	t.Helper()
	r := d.check(t)
	if !r.Verified || r.Records != uint64(records) {
		t.Fatalf("%+v, want %d records", r, records)
	}
	return r
}

func kinds(t tb, dir string) (out []string) {
	t.Helper()
	if err := Read(dir, func(r Record) bool { out = append(out, string(r.Kind)); return true }); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestLogGoesOnOverGuards(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	for range 3 {
		l := New(d.cfg)
		d.fill(t, l, 4)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	d.whole(t, 12)
	for path, mode := range map[string]os.FileMode{filepath.Join(d.cfg.Dir, segmentName(1)): 0o600, d.cfg.HeadFile: 0o600, d.cfg.Dir: 0o700} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}

// TestFullDisk: what could not be kept stops new changes, and is told as soon as something can be.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(*faulty, bool){
		"full":                        func(d *faulty, on bool) { d.full = on },
		"full, half a line stays":     func(d *faulty, on bool) { d.full, d.keeps = on, on },
		"read-only file system later": func(d *faulty, on bool) { d.full, d.keeps, d.sealed = on, on, on },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			l := New(d.cfg)
			d.fill(t, l, 2)
			set(d.disk, true)
			for i := range 3 {
				if err := l.Append(deed(i)); !errors.Is(err, tune.ErrStorage) || tune.Hint(err) == "" {
					t.Fatalf("got %v", err)
				}
			}
			if err := l.Ready(); !errors.Is(err, tune.ErrStorage) {
				t.Fatalf("new changes go on: %v", err)
			}
			if s := l.Standing(); s.Lost != 3 || s.Records != 2 || s.Errors != 4 || s.Broken == "" {
				t.Errorf("%+v", s)
			}
			set(d.disk, false)
			if err := l.Ready(); err != nil {
				t.Fatal(err)
			}
			d.fill(t, l, 1)
			r := d.whole(t, 4)
			if r.Lost != 3 || fmt.Sprint(kinds(t, d.cfg.Dir)) != "[wrote wrote gap wrote]" {
				t.Errorf("%+v, %v", r, kinds(t, d.cfg.Dir))
			}
			if s := l.Standing(); s.Broken != "" || s.Head.Seq != 4 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestGuardDiesWithGaps: what it could not say, the next one does.
func TestGuardDiesWithGaps(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	l := New(d.cfg)
	d.fill(t, l, 1)
	d.disk.full = true
	_ = l.Append(deed(1), deed(2)) // fails, which is the point
	d.disk.full = false
	d.fill(t, New(d.cfg), 1)
	if r := d.whole(t, 3); r.Lost != 2 {
		t.Errorf("%+v", r)
	}
}

// TestLogThatNeverOpens: a guard on a disk that was never writable counts, and says so once it can.
func TestLogThatNeverOpens(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.disk.sealed = true
	l := New(d.cfg)
	if err := l.Ready(); err != nil {
		t.Errorf("nothing was lost yet: %v", err)
	}
	if err := l.Append(deed(1)); !errors.Is(err, tune.ErrStorage) {
		t.Errorf("got %v", err)
	}
	if err := l.Ready(); !errors.Is(err, tune.ErrStorage) {
		t.Errorf("got %v", err)
	}
	d.disk.sealed = false
	d.fill(t, l, 1)
	if r := d.whole(t, 2); r.Lost != 1 {
		t.Errorf("%+v", r)
	}
}

// TestFailedSync: after it nothing more goes to that file, and what may be missing is told.
func TestFailedSync(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	l := New(d.cfg)
	d.fill(t, l, 2)
	if h, err := l.Sync(); err != nil || h != l.Standing().Head {
		t.Fatal(h, err)
	}
	d.fill(t, l, 2)
	d.disk.dead = true
	if h, err := l.Sync(); !errors.Is(err, tune.ErrStorage) || h.Seq != 0 {
		t.Fatalf("%+v, %v", h, err)
	}
	d.disk.dead = false
	d.fill(t, l, 1)
	d.whole(t, 6)
	// The disk lost what it could not sync: that is told, and is no tampering.
	path := filepath.Join(d.cfg.Dir, segmentName(1))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	put(t, d.cfg.Dir, 1, data[:lineEnds(data)[1]])
	if r := d.whole(t, 4); r.Lost != 2 {
		t.Errorf("%+v", r)
	}
	// More than what was told is missing.
	put(t, d.cfg.Dir, 1, data[:lineEnds(data)[0]])
	d.check(t).broken(t, "more is missing", 1, 5, "records 2 to 4 are missing")
}

// TestKilledBetweenAppendAndHead: the run folder then knows an older record, which is there.
func TestKilledBetweenAppendAndHead(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	l := New(d.cfg)
	d.fill(t, l, 2)
	d.disk.head = true
	d.fill(t, l, 1)
	d.whole(t, 3)
	d.disk.head = false
	d.fill(t, New(d.cfg), 1)
	d.whole(t, 4)
}

// TestCrashTearsTheLastLine, anywhere in it; the next guard cuts it off and says so.
func TestCrashTearsTheLastLine(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	l := New(d.cfg)
	d.fill(t, l, 2)
	path := filepath.Join(d.cfg.Dir, segmentName(1))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, err := os.ReadFile(d.cfg.HeadFile)
	if err != nil {
		t.Fatal(err)
	}
	d.fill(t, l, 1)
	longer, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := len(whole) + 1; n < len(longer); n += 7 {
		put(t, d.cfg.Dir, 1, longer[:n])
		if err := os.WriteFile(d.cfg.HeadFile, head, 0o600); err != nil {
			t.Fatal(err)
		}
		d.fill(t, New(d.cfg), 1)
		d.whole(t, 4)
		if got := fmt.Sprint(kinds(t, d.cfg.Dir)); got != "[wrote wrote repaired wrote]" {
			t.Fatalf("%d bytes: %s", n, got)
		}
	}
}

// TestGuardFindsTampering: it goes on behind the furthest record anybody knows, and says what it found; no
// number is given twice, so that what is missing stays missing.
func TestGuardFindsTampering(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, d *desk, data []byte, ends []int)
		lines int // of it that stay whole
		says  []string
	}{
		{"the end is cut", func(t *testing.T, d *desk, data []byte, ends []int) { put(t, d.cfg.Dir, 1, data[:ends[2]]) }, 3,
			[]string{"records 4 to 5 are missing", "ends at record 3"}},
		{"all is gone", func(t *testing.T, d *desk, _ []byte, _ []int) {
			if err := os.RemoveAll(d.cfg.Dir); err != nil {
				t.Fatal(err)
			}
		}, 0, []string{"the guard found", "records 1 to 5 are missing"}},
		{"the last record is altered", func(t *testing.T, d *desk, data []byte, ends []int) {
			data[ends[3]+100] ^= 1
			put(t, d.cfg.Dir, 1, data)
		}, 4, []string{"it was altered", "line 5"}},
		{"the last line end is altered", func(t *testing.T, d *desk, data []byte, _ []int) {
			data[len(data)-1] = 'x'
			put(t, d.cfg.Dir, 1, data)
		}, 4, []string{"line end belongs", "line end belongs"}},
		{"one in the middle is altered", func(t *testing.T, d *desk, data []byte, ends []int) {
			data[ends[1]+100] ^= 1
			put(t, d.cfg.Dir, 1, data)
		}, 4, []string{"it was altered", "line 3"}},
		{"another log is put in its place", func(t *testing.T, d *desk, _ []byte, _ []int) {
			other, _ := chained(t, 8)
			put(t, d.cfg.Dir, 1, other)
		}, 8, []string{"the guard found", ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			d.fill(t, New(d.cfg), 5)
			data, err := os.ReadFile(filepath.Join(d.cfg.Dir, segmentName(1)))
			if err != nil {
				t.Fatal(err)
			}
			c.spoil(t, d, data, lineEnds(data))
			before := d.check(t)
			if before.Verified {
				t.Fatal("not found before the guard")
			}
			l := New(d.cfg)
			d.fill(t, l, 1)
			r := d.check(t)
			if r.Verified || r.Records != uint64(c.lines+2) {
				t.Fatalf("%+v", r)
			}
			said := ""
			for _, p := range r.Problems {
				said += p.What + "\n"
			}
			for _, s := range c.says {
				if !strings.Contains(said, s) {
					t.Errorf("does not say %q:\n%s", s, said)
				}
			}
			if want := max(uint64(c.lines), 5) + 2; l.Standing().Head.Seq != want {
				t.Errorf("goes on at record %d, not %d", l.Standing().Head.Seq, want)
			}
			// The next guard adds nothing new to say.
			problems := len(r.Problems)
			d.fill(t, New(d.cfg), 1)
			if again := d.check(t); len(again.Problems) != problems {
				t.Errorf("%d problems became %d: %+v", problems, len(again.Problems), again.Problems)
			}
		})
	}
}

// TestAnyFaults: whatever the disk does and whenever the guard is killed, the log verifies, and every record
// is in it or counted as lost.
func TestAnyFaults(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		d := newDesk(t)
		d.cfg.MaxBytes = 1 << 20 // segments of 64 KiB, none dropped
		l := New(d.cfg)
		asked := uint64(0)
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"add", "add", "add", "many", "sync", "kill", "full", "keeps", "dead", "sealed", "well"}).Draw(rt, "step") {
			case "add":
				_ = l.Append(deed(1)) // lost or kept
				asked++
			case "many":
				many := deed(2)
				many.Detail = strings.Repeat("x", maxDetail)
				_ = l.Append(many, many, many, many, many, many)
				asked += 6
			case "sync":
				_, _ = l.Sync()
			case "kill":
				l = New(d.cfg)
			case "full":
				d.disk.full = true
			case "keeps":
				d.disk.full, d.disk.keeps = true, true
			case "dead":
				d.disk.dead = true
			case "sealed":
				d.disk.sealed = true
			case "well":
				d.disk.full, d.disk.keeps, d.disk.dead, d.disk.sealed = false, false, false, false
			}
		}
		d.disk.full, d.disk.keeps, d.disk.dead, d.disk.sealed = false, false, false, false
		if err := l.Append(deed(3)); err != nil {
			rt.Fatal(err)
		}
		r := d.check(rt)
		if !r.Verified {
			rt.Fatalf("%+v", r)
		}
		own := uint64(0)
		for _, k := range kinds(rt, d.cfg.Dir) {
			if k != string(Wrote) {
				own++
			}
		}
		if got := r.Records - own + r.Lost + r.Dropped; got < asked+1 {
			rt.Fatalf("%d asked for; %d kept, %d lost, %d dropped", asked+1, r.Records-own, r.Lost, r.Dropped)
		}
	})
}

package audit

import (
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

func big() Entry {
	e := deed(1)
	e.Detail = strings.Repeat("x", maxDetail)
	return e
}

// days fills segments: one guard a day, each with enough records for about one segment.
func (d *desk) days(t *testing.T, n int) {
	t.Helper()
	for range n {
		l := New(d.cfg)
		for range 16 {
			if err := l.Append(big()); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		d.now = d.now.Add(24 * time.Hour)
	}
}

func TestOldSegmentsAreDropped(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.cfg.MaxBytes, d.cfg.Keep = 1<<20, 5*24*time.Hour
	d.days(t, 12)
	r := d.check(t)
	if !r.Verified || r.Dropped == 0 {
		t.Fatalf("%+v", r)
	}
	if age := d.now.Sub(r.First); age < 5*24*time.Hour || age > 9*24*time.Hour {
		t.Errorf("%v is kept, of 5 days", age)
	}
	// Without its checkpoint the same log is not whole.
	segs, err := segments(d.cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(segs[0].path); err != nil {
		t.Fatal(err)
	}
	d.check(t).broken(t, "the oldest is taken away", 1, segs[1].first, "no checkpoint tells")
}

func TestTheLogIsBounded(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.cfg.MaxBytes = 300 << 10
	l := New(d.cfg)
	most := int64(0)
	for range 400 {
		if err := l.Append(big()); err != nil {
			t.Fatal(err)
		}
		segs, err := segments(d.cfg.Dir)
		if err != nil {
			t.Fatal(err)
		}
		total := int64(0)
		for _, s := range segs {
			total += s.size
		}
		most = max(most, total)
	}
	if limit := d.cfg.MaxBytes + l.segmentBytes() + maxDetail*2; most > limit {
		t.Errorf("%d bytes lay there, of %d", most, limit)
	}
	if r := d.check(t); !r.Verified || r.Dropped == 0 || r.Records < 30 {
		t.Errorf("%+v", r)
	}
	d.fill(t, New(d.cfg), 1)
	if r := d.check(t); !r.Verified {
		t.Errorf("%+v", r)
	}
}

// TestClockJumps: a clock far ahead or back takes nothing away, in one guard or the next.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	for name, jump := range map[string]time.Duration{"ahead": 50 * 365 * 24 * time.Hour, "back": -50 * 365 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			d.cfg.MaxBytes, d.cfg.Keep = 1<<20, 400*24*time.Hour
			d.days(t, 4)
			before := d.check(t)
			right := d.now
			d.now = d.now.Add(jump)
			l := New(d.cfg)
			d.fill(t, l, 20)
			d.now = right // somebody sets it right
			d.fill(t, l, 20)
			r := d.check(t)
			if !r.Verified || r.Dropped != 0 || r.Records != before.Records+40 {
				t.Errorf("%+v", r)
			}
			if len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "clock went back 1 time") {
				t.Errorf("%v", r.Notes)
			}
		})
	}
}

// TestVerifyWhileAGuardWrites: also over new segments and dropped ones.
func TestVerifyWhileAGuardWrites(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.cfg.MaxBytes = 300 << 10
	l := New(d.cfg)
	d.fill(t, l, 1)
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for range 600 {
			_ = l.Append(big()) // verified below
		}
	}()
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for n := 0; ; n++ {
		select {
		case <-done:
			if n == 0 {
				t.Error("never verified meanwhile")
			}
			return
		default:
		}
		if r := d.check(t); !r.Verified {
			t.Fatalf("%+v", r)
		}
	}
}

// TestCrashWhileDropping: the checkpoint is written, the files are still there.
func TestCrashWhileDropping(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.cfg.MaxBytes = 300 << 10
	l := New(d.cfg)
	for range 40 {
		if err := l.Append(big()); err != nil {
			t.Fatal(err)
		}
	}
	segs, err := segments(d.cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	kept := map[string][]byte{}
	for _, s := range segs[:2] {
		if kept[s.path], err = os.ReadFile(s.path); err != nil {
			t.Fatal(err)
		}
	}
	for range 60 {
		if err := l.Append(big()); err != nil {
			t.Fatal(err)
		}
	}
	if r := d.check(t); !r.Verified || r.Dropped < 20 {
		t.Fatalf("%+v", r)
	}
	// Killed before the newer of the two was removed: the log begins there.
	if err := os.WriteFile(segs[1].path, kept[segs[1].path], 0o600); err != nil {
		t.Fatal(err)
	}
	if r := d.check(t); !r.Verified || r.Dropped != segs[1].first-1 {
		t.Errorf("%+v", r)
	}
	// What is never left by it: the older one alone.
	if err := os.Rename(segs[1].path, segs[0].path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(segs[0].path, kept[segs[0].path], 0o600); err != nil {
		t.Fatal(err)
	}
	d.check(t).broken(t, "a hole", 1, 33, "records 17 to 32 are missing")
}

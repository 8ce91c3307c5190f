package audit

import (
	"fmt"
	"path/filepath"
	"time"
)

// lookEvery is how often retention looks at the clock when no segment is begun.
const lookEvery = 24 * time.Hour

// retain drops whole old segments: those beyond the bound of all, and those whose newest record is older
// than Keep. A checkpoint record says so first, with the hash the chain continues from.
//
// A clock that jumps ahead must not take the log with it: a segment is too old only by the earlier of two
// looks at the clock, a day or a guard apart.
func (l *Log) retain() {
	now := l.cfg.Now().UTC()
	if !l.begun && !l.looked.IsZero() && now.Sub(l.looked) < lookEvery && !now.Before(l.looked) {
		return
	}
	seen := l.clock
	if l.looked.IsZero() || now.Sub(l.looked) >= lookEvery || now.Before(l.looked) {
		l.clock = now
	}
	l.begun, l.looked = false, now
	segs, err := segments(l.cfg.Dir)
	if err == nil {
		err = l.drop(segs, l.old(segs, now, seen))
	}
	if err != nil {
		l.count(func(s *Standing) { s.Errors++ })
	}
}

// old counts the segments that may go; the newest never does.
func (l *Log) old(segs []segment, now, seen time.Time) int {
	total := int64(0)
	for _, s := range segs {
		total += s.size
	}
	if seen.After(now) {
		seen = now
	}
	n := 0
	for ; n < len(segs)-1; n++ {
		tooMuch := l.cfg.MaxBytes > 0 && total > l.cfg.MaxBytes
		tooOld := false
		if !tooMuch && l.cfg.Keep > 0 && !seen.IsZero() {
			next, err := firstOf(segs[n+1])
			tooOld = err == nil && next.Time.Before(seen.Add(-l.cfg.Keep))
		}
		if !tooMuch && !tooOld {
			break
		}
		total -= segs[n].size
	}
	return n
}

func (l *Log) drop(segs []segment, n int) error {
	if n <= 0 {
		return nil
	}
	next, err := firstOf(segs[n])
	if err != nil {
		return fmt.Errorf("find where the log goes on: %w", err) // the chain would hang in the air
	}
	gone := segs[:n]
	err = l.append(true, Entry{Kind: Checkpoint, Actor: guardActor, Reason: "retention",
		Detail: fmt.Sprintf("dropped %s to %s; the log begins at %s from here", filepath.Base(gone[0].path),
			filepath.Base(gone[n-1].path), next.Time.Format(time.RFC3339)),
		Span: &Span{Records: next.Seq - gone[0].first, First: gone[0].first, Last: next.Seq - 1, Hash: next.Prev}})
	if err == nil {
		_, err = l.Sync()
	}
	if err != nil {
		return err
	}
	for _, s := range gone {
		if err := l.cfg.Disk.Remove(s.path); err != nil {
			return err
		}
	}
	return nil
}

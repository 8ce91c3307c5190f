package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// survey is what a starting guard finds of the log.
type survey struct {
	head   Head   // newest whole record
	beyond uint64 // unreadable lines behind it
	path   string // newest segment
	whole  int64  // its bytes up to the unfinished line
	torn   int    // bytes of that line
	damage []string
	said   map[string]bool // what a guard before found already
	newest Record
}

// open finds the end of the log and continues there. A crash's unfinished line is cut off and told; a log
// that is not the one that was left is told, and continued behind the furthest record anybody knows of, so
// that no number is ever given twice.
func (l *Log) open() error {
	if l.opened {
		return nil
	}
	if !l.asked {
		l.remember()
	}
	s, err := l.look()
	if err != nil {
		return storageError(l.cfg.Dir, err)
	}
	l.head, l.path, l.size, l.clock = s.head, s.path, s.whole, s.newest.Time
	l.head.Seq += s.beyond // their hashes are not known; the numbers are taken
	l.stale, l.synced = s.beyond > 0, s.head.Seq
	var first []Entry
	if s.torn > 0 && !l.stale {
		if err := l.cutTail(s); err != nil {
			return storageError(l.cfg.Dir, err)
		}
		first = append(first, Entry{Kind: Repaired, Actor: guardActor, Reason: "crash",
			Detail: fmt.Sprintf("%s ended in %d bytes of an unfinished record: cut off", filepath.Base(s.path), s.torn)})
	}
	for _, what := range append(s.damage, l.compare(s)...) {
		if what = cut(what, maxDetail); s.said[what] {
			continue
		}
		first = append(first, Entry{Kind: Broken, Actor: guardActor, Reason: "damage", Detail: what})
	}
	l.opened = true
	if len(first) > 0 {
		_ = l.append(true, first...) // counted as lost, and told later, when it fails
	}
	return nil
}

// look reads the newest segment, and older ones while they hold no whole record.
func (l *Log) look() (survey, error) {
	s := survey{head: origin(), said: map[string]bool{}}
	segs, err := segments(l.cfg.Dir)
	if err != nil || len(segs) == 0 {
		return s, err
	}
	for i := len(segs) - 1; i >= 0 && s.head.Seq == 0; i-- {
		if err := s.read(segs[i], i == len(segs)-1); err != nil {
			return s, err
		}
	}
	s.path = segs[len(segs)-1].path
	return s, nil
}

func (s *survey) read(seg segment, newest bool) error {
	f, err := os.Open(seg.path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // read only
	at := filepath.Base(seg.path)
	bad := uint64(0)
	err = scan(f, func(n line) bool {
		switch {
		case n.torn && n.bad == nil:
			s.torn = n.bytes
			return true
		case n.bad != nil:
			bad++
			s.damage = append(s.damage, fmt.Sprintf("%s, line %d: %v", at, n.number, n.bad))
		case s.head.Seq > 0 && bad == 0 && n.record.Kind != Broken && n.record.Kind != Gap && (n.record.Seq != s.head.Seq+1 || n.record.Prev != s.head.Hash):
			s.damage = append(s.damage, fmt.Sprintf("%s, line %d: it does not follow the record before it", at, n.number))
			fallthrough
		default:
			s.head, s.newest, bad = Head{Seq: n.record.Seq, Hash: n.hash}, n.record, 0
			if n.record.Kind == Broken {
				s.said[n.record.Detail] = true
			}
		}
		if newest {
			s.whole += int64(n.bytes)
		}
		return true
	})
	s.beyond += bad
	if len(s.damage) > maxProblems {
		s.damage = s.damage[:maxProblems]
	}
	return err
}

// remember takes over what the guard before left in the run folder, before anything is written there.
func (l *Log) remember() {
	k, ok, err := readHead(l.cfg.HeadFile)
	switch {
	case err != nil:
		l.unread = err.Error()
	case k.DataDir != l.cfg.DataDir:
	case k.Lost > 0:
		l.lost = loss{records: k.Lost, why: errors.New("a guard before could not, and has ended since"), since: l.cfg.Now().UTC()}
		fallthrough
	case ok:
		l.head = k.Head // until the log itself is read
		l.cfg.Anchors = append(l.cfg.Anchors[:len(l.cfg.Anchors):len(l.cfg.Anchors)], Anchor{Head: k.Head, Where: l.cfg.HeadFile})
	}
	l.asked = true
}

// compare holds what was found against the heads kept elsewhere, takes over the furthest, and says what
// does not fit.
func (l *Log) compare(s survey) (damage []string) {
	if l.unread != "" {
		damage = append(damage, l.unread)
	}
	for _, a := range l.cfg.Anchors {
		switch {
		case a.Seq == 0:
		case a.Seq > l.head.Seq:
			damage = append(damage, fmt.Sprintf("the log ends at record %d, but %s has record %d", s.head.Seq, a.Where, a.Seq))
			l.head = a.Head
		default:
			if hash, found := l.hashOf(a.Seq); found && hash != a.Hash {
				damage = append(damage, fmt.Sprintf("record %d is not the one that %s has", a.Seq, a.Where))
			}
		}
	}
	return damage
}

// hashOf finds a record by its number; one that was dropped, or is not readable, is not found.
func (l *Log) hashOf(seq uint64) (hash string, found bool) {
	segs, err := segments(l.cfg.Dir)
	if err != nil {
		return "", false
	}
	for i, s := range segs {
		if s.first > seq || i+1 < len(segs) && segs[i+1].first <= seq {
			continue
		}
		f, err := os.Open(s.path)
		if err != nil {
			return "", false
		}
		_ = scan(f, func(n line) bool { // what cannot be read is not found
			if n.bad == nil && !n.torn && n.record.Seq == seq {
				hash, found = n.hash, true
			}
			return !found
		})
		_ = f.Close() // read only
	}
	return hash, found
}

func (l *Log) cutTail(s survey) error {
	f, err := l.cfg.Disk.Append(s.path)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(s.whole), f.Close())
}

// firstOf reads the first record of a segment.
func firstOf(s segment) (Record, error) {
	f, err := os.Open(s.path)
	if err != nil {
		return Record{}, err
	}
	defer func() { _ = f.Close() }() // read only
	var first Record
	bad := error(fs.ErrNotExist)
	err = scan(f, func(n line) bool {
		first, bad = n.record, n.bad
		if n.torn {
			bad = errors.New("unfinished")
		}
		return false
	})
	return first, errors.Join(err, bad)
}

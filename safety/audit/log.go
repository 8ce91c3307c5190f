package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"semantos/internal/tune"
)

// Config says where a log lies and how long it is kept.
type Config struct {
	Disk     Disk
	Dir      string   // of the segments
	DataDir  string   // said in the head file
	HeadFile string   // in the run folder
	Anchors  []Anchor // what the journal knows of it
	Boot     string
	Now      func() time.Time
	Keep     time.Duration // of old segments; 0 keeps them whatever their age
	MaxBytes int64         // of all segments; 0 is no bound
}

// Log appends. One goroutine at a time may call its methods but [Log.Standing], which any may.
type Log struct {
	cfg  Config
	file File
	path string
	size int64 // of the open segment, whole lines
	head Head
	lost loss
	// stale says that the open segment is not to be appended to again: a sync failed, or its end is damaged.
	stale  bool
	asked  bool   // the run folder was
	unread string // why it could not be
	opened bool
	begun  bool      // a segment was begun since retention looked
	clock  time.Time // what the clock said a look before
	looked time.Time // when retention last looked
	synced uint64    // newest record that is surely on disk

	mu       sync.Mutex
	standing Standing
}

// loss is what could not be kept since the last record; first to last may not have reached the disk.
type loss struct {
	records     uint64
	first, last uint64
	why         error
	since       time.Time
}

func (l loss) any() bool { return l.records > 0 || l.last > 0 }

// Standing is where a log stands, for metrics and alerts. Counts are since the guard began.
type Standing struct {
	Head    Head   `json:"head"`
	Records uint64 `json:"records"`
	Errors  uint64 `json:"errors"` // appends that failed
	Lost    uint64 `json:"lost"`   // records that could not be kept when they happened
	Refused uint64 `json:"refused"`
	Broken  string `json:"broken,omitempty"` // why the log cannot be written now
}

// New makes a log that is not opened: opening waits for the disk, and is done by the first append.
func New(cfg Config) *Log {
	if cfg.Disk == nil {
		cfg.Disk = OS{}
	}
	return &Log{cfg: cfg}
}

// Standing says where the log stands.
func (l *Log) Standing() Standing {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.standing
}

func (l *Log) count(change func(*Standing)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.standing)
}

// Ready opens the log, and writes what is still to be said of records lost. New changes wait for it.
func (l *Log) Ready() error {
	if err := l.open(); err != nil {
		return err
	}
	if l.lost.any() {
		return l.append(false)
	}
	return nil
}

// Append adds entries. What cannot be kept is counted, and told by a gap record once something can.
func (l *Log) Append(entries ...Entry) error {
	if err := l.open(); err != nil {
		l.lose(len(entries), err)
		return err
	}
	return l.append(true, entries...)
}

// Lose counts records that never reached the log.
func (l *Log) Lose(n int, why error) { l.lose(n, why) }

func (l *Log) lose(n int, why error) {
	if n == 0 {
		return
	}
	if !l.lost.any() {
		l.lost.since = l.cfg.Now().UTC()
	}
	l.lost.records += uint64(n)
	l.lost.why = why
	l.count(func(s *Standing) { s.Errors++; s.Lost += uint64(n); s.Broken = why.Error() })
	l.keepHead()
}

// append writes what was lost first, then the entries, one by one: a write that stops half-way then leaves
// no whole line of a record that counts as lost.
func (l *Log) append(counted bool, entries ...Entry) error {
	err := l.fill()
	for len(entries) > 0 && err == nil {
		if err = l.write(entries[0]); err == nil {
			entries = entries[1:]
		}
	}
	if err != nil {
		err = storageError(l.cfg.Dir, err)
		if counted {
			l.lose(len(entries), err)
		} else {
			l.count(func(s *Standing) { s.Errors++; s.Broken = err.Error() })
		}
		return err
	}
	l.keepHead()
	l.retain()
	return nil
}

// fill tells what was lost.
func (l *Log) fill() error {
	if !l.lost.any() {
		return nil
	}
	if err := l.write(l.gap()); err != nil {
		return err
	}
	l.lost = loss{}
	return nil
}

func (l *Log) gap() Entry {
	said := fmt.Sprintf("%d records since %s could not be kept", l.lost.records, l.lost.since.Format(time.RFC3339))
	if l.lost.last > 0 {
		said += fmt.Sprintf("; records %d to %d may not have reached the disk", l.lost.first, l.lost.last)
	}
	return Entry{Kind: Gap, Actor: guardActor, Reason: "storage", Detail: fmt.Sprintf("%s: %v", said, l.lost.why),
		Span: &Span{Records: l.lost.records, First: l.lost.first, Last: l.lost.last}}
}

const guardActor = "guard"

// write puts one entry behind the head. A half-written line is cut off again; where even that fails, the
// segment is left and the next record begins another.
func (l *Log) write(e Entry) error {
	if err := l.segment(); err != nil {
		return err
	}
	r := Record{Seq: l.head.Seq + 1, Time: l.cfg.Now().UTC(), Boot: l.cfg.Boot, Prev: l.head.Hash, Entry: e.Clip()}
	text, hash, err := encode(r)
	if err != nil {
		return err
	}
	if _, err := l.file.Write(text); err != nil {
		if cut := l.file.Truncate(l.size); cut != nil {
			l.stale = true
		}
		return err
	}
	l.size += int64(len(text))
	l.head = Head{Seq: r.Seq, Hash: hash}
	l.count(func(s *Standing) { s.Head, s.Records, s.Broken = l.head, s.Records+1, "" })
	return nil
}

// segment opens the file to append to: the newest one while it is small and whole, else another.
func (l *Log) segment() error {
	if l.file != nil && (l.stale || l.size >= l.segmentBytes()) {
		_, err := l.Sync() // a failure is told by the gap record of the next append
		_ = l.file.Close() // it was synced, or is given up
		l.file = nil
		if err != nil {
			return err
		}
	}
	if l.file != nil {
		return nil
	}
	path, size := l.path, l.size
	if path == "" || l.stale || l.size >= l.segmentBytes() {
		path, size = filepath.Join(l.cfg.Dir, segmentName(l.head.Seq+1)), 0
	}
	f, err := l.cfg.Disk.Append(path)
	if err != nil {
		return err
	}
	if size == 0 && path == l.path { // its only line was never finished
		if err := f.Truncate(0); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	l.begun = l.begun || size == 0
	l.file, l.path, l.size, l.stale = f, path, size, false
	return nil
}

// segmentBytes is a share of all, so that dropping whole segments keeps most of it.
func (l *Log) segmentBytes() int64 {
	const most, least = 4 << 20, 64 << 10
	if l.cfg.MaxBytes == 0 {
		return most
	}
	return min(most, max(least, l.cfg.MaxBytes/16))
}

// Sync puts everything on disk and gives the head that is then safe: it may be told elsewhere. There is
// none where nothing was appended, or where an earlier sync failed and was said.
func (l *Log) Sync() (Head, error) {
	if l.file == nil || l.stale {
		return Head{}, nil
	}
	if err := l.file.Sync(); err != nil {
		// The kernel may have dropped the pages it could not write: nothing more is trusted to this file.
		l.stale = true
		err = storageError(l.cfg.Dir, err)
		if !l.lost.any() {
			l.lost.since = l.cfg.Now().UTC()
		}
		l.lost.first, l.lost.last, l.lost.why = l.synced+1, l.head.Seq, err
		l.count(func(s *Standing) { s.Errors++; s.Broken = err.Error() })
		return Head{}, err
	}
	l.synced = l.head.Seq
	return l.head, nil
}

// Close syncs and closes.
func (l *Log) Close() error {
	_, err := l.Sync()
	if l.file != nil {
		err = errors.Join(err, l.file.Close())
	}
	return err
}

// keepHead puts the head where this boot finds it. Its loss weakens only what a verification can tell.
func (l *Log) keepHead() {
	if l.cfg.HeadFile == "" {
		return
	}
	data, err := json.Marshal(kept{Head: l.head, Lost: l.lost.records, DataDir: l.cfg.DataDir})
	if err == nil {
		err = l.cfg.Disk.Replace(l.cfg.HeadFile, append(data, '\n'))
	}
	if err != nil {
		l.count(func(s *Standing) { s.Errors++ })
	}
}

func storageError(dir string, err error) error {
	hint := "free some space or give another folder with --data-dir; what is held now can still be put back"
	if errors.Is(err, fs.ErrPermission) {
		hint = "run as root, or give a folder you may write with --data-dir"
	}
	return &tune.Error{Op: "write audit log", Subject: dir, Err: fmt.Errorf("%w: %w", tune.ErrStorage, err), Hint: hint}
}

var _ File = (*os.File)(nil)

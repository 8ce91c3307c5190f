package guard

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"semantos/internal/tune"
	"semantos/safety/audit"
)

// recorder takes records to the disk. It may give up waiting when ctx ends; the records stay queued in
// their order.
type recorder interface {
	record(ctx context.Context, sync bool, recs ...record) error
	later(sync bool, recs ...record) // of what has happened already: nobody waits for it
	usable() error
}

// book is the journal of one data folder with its copies in the run folder: one small journal per
// rollout, which a later command with another data folder finds.
type book struct {
	main    *journal
	disk    disk
	dataDir string
	runDir  string
	copies  map[string]*journal
}

func newBook(d disk, dataDir, runDir string) (*book, scanned) {
	main, s := openJournal(d, journalPath(dataDir), runDir)
	return &book{main: main, disk: d, dataDir: dataDir, runDir: runDir, copies: map[string]*journal{}}, s
}

func (b *book) usable() error { return b.main.usable() }

// record appends to the journal, then to the copies. A change needs both; a restore has already
// happened, so it is told to the copies even when the journal cannot be written, and the copy of a
// closed rollout is dropped only when the journal knows.
func (b *book) record(_ context.Context, sync bool, recs ...record) error {
	for i := range recs {
		recs[i].DataDir = b.dataDir
	}
	// Whoever asked before may have met the queue at work, which has no answer then.
	if slices.ContainsFunc(recs, func(r record) bool { return r.Kind == kindIntent }) {
		if err := b.usable(); err != nil {
			return err
		}
	}
	mainErr := b.main.append(sync, recs...)
	var copyErr error
	for _, r := range recs {
		if mainErr != nil && !r.Kind.afterwards() {
			continue
		}
		if mainErr == nil && r.Kind == kindClosed {
			copyErr = errors.Join(copyErr, b.dropCopy(r.Rollout))
			continue
		}
		copyErr = errors.Join(copyErr, b.toCopy(r))
	}
	return errors.Join(mainErr, copyErr)
}

// later is record where nothing runs beside: what cannot be written is found out by the next start.
func (b *book) later(sync bool, recs ...record) { _ = b.record(context.Background(), sync, recs...) }

func (b *book) toCopy(r record) error {
	j := b.copies[r.Rollout]
	if j == nil {
		path := copyPath(b.runDir, b.dataDir, r.Rollout)
		if r.Kind != kindIntent {
			if _, err := b.disk.ReadFile(path); err != nil {
				return nil // nothing of this rollout was copied: nothing to say about it
			}
		}
		j, _ = openJournal(b.disk, path, b.runDir)
		b.copies[r.Rollout] = j
	}
	return j.append(false, r)
}

func (b *book) dropCopy(rollout string) error {
	if j := b.copies[rollout]; j != nil {
		j.close()
		delete(b.copies, rollout)
	}
	return b.disk.Remove(copyPath(b.runDir, b.dataDir, rollout))
}

func (b *book) close() {
	b.main.close()
	for _, j := range b.copies {
		j.close()
	}
}

// copyPath names a rollout's copy: rollouts of two data folders never meet in one file.
func copyPath(runDir, dataDir, rollout string) string {
	return filepath.Join(runDir, "open", fmt.Sprintf("%s.%08x.log", rollout, crc32.ChecksumIEEE([]byte(dataDir))))
}

// runCopy is one copy as found in the run folder.
type runCopy struct {
	path    string
	dataDir string
	records []record
}

// readCopies finds every copy. A damaged one still gives its good records.
func readCopies(d disk, runDir string) ([]runCopy, error) {
	dir := filepath.Join(runDir, "open")
	names, err := d.List(dir)
	if err != nil {
		return nil, runDirError(dir, err)
	}
	var out []runCopy
	for _, name := range names {
		if !strings.HasSuffix(name, ".log") {
			continue
		}
		data, err := readTrusted(d, filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // its rollout ended meanwhile: the journal's queue drops copies as the disk takes the records
		}
		if err != nil {
			return nil, runDirError(filepath.Join(dir, name), err)
		}
		c := runCopy{path: filepath.Join(dir, name), records: scanJournal(data).records}
		for _, r := range c.records {
			c.dataDir = r.DataDir
		}
		out = append(out, c)
	}
	return out, nil
}

// queue writes a book's records from a goroutine of its own, so that a slow disk can hold up a new
// change but never a restore.
type queue struct {
	book *book
	jobs chan queued
	done chan struct{}
	mu   sync.Mutex // guards book against usable

	audit *auditor      // nil: no log is kept
	lost  atomic.Uint64 // entries of the log that found the queue full
}

// queued is records of the journal, entries of the log, or other work on the journal's disk.
type queued struct {
	do      func(*book) error
	recs    []record
	sync    bool
	entries []audit.Entry
	result  chan error
}

// queueLength bounds what may wait for a stuck disk; a guard writes far less while it restores.
const queueLength = 4096

func newQueue(b *book) *queue {
	q := &queue{book: b, jobs: make(chan queued, queueLength), done: make(chan struct{})}
	go q.run()
	return q
}

func (q *queue) run() {
	defer close(q.done)
	for job := range q.jobs {
		q.mu.Lock()
		err := q.write(job)
		q.mu.Unlock()
		job.result <- err
	}
	if q.audit != nil {
		q.keep(nil)
		_ = q.audit.log.Close() // what it could not sync it has counted
	}
}

func (q *queue) write(job queued) error {
	switch {
	case job.do != nil:
		return job.do(q.book)
	case len(job.recs) == 0:
		q.keep(job.entries)
		return nil
	case q.audit == nil:
		return q.book.record(context.Background(), job.sync, job.recs...)
	}
	err := q.audit.before(job.recs)
	if err == nil {
		err = q.book.record(context.Background(), job.sync, job.recs...)
	}
	q.audit.after(job.recs, err)
	return err
}

func (q *queue) usable() error {
	if !q.mu.TryLock() {
		return nil // being written now: the answer comes with the record
	}
	defer q.mu.Unlock()
	return q.book.usable()
}

// prepare opens the journal for writing and drops what the state says is over, behind the records that wait
// already; a disk that does not answer is waited for a moment only.
func (q *queue) prepare(state *journalState, wait time.Duration) error {
	ends := newJournalState() // the state goes on changing meanwhile
	for id, ro := range state.rollouts {
		ends.rollouts[id] = &heldRollout{Closed: ro.Closed}
	}
	job := queued{result: make(chan error, 1), do: func(b *book) error {
		if b.main.open() != nil {
			return nil // usable says why
		}
		return b.main.compact(ends)
	}}
	q.enqueue(job) // the queue has just begun: it has room
	select {
	case err := <-job.result:
		return err
	case <-time.After(wait):
		return errors.New("its disk does not answer")
	}
}

func (q *queue) put(sync bool, recs []record) (queued, bool) {
	// The caller folds its records while they may still wait here, where they get numbers and heads.
	job := queued{recs: slices.Clone(recs), sync: sync, result: make(chan error, 1)}
	return job, q.enqueue(job)
}

func (q *queue) enqueue(job queued) bool {
	select {
	case q.jobs <- job:
		return true
	default:
		return false
	}
}

// later queues and returns. A full queue loses the record, not the restore it tells of; no change is
// accepted then.
func (q *queue) later(sync bool, recs ...record) { q.put(sync, recs) }

func (q *queue) record(ctx context.Context, sync bool, recs ...record) error {
	job, ok := q.put(sync, recs)
	if !ok {
		return &tune.Error{Op: "write journal", Subject: q.book.main.path, Err: tune.ErrStorage, Hint: "the disk does not answer: check it"}
	}
	select {
	case err := <-job.result:
		return err
	case <-ctx.Done():
	}
	// A healthy disk answers within this: then what is on it and what we believe stay the same.
	select {
	case err := <-job.result:
		return err
	case <-time.After(recordGrace):
		return fmt.Errorf("wait for journal: %w", context.Cause(ctx))
	}
}

// recordGrace is how long a record is still waited for when its parent has died or a restore waits behind
// it. It is short because of the restore: what comes too late is folded as in doubt, or ended in order.
const recordGrace = 25 * time.Millisecond

// stop waits until what is queued is on disk, or until ctx ends.
func (q *queue) stop(ctx context.Context) {
	close(q.jobs)
	select {
	case <-q.done:
		q.book.close()
	case <-ctx.Done():
	}
}

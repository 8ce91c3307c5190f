package guard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"semantos/internal/tune"
	"semantos/safety/audit"
	"semantos/safety/journal"
)

// recorder takes records to the disk. It may give up waiting when ctx ends; the records stay queued in
// their order.
type recorder interface {
	Record(ctx context.Context, sync bool, recs ...journal.Record) error
	Later(sync bool, recs ...journal.Record) // of what has happened already: nobody waits for it
	Usable() error
}

// queue writes a book's records from a goroutine of its own, so that a slow disk can hold up a new
// change but never a restore.
type queue struct {
	book *journal.Book
	jobs chan queued
	done chan struct{}
	mu   sync.Mutex // guards book against usable

	audit *auditor      // nil: no log is kept
	lost  atomic.Uint64 // entries of the log that found the queue full
}

// queued is records of the journal, entries of the log, or other work on the journal's disk.
type queued struct {
	do      func(*journal.Book) error
	recs    []journal.Record
	sync    bool
	entries []audit.Entry
	result  chan error
}

// queueLength bounds what may wait for a stuck disk; a guard writes far less while it restores.
const queueLength = 4096

func newQueue(b *journal.Book) *queue {
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
		return q.book.Record(context.Background(), job.sync, job.recs...)
	}
	err := q.audit.before(job.recs)
	if err == nil {
		err = q.book.Record(context.Background(), job.sync, job.recs...)
	}
	q.audit.after(job.recs, err)
	return err
}

func (q *queue) Usable() error {
	if !q.mu.TryLock() {
		return nil // being written now: the answer comes with the record
	}
	defer q.mu.Unlock()
	return q.book.Usable()
}

// prepare opens the journal for writing and drops what the state says is over, behind the records that wait
// already; a disk that does not answer is waited for a moment only.
func (q *queue) prepare(state *journal.State, wait time.Duration) error {
	ends := journal.NewState() // the state goes on changing meanwhile
	for id, ro := range state.Rollouts {
		ends.Rollouts[id] = &journal.Rollout{Closed: ro.Closed}
	}
	job := queued{result: make(chan error, 1), do: func(b *journal.Book) error {
		return b.Prepare(ends)
	}}
	q.enqueue(job) // the queue has just begun: it has room
	select {
	case err := <-job.result:
		return err
	case <-time.After(wait):
		return errors.New("its disk does not answer")
	}
}

func (q *queue) put(sync bool, recs []journal.Record) (queued, bool) {
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

// Later queues and returns. A full queue loses the record, not the restore it tells of; no change is
// accepted then.
func (q *queue) Later(sync bool, recs ...journal.Record) { q.put(sync, recs) }

func (q *queue) Record(ctx context.Context, sync bool, recs ...journal.Record) error {
	job, ok := q.put(sync, recs)
	if !ok {
		return &tune.Error{Op: "write journal", Subject: q.book.Path(), Err: tune.ErrStorage, Hint: "the disk does not answer: check it"}
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
		q.book.Close()
	case <-ctx.Done():
	}
}

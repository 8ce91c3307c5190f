package guard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"semantos/internal/tune"
)

// Files beside the journal (what the next boot reads, the freeze of a data folder, another data folder's
// journal) lie on disks that may hang. The goroutine that restores never touches them itself: a lane does, and
// is not waited for when something is to be put back.

// lane does the work on one kind of files on a goroutine of its own, in order: what is taken back is taken
// back behind what wrote it, however late that was.
type lane struct {
	jobs chan fileJob
	done chan struct{}
	woke chan<- struct{}
}

type fileJob struct {
	do     func() error
	result chan error
}

// laneLength bounds what may wait for a stuck disk.
const laneLength = 64

func newLane(woke chan<- struct{}) *lane {
	l := &lane{jobs: make(chan fileJob, laneLength), done: make(chan struct{}), woke: woke}
	go l.run()
	return l
}

func (l *lane) run() {
	defer close(l.done)
	for j := range l.jobs {
		j.result <- withoutFault(j.do)
		select {
		case l.woke <- struct{}{}:
		default: // it was told already
		}
	}
}

// withoutFault makes a fault of ours an error: on this goroutine it would end the guard with values standing.
func withoutFault(do func() error) (err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("the guard failed: %v", fault)
		}
	}()
	return do()
}

// lanes are apart because the disks may be: one that hangs holds up its own files. Without them (a guard that
// has not begun, a test) the work is done on the spot.
type lanes struct {
	boot      *lane         // what the next boot reads
	freeze    *lane         // the freeze of the data folder
	elsewhere *lane         // journals of other data folders
	woke      chan struct{} // something that was not waited for may be done
}

func newLanes() lanes {
	woke := make(chan struct{}, 1)
	return lanes{boot: newLane(woke), freeze: newLane(woke), elsewhere: newLane(woke), woke: woke}
}

// stop waits for what is being written until ctx ends, and reports whether all is.
func (ls lanes) stop(ctx context.Context) bool {
	close(ls.elsewhere.jobs) // it only reads
	for _, l := range []*lane{ls.boot, ls.freeze} {
		close(l.jobs)
	}
	for _, l := range []*lane{ls.boot, ls.freeze} {
		select {
		case <-l.done:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// owed is work that goes on although nobody waits for it any more.
type owed struct {
	lane   *lane
	result chan error
	then   func(error) // may be nil; on the engine's goroutine
}

// errLate is why something is not known to be done: it is not given up.
var errLate = errors.New("the disk does not answer; what was begun goes on when it does")

// onDisk does work on a lane and waits for it while ctx lasts, and a moment more. Not waited for to the end it
// goes on, in its order, and an error wrapping errLate is given; then, which may only tell records, hears how
// it ended. The work must not touch the engine's state.
func (g *engine) onDisk(ctx context.Context, l *lane, do func() error, then func(error)) error {
	if l == nil {
		return do()
	}
	w := owed{lane: l, result: make(chan error, 1), then: then}
	select {
	case l.jobs <- fileJob{do, w.result}:
	default:
		return fmt.Errorf("%w: the disk does not answer, and too much waits for it", tune.ErrStorage)
	}
	done, err := w.wait(ctx, g.stuck(l))
	if !done {
		g.owed = append(g.owed, w)
		return fmt.Errorf("%w: %w: %w", tune.ErrStorage, errLate, context.Cause(ctx))
	}
	g.settle() // what was owed before it on this lane is done too
	return err
}

// wait gives a disk in order its moment, as the journal's does; behind what has just been given up there is none.
func (w owed) wait(ctx context.Context, stuck bool) (done bool, err error) {
	select {
	case err := <-w.result:
		return true, err
	case <-ctx.Done():
	}
	if stuck {
		return false, nil
	}
	select {
	case err := <-w.result:
		return true, err
	case <-time.After(recordGrace):
		return false, nil
	}
}

func (g *engine) stuck(l *lane) bool {
	return slices.ContainsFunc(g.owed, func(w owed) bool { return w.lane == l })
}

// settle takes in what has been done meanwhile, each lane's in its order.
func (g *engine) settle() {
	due := g.owed
	g.owed = nil
	for _, w := range due {
		if g.stuck(w.lane) { // one before it is not done: nor is this, or only since
			g.owed = append(g.owed, w)
			continue
		}
		select {
		case err := <-w.result:
			if w.then != nil {
				w.then(err)
			}
		default:
			g.owed = append(g.owed, w)
		}
	}
}

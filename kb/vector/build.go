package vector

import (
	"context"
	"fmt"
	"slices"
)

// job is one piece of background work on a view of the rows.
type job struct {
	view view
	dead []bool // a copy, when the rows are to be compacted
	from walker // to extend; nil: leave without
}

// due says what is to be done now. The caller holds the lock.
func (x *Live) due() (job, bool) {
	r := x.rows
	j := job{view: r.view}
	if r.n-r.live > max(1024, r.n/4) {
		j.dead = slices.Clone(r.dead)
		if x.empty != nil && r.live >= max(x.from, x.retry) {
			j.from = x.empty()
		}
		return j, true
	}
	// Walkers cover whole groups of rows; the few after the last group are scanned.
	j.view.n = r.n / rowGroup * rowGroup
	if x.empty == nil || r.live < max(x.from, x.retry) {
		return j, false
	}
	covered := 0
	if j.from = x.walker; j.from == nil {
		j.from = x.empty()
	} else {
		covered = j.from.size()
	}
	room := max(graphFrom, r.n/16)
	if x.full {
		room = 0
	}
	return j, j.view.n-covered > room
}

// maintain starts background work when some is due and none is under way. The caller holds the lock.
func (x *Live) maintain() {
	if x.closed || x.idle != nil {
		return
	}
	if x.rows.live == 0 && x.rows.n > 0 {
		x.rows, x.walker, x.retry = newRows(x.rows.kern, x.dim), nil, 0
		return
	}
	if _, ok := x.due(); !ok {
		x.full = false
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	x.idle, x.stop, x.failed = make(chan struct{}), stop, nil
	go x.work(ctx)
}

// work does what is due until nothing is.
func (x *Live) work(ctx context.Context) {
	for {
		x.mu.Lock()
		j, ok := x.due()
		if !ok || ctx.Err() != nil || x.failed != nil {
			x.stop()
			idle := x.idle
			x.idle, x.full = nil, false
			x.mu.Unlock()
			close(idle)
			return
		}
		x.mu.Unlock()
		if err := x.do(ctx, j); err != nil {
			x.mu.Lock()
			x.failed, x.retry = err, 2*j.view.n
			x.mu.Unlock()
		}
	}
}

// do builds without the lock and swaps with it.
func (x *Live) do(ctx context.Context, j job) error {
	var fresh *rows
	v := j.view
	if j.dead != nil {
		fresh = newRows(v.kern, v.dim)
		fresh.follow(v, j.dead, 0)
		v = fresh.view
		v.n = v.n / rowGroup * rowGroup
	}
	var next walker
	var p plan
	if j.from != nil {
		var err error
		if next, p, err = j.from.extended(ctx, v, x.cost); err != nil {
			return err
		}
	}
	done := j.view.n
	for fresh != nil { // what was appended meanwhile is copied in turns, the last short one under the lock
		x.mu.RLock()
		now, dead := x.rows.view, slices.Clone(x.rows.dead)
		x.mu.RUnlock()
		if now.n-done < chunkRows {
			break
		}
		done = fresh.follow(now, dead, done)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if fresh != nil {
		fresh.follow(x.rows.view, x.rows.dead, done)
		fresh.bury(x.rows, j.dead)
		x.rows, x.walker = fresh, nil
	}
	if next != nil {
		if x.walker != nil { // grown by a few rows: so few questions cannot argue for less
			p.width = max(p.width, x.plan.width)
		}
		x.walker, x.plan, x.retry = next, p, 0
		if p.widthFor(planK, 1, x.cost, v.n) == 0 {
			x.walker, x.retry = nil, 2*v.n
		}
	}
	return nil
}

// follow copies the live rows of v from slot done on, and gives where it stopped.
func (r *rows) follow(v view, dead []bool, done int) int {
	for slot := uint32(done); slot < uint32(v.n); slot++ {
		if !dead[slot] {
			r.put(v.ids[slot], v.float(slot))
		}
	}
	return v.n
}

// bury drops what was deleted from old since dead was copied.
func (r *rows) bury(old *rows, dead []bool) {
	for slot, gone := range old.dead {
		if gone && (slot >= len(dead) || !dead[slot]) {
			if _, back := old.slot[old.ids[slot]]; !back {
				r.drop(old.ids[slot])
			}
		}
	}
}

// Build brings the index to rest: it waits for background work and has the walker cover every row
// the kind wants it to. For start-up and tests; searches go on meanwhile.
func (x *Live) Build(ctx context.Context) error {
	for {
		x.mu.Lock()
		x.full = true
		x.maintain()
		idle, err := x.idle, x.failed
		x.mu.Unlock()
		if err != nil {
			return fmt.Errorf("build vector index: %w", err)
		}
		if idle == nil {
			return nil
		}
		select {
		case <-idle:
		case <-ctx.Done():
			return fmt.Errorf("build vector index: %w", ctx.Err())
		}
	}
}

// Close ends background work. Searches and writes still answer, by scanning what no walker covers.
func (x *Live) Close() error {
	x.mu.Lock()
	x.closed = true
	idle := x.idle
	if idle != nil {
		x.stop()
	}
	x.mu.Unlock()
	if idle != nil {
		<-idle
	}
	return nil
}

package vector

import (
	"context"
	"fmt"
	"sync"

	"semantos/internal/tune"
)

// Live is the one index: rows that a scan answers from, and a walker over the older ones once there
// are enough. Writers append rows under the lock; a goroutine builds the next walker from a view and
// swaps it in, and readers answer from what stands.
type Live struct {
	dim, width int
	empty      func() walker // nil: scan only
	from       int           // rows from which a walker is wanted
	cost       float64       // of a row a walker scores, in rows of a scan; 0: walk whatever it costs

	mu      sync.RWMutex
	rows    *rows
	walker  walker // nil: none yet
	plan    plan
	retry   int           // rows at which a walker that was not worth its cost is tried again
	idle    chan struct{} // nil while nothing is built, else closed at the end
	stop    context.CancelFunc
	full    bool // the walker is to cover every row, not all but the newest
	failed  error
	closed  bool
	scratch sync.Pool
}

var _ Index = (*Live)(nil)

// Dim is the dimension of every vector.
func (x *Live) Dim() int { return x.dim }

// Len is the number of stored vectors.
func (x *Live) Len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.rows.live
}

// unit checks v and gives its unit vector in b, padded to the width.
func (x *Live) unit(b, v []float32) ([]float32, error) {
	if len(v) != x.dim {
		return b, fmt.Errorf("vector has %d elements, the index %d: %w", len(v), x.dim, tune.ErrType)
	}
	b = sized(b, x.width)
	return b, normalise(b, v)
}

// Upsert stores v under id; see [Index].
func (x *Live) Upsert(id string, v []float32) error {
	if id == "" {
		return fmt.Errorf("store vector: empty id: %w", tune.ErrUsage)
	}
	s := x.take()
	defer x.scratch.Put(s)
	var err error
	if s.unit, err = x.unit(s.unit, v); err != nil {
		return fmt.Errorf("store vector %q: %w", id, err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.rows.n >= expanded-rowGroup {
		return fmt.Errorf("store vector %q: the index is full: %w", id, tune.ErrOutOfRange)
	}
	if x.rows.put(id, s.unit) {
		x.maintain()
	}
	return nil
}

// Delete forgets id; see [Index].
func (x *Live) Delete(id string) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.rows.drop(id) {
		x.maintain()
	}
	return nil
}

func (x *Live) take() *scratch {
	if s, ok := x.scratch.Get().(*scratch); ok {
		return s
	}
	return &scratch{}
}

// Search gives the k nearest; see [Index].
func (x *Live) Search(q []float32, k int, keep func(id string) bool) ([]Match, error) {
	s := x.take()
	defer x.scratch.Put(s)
	var err error
	if s.unit, err = x.unit(s.unit, q); err != nil {
		return nil, fmt.Errorf("search vectors: %w", err)
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	r := x.rows
	if k = min(k, r.live); k <= 0 {
		return nil, nil
	}
	s.prepare(x.width, k)
	wanted, from := r.filter(keep), 0
	if x.walker != nil && x.walk(s, k, wanted, keep != nil) {
		from = x.walker.size()
	}
	r.scan(s, from, r.n, wanted)
	hits := s.pick.nearest(&r.view, s.unit)
	out := make([]Match, len(hits))
	for i, h := range hits {
		out[i] = Match{r.ids[h.slot], h.distance}
	}
	return out, nil
}

// walk offers the walker's candidates. It reports false, with nothing offered, when a scan is
// cheaper or when the walk met too few wanted rows to be trusted.
func (x *Live) walk(s *scratch, k int, wanted func(slot uint32) bool, filtered bool) bool {
	width := x.plan.widthFor(k, x.rows.share(wanted, filtered), x.cost, x.walker.size())
	if width == 0 {
		return false
	}
	enough := k
	if filtered {
		enough = 2 * k
	}
	if _, err := x.walker.walk(s, width); err == nil && s.offerPool(&x.rows.view, x.walker, wanted) >= enough {
		return true
	}
	s.pick.reset(k, s.pick.qslack)
	return false
}

// filterSample is how many rows are asked to guess how selective a filter is.
const filterSample = 256

// filter gives the test of a slot; nil: every slot is wanted.
func (r *rows) filter(keep func(id string) bool) func(slot uint32) bool {
	switch {
	case keep != nil:
		return func(slot uint32) bool { return !r.dead[slot] && keep(r.ids[slot]) }
	case r.live < r.n:
		return func(slot uint32) bool { return !r.dead[slot] }
	}
	return nil
}

// share is about which part of the slots is wanted.
func (r *rows) share(wanted func(slot uint32) bool, filtered bool) float64 {
	if !filtered {
		return float64(r.live) / float64(r.n)
	}
	sample, passed := min(filterSample, r.n), 0
	for i := range sample {
		if wanted(uint32(i * r.n / sample)) {
			passed++
		}
	}
	return float64(passed) / float64(sample)
}

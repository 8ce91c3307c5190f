package vector

import (
	"fmt"

	"semantos/internal/tune"
)

// Index finds the stored vectors nearest to a query. Every method may be called at any time from any
// goroutine.
type Index interface {
	// Upsert stores v under id in place of what id had. It copies v. Refused, and nothing stored: an
	// empty id, a wrong dimension (tune.ErrType), NaN, Inf or all zeros (tune.ErrOutOfRange).
	Upsert(id string, v []float32) error
	// Delete forgets id; an unknown id is no error.
	Delete(id string) error
	// Search gives the k nearest of the stored vectors that keep accepts (nil: all), nearest first,
	// equal distances by ID. k <= 0 or an empty index: no matches. keep must not call the index.
	Search(q []float32, k int, keep func(id string) bool) ([]Match, error)
	// Len is the number of stored vectors.
	Len() int
	// Dim is the dimension all of them have.
	Dim() int
}

// Match is one answer.
type Match struct {
	ID       string
	Distance float32 // cosine distance: 0 same direction, 1 at right angles, 2 opposite
}

// Kinds of index.
const (
	KindAuto  = "auto"  // exact while it is small, a graph where that is measured to be cheaper
	KindExact = "exact" // every row is scored
	KindGraph = "graph" // a graph from graphFrom rows on
	KindCoder = "coder" // coder/hnsw, for comparison
)

const (
	// autoFrom is the size at which a graph walk begins to beat a scan (docs/vector-index.md).
	autoFrom = 30000
	// graphFrom is where the kinds that ask for a graph begin to build one.
	graphFrom = 256
)

// Config says what to build.
type Config struct {
	Dim  int    // elements of every vector
	Kind string // one of the kinds; empty is KindAuto
}

// New gives an empty index. It owns no goroutine while nothing is being built; Close ends what is.
func New(cfg Config) (*Live, error) { return newLive(cfg, detect()) }

func newLive(cfg Config, kern kernels) (*Live, error) {
	if cfg.Dim < 1 || cfg.Dim > maxDim {
		return nil, fmt.Errorf("make vector index: dimension %d is not between 1 and %d: %w", cfg.Dim, maxDim, tune.ErrOutOfRange)
	}
	x := &Live{rows: newRows(kern, cfg.Dim), width: padWidth(cfg.Dim), dim: cfg.Dim, cost: walkCost}
	switch cfg.Kind {
	case KindAuto, "":
		x.empty, x.from = func() walker { return newGraph() }, autoFrom
	case KindExact:
	case KindGraph:
		x.empty, x.from = func() walker { return newGraph() }, graphFrom
	case KindCoder:
		// Whoever selects this kind wants it whatever it costs.
		x.empty, x.from, x.cost = func() walker { return newCoder() }, graphFrom, 0
	default:
		return nil, fmt.Errorf("make vector index: kind %q (auto, exact, graph or coder): %w", cfg.Kind, tune.ErrUnknown)
	}
	return x, nil
}

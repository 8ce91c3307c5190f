package graph

import (
	"math"
	"time"

	"semantos/internal/tune"
)

// DailyDecay is what one day leaves of learned evidence.
const DailyDecay = 0.98

// SeedStrength is how many observations the seed of an edge counts as: learning has to outweigh it.
const SeedStrength = 8

// EvidenceAt is how many observations are left of an edge's evidence at a moment. A documented edge
// keeps its evidence; a clock that went back does not make it grow.
func EvidenceAt(e tune.Edge, at time.Time) float64 {
	if e.Documented || e.Updated.IsZero() || !at.After(e.Updated) {
		return e.Evidence
	}
	return e.Evidence * math.Pow(DailyDecay, at.Sub(e.Updated).Hours()/24)
}

// WeightAt is an edge's weight at a moment: the mean of seed and observations, the seed counting as
// SeedStrength of them. With no evidence left it is the seed.
func WeightAt(e tune.Edge, at time.Time) float64 {
	n := EvidenceAt(e, at)
	return (SeedStrength*e.Seed + n*e.Learned) / (SeedStrength + n)
}

// At gives the edge as it reads at a moment: Weight, Evidence and Updated brought forward.
func At(e tune.Edge, at time.Time) tune.Edge {
	e.Weight, e.Evidence = WeightAt(e, at), EvidenceAt(e, at)
	if at.After(e.Updated) && !e.Updated.IsZero() {
		e.Updated = at
	}
	return e
}

// RetiredFor is how long a retired edge is followed no more, counted from what moved it last: by then five
// sixths of the evidence against it have faded, and it may be tried again.
const RetiredFor = 90 * 24 * time.Hour

// Resting tells whether an edge is retired at a moment. A documented edge never is; a zero time takes the
// edge as it stands.
func Resting(e tune.Edge, at time.Time) bool {
	return e.Retired && !e.Documented && (at.IsZero() || at.Sub(e.Updated) < RetiredFor)
}

package embed

import (
	"context"
	"fmt"
	"math"

	"semantos/internal/tune"
)

// Embedder turns texts into vectors of unit length, one for each, in their order.
//
// Name tells embedders apart whose vectors cannot be compared ("static-minilm-256",
// "ollama/nomic-embed-text"): one index per name. Dim is the length of a vector; 0 while a service has
// not told it yet. Embed fails as a whole: a text without a direction (empty, or of unknown signs only)
// is [tune.ErrUsage], a service that cannot be reached or answers nonsense [tune.ErrNoData] or
// [tune.ErrCorrupt], and a cancelled context its own error.
type Embedder interface {
	Name() string
	Dim() int
	Embed(ctx context.Context, texts []string) ([][]float32, error)
}

// emptyText is the error of a text that has no direction.
func emptyText(i int) error {
	return &tune.Error{
		Op: "embed text", Subject: fmt.Sprintf("number %d", i+1),
		Err:  fmt.Errorf("no word of it is known: %w", tune.ErrUsage),
		Hint: "use words or numbers",
	}
}

// unit scales v to length 1 in place. It reports false for a vector without a direction: zero, NaN or
// infinite.
func unit(v []float32) bool {
	sum := 0.0
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	if !(sum > 0) || math.IsInf(sum, 0) {
		return false
	}
	scale := 1 / math.Sqrt(sum)
	for i, x := range v {
		v[i] = float32(float64(x) * scale)
	}
	return true
}

package embed

import (
	"context"
	_ "embed" // the table
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"semantos/internal/tune"
)

//go:embed static.bin
var staticTable string

// staticMagic opens the table. Then, little endian: uint32 tokens, dim, bytes of names; the names, one a
// line; a float32 scale per token; dim int8 per token.
const (
	staticMagic  = "SEMEMB01"
	staticHeader = len(staticMagic) + 12
)

// maxTextBytes is how much of a text is read: more than any catalogue text or question has.
const maxTextBytes = 64 << 10

// Static embeds with the table distilled from all-MiniLM-L6-v2: the mean of the tokens' vectors. It is
// immutable and safe for concurrent use.
type Static struct {
	dim     int
	tokens  vocabulary
	scales  []float32
	vectors string // int8, one row of dim per token
}

// NewStatic reads the table inside the binary.
func NewStatic() (*Static, error) { return parseStatic(staticTable) }

func parseStatic(data string) (*Static, error) {
	corrupt := func(what string) error {
		return fmt.Errorf("read embedding table: %s: %w", what, tune.ErrCorrupt)
	}
	if len(data) < staticHeader || !strings.HasPrefix(data, staticMagic) {
		return nil, corrupt("not a table")
	}
	field := func(i int) int { return int(binary.LittleEndian.Uint32([]byte(data[len(staticMagic)+4*i:]))) }
	n, dim, names := field(0), field(1), field(2)
	if n < 1 || dim < 1 || dim > 4096 || len(data) != staticHeader+names+4*n+n*dim {
		return nil, corrupt("its length does not fit its header")
	}
	words := strings.Split(data[staticHeader:staticHeader+names], "\n")
	if len(words) != n {
		return nil, corrupt(fmt.Sprintf("%d names for %d tokens", len(words), n))
	}
	s := &Static{dim: dim, tokens: newVocabulary(words), scales: make([]float32, n)}
	rest := data[staticHeader+names:]
	for i := range s.scales {
		s.scales[i] = math.Float32frombits(binary.LittleEndian.Uint32([]byte(rest[4*i : 4*i+4])))
	}
	s.vectors = rest[4*n:]
	return s, nil
}

// Name tells the table's dimension, so that an index of another table is not mixed with it.
func (s *Static) Name() string { return fmt.Sprintf("static-minilm-%d", s.dim) }

// Dim is the length of a vector.
func (s *Static) Dim() int { return s.dim }

// Embed gives the mean of each text's token vectors, scaled to length 1. Signs the vocabulary does not
// have are left out; a text of which nothing is left is [tune.ErrUsage]. Only the first 64 KiB count.
func (s *Static) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	out := make([][]float32, len(texts))
	for i, text := range texts {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("embed text: %w", err)
		}
		v := make([]float32, s.dim)
		for _, id := range s.tokens.tokenize(text[:min(len(text), maxTextBytes)]) {
			if id >= 0 {
				s.add(v, int(id))
			}
		}
		if !unit(v) {
			return nil, emptyText(i)
		}
		out[i] = v
	}
	return out, nil
}

func (s *Static) add(v []float32, id int) {
	scale, row := s.scales[id], s.vectors[id*s.dim:(id+1)*s.dim]
	for i := range v {
		v[i] += scale * float32(int8(row[i]))
	}
}

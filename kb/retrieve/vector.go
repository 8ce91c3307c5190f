package retrieve

import (
	"context"
	"fmt"
	"strings"

	"semantos/kb/embed"
)

// batch is how many passages go to an embedder at once.
const batch = 256

// meanings holds a unit vector for every passage of every document. The nearest are found by an exact
// scan: a few thousand passages take a few hundred microseconds.
type meanings struct {
	embedder embed.Embedder
	vectors  []float32 // rows of dim
	owner    []int     // document of each row
	dim      int
	docs     int
}

// Passages are the texts by which a document is found: its name in words with the title, the rest of
// what describes it, and each saying.
func Passages(d Doc) []string {
	out := []string{joined(spaced(d.ID), d.Title)}
	if d.Text != "" {
		out = append(out, joined(d.Title, d.Text))
	}
	return append(out, d.Asked...)
}

// spaced writes a name as words.
func spaced(id string) string {
	return strings.Join(strings.FieldsFunc(id, func(r rune) bool { return strings.ContainsRune("./_-{}", r) }), " ")
}

func newMeanings(ctx context.Context, docs []Doc, e embed.Embedder) (*meanings, error) {
	m := &meanings{embedder: e, docs: len(docs)}
	var texts []string
	for i, d := range docs {
		for _, p := range Passages(d) {
			texts = append(texts, p)
			m.owner = append(m.owner, i)
		}
	}
	for len(texts) > 0 {
		n := min(batch, len(texts))
		vectors, err := e.Embed(ctx, texts[:n])
		if err != nil {
			return nil, fmt.Errorf("embed documents: %w", err)
		}
		for _, v := range vectors {
			m.dim = len(v)
			m.vectors = append(m.vectors, v...)
		}
		texts = texts[n:]
	}
	return m, nil
}

// score gives for each document the cosine of its nearest passage, in [-1,1].
func (m *meanings) score(ctx context.Context, text string) ([]float64, error) {
	found, err := m.embedder.Embed(ctx, []string{text})
	if err != nil {
		return nil, fmt.Errorf("embed question: %w", err)
	}
	q := found[0]
	scores := make([]float64, m.docs)
	for i := range scores {
		scores[i] = -1
	}
	for row, doc := range m.owner {
		if s := float64(dot(q, m.vectors[row*m.dim:(row+1)*m.dim])); s > scores[doc] {
			scores[doc] = s
		}
	}
	return scores, nil
}

// dot adds in four lanes, so that one addition need not wait for the one before.
func dot(a, b []float32) float32 {
	var s0, s1, s2, s3 float32
	b = b[:len(a)]
	i := 0
	for ; i+4 <= len(a); i += 4 {
		s0 += a[i] * b[i]
		s1 += a[i+1] * b[i+1]
		s2 += a[i+2] * b[i+2]
		s3 += a[i+3] * b[i+3]
	}
	for ; i < len(a); i++ {
		s0 += a[i] * b[i]
	}
	return s0 + s1 + s2 + s3
}

package retrieve

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"semantos/internal/tune"
	"semantos/kb/embed"
)

// Ranker is a way to order documents for a question.
type Ranker string

// The four rankers.
const (
	Keyword Ranker = "keyword"
	Vector  Ranker = "vector"
	Graph   Ranker = "graph"
	Fused   Ranker = "fused"
)

// maxQuestion bounds a question in bytes: a log line or a paragraph, not a file.
const maxQuestion = 8 << 10

// Hit is one found document. Score orders the hits of one answer and is comparable only within it. Why
// says in words what matched.
type Hit struct {
	ID    string  `json:"name"`
	Kind  string  `json:"kind"`
	Score float64 `json:"score"`
	Why   string  `json:"why"`
}

// Index holds documents ready to be searched. It is immutable and safe for concurrent use.
type Index struct {
	weights weights
	docs    []Doc
	ids     []string
	words   *keywords
	near    *meanings // nil without an embedder
	graph   *graph
}

// New indexes docs. Without an embedder (nil) there is no ranking by meaning; neighbours gives the
// edges of a document or of a node between documents, nil for none. ctx bounds the embedding.
func New(ctx context.Context, docs []Doc, embedder embed.Embedder, neighbours func(id string) []Weighted) (*Index, error) {
	return newIndex(ctx, chosen(), docs, embedder, neighbours)
}

func newIndex(ctx context.Context, w weights, docs []Doc, embedder embed.Embedder, neighbours func(id string) []Weighted) (*Index, error) {
	list, err := loadWords()
	if err != nil {
		return nil, err
	}
	x := &Index{weights: w, docs: docs}
	seen := map[string]bool{}
	for _, d := range docs {
		if d.ID == "" || seen[d.ID] {
			return nil, fmt.Errorf("index document %q: empty or doubled id: %w", d.ID, tune.ErrUsage)
		}
		seen[d.ID] = true
		x.ids = append(x.ids, d.ID)
	}
	if neighbours == nil {
		neighbours = func(string) []Weighted { return nil }
	}
	x.words, x.graph = newKeywords(w, newLanguage(list), docs), newGraph(w.Decay, docs, neighbours)
	if embedder != nil && len(docs) > 0 {
		if x.near, err = newMeanings(ctx, docs, embedder); err != nil {
			return nil, err
		}
	}
	return x, nil
}

// Len is the number of documents.
func (x *Index) Len() int { return len(x.docs) }

// Search gives the k best documents by the fused ranking, best first; equal ones in the order of their
// ids. No match is no error. When the embedder fails, words and graph answer alone and every Why says so.
func (x *Index) Search(ctx context.Context, question string, k int) ([]Hit, error) {
	return x.SearchBy(ctx, Fused, question, k)
}

// SearchBy is Search with one ranker. [Vector] gives the embedder's error instead of going on without.
func (x *Index) SearchBy(ctx context.Context, by Ranker, question string, k int) ([]Hit, error) {
	if err := checkQuestion(question, k); err != nil {
		return nil, err
	}
	f := found{terms: x.words.question(question)}
	f.words = x.words.score(f.terms)
	if x.near != nil {
		f.near, f.failed = x.near.score(ctx, question)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("search: %w", err)
	}
	var list []ranked
	switch by {
	case Keyword:
		list = best(f.words, 0, k, x.ids)
	case Vector:
		if x.near == nil {
			return nil, fmt.Errorf("search by meaning without an embedder: %w", tune.ErrUnsupported)
		}
		if f.failed != nil && !errors.Is(f.failed, tune.ErrUsage) {
			return nil, f.failed
		}
		list = best(f.near, -1, k, x.ids)
	case Graph, Fused:
		list = x.fuse(&f, by, k)
	default:
		return nil, &tune.Error{Op: "search by", Subject: string(by), Err: tune.ErrUnknown, Hint: "keyword, vector, graph or fused"}
	}
	hits := make([]Hit, len(list))
	for i, r := range list {
		hits[i] = Hit{ID: x.ids[r.doc], Kind: x.docs[r.doc].Kind, Score: math.Round(r.score*1e6) / 1e6, Why: x.why(&f, r.doc)}
	}
	return hits, nil
}

func checkQuestion(question string, k int) error {
	switch {
	case strings.TrimSpace(question) == "":
		return &tune.Error{Op: "search", Err: fmt.Errorf("an empty question: %w", tune.ErrUsage), Hint: "say what you see, or name a tunable"}
	case len(question) > maxQuestion:
		return &tune.Error{Op: "search", Err: fmt.Errorf("a question of %d bytes: %w", len(question), tune.ErrUsage),
			Hint: fmt.Sprintf("at most %d bytes; give the line that matters", maxQuestion)}
	case k < 1:
		return fmt.Errorf("search for %d hits: %w", k, tune.ErrUsage)
	}
	return nil
}

// why says what of the question met the document: words, closeness in meaning, the edge it was reached by.
func (x *Index) why(f *found, doc int) string {
	var parts []string
	if words := x.words.matched(f.terms, doc, 5); len(words) > 0 {
		parts = append(parts, "words: "+strings.Join(words, ", "))
	}
	if f.near != nil {
		parts = append(parts, fmt.Sprintf("meaning %.2f", f.near[doc]))
	}
	if f.reached != nil && f.reached[doc].from >= 0 {
		parts = append(parts, f.reached[doc].says+" "+x.ids[f.reached[doc].from])
	}
	if f.failed != nil {
		parts = append(parts, "meaning not compared")
	}
	return strings.Join(parts, "; ")
}

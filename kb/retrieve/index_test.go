package retrieve

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"semantos/internal/tune"
	"semantos/kb/embed"
)

// small is an index whose answers can be worked out by hand.
func small(t testing.TB, e embed.Embedder) *Index {
	t.Helper()
	docs := []Doc{
		{ID: "a.queue", Kind: KindTunable, Title: "Length of the queue.", Text: "A short one drops."},
		{ID: "b.cache", Kind: KindTunable, Title: "Memory for files."},
		{ID: "c_symptom", Kind: KindSymptom, Title: "The queue is full.", Asked: []string{"visitors are turned away"}},
		{ID: "d.twin_b", Kind: KindTunable, Title: "Nothing special."},
		{ID: "d.twin_a", Kind: KindTunable, Title: "Nothing special."},
	}
	edges := []tune.Edge{
		{From: "c_symptom", Type: tune.Relieves, To: "b.cache", Weight: 1},
		{From: "a.queue", Type: tune.Affects, To: "some.signal", Weight: 1},
		{From: "d.twin_a", Type: tune.Affects, To: "some.signal", Weight: 1},
		{From: "a.queue", Type: tune.DependsOn, To: "d.twin_b", Weight: 1, Retired: true},
	}
	x, err := New(context.Background(), docs, e, Neighbours(edges))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func names(hits []Hit) []string {
	var out []string
	for _, h := range hits {
		out = append(out, h.ID)
	}
	return out
}

func ask(t testing.TB, x *Index, by Ranker, question string) []Hit {
	t.Helper()
	hits, err := x.SearchBy(context.Background(), by, question, 10)
	if err != nil {
		t.Fatal(err)
	}
	return hits
}

func TestKeyword(t *testing.T) {
	x := small(t, nil)
	for question, want := range map[string][]string{
		"queues":              {"a.queue", "c_symptom"}, // a name counts more than a title
		"the visitor":         {"c_symptom"},
		"of the and":          nil,
		"special":             {"d.twin_a", "d.twin_b"}, // equal scores: by id
		"viistors turned":     {"c_symptom"},            // a slip of the keys
		"twin_b":              {"d.twin_b", "d.twin_a"}, // the whole name counts beside its parts
		"nobodyhasthisword x": nil,
	} {
		if got := names(ask(t, x, Keyword, question)); !slices.Equal(got, want) {
			t.Errorf("%q finds %v, want %v", question, got, want)
		}
	}
}

// TestGraph: neighbours of what matched are found, over a relief and over a signal both move, and Why
// names the edge; a retired edge carries nothing.
func TestGraph(t *testing.T) {
	x := small(t, nil)
	hits := ask(t, x, Graph, "visitors turned away")
	if got := names(hits); !slices.Equal(got, []string{"b.cache"}) {
		t.Fatalf("found %v", got)
	}
	if want := "relieves c_symptom"; hits[0].Why != want {
		t.Errorf("why %q, want %q", hits[0].Why, want)
	}
	hits = ask(t, x, Graph, "a short one drops")
	if got := names(hits); !slices.Equal(got, []string{"d.twin_a"}) || hits[0].Why != "moves the same signal as a.queue" {
		t.Errorf("found %v", hits)
	}
}

func TestFusedSaysWhy(t *testing.T) {
	static, err := embed.NewStatic()
	if err != nil {
		t.Fatal(err)
	}
	hits := ask(t, small(t, static), Fused, "visitors are turned away")
	if hits[0].ID != "c_symptom" || !strings.HasPrefix(hits[0].Why, "words: ") ||
		!strings.Contains(hits[0].Why, "visitor") || !strings.Contains(hits[0].Why, "; meaning 1.00") {
		t.Errorf("first is %+v", hits[0])
	}
	for i := 1; i < len(hits); i++ {
		if hits[i].Score > hits[i-1].Score {
			t.Errorf("hit %d scores more than the one before", i)
		}
	}
}

func TestQuestionsRefused(t *testing.T) {
	x := small(t, nil)
	for _, c := range []struct {
		question string
		by       Ranker
		k        int
		want     error
	}{
		{"", Fused, 3, tune.ErrUsage}, {" \n", Fused, 3, tune.ErrUsage}, {"queue", Fused, 0, tune.ErrUsage},
		{strings.Repeat("queue ", 5000), Fused, 3, tune.ErrUsage}, {"queue", "best", 3, tune.ErrUnknown},
		{"queue", Vector, 3, tune.ErrUnsupported},
	} {
		if _, err := x.SearchBy(context.Background(), c.by, c.question, c.k); !errors.Is(err, c.want) {
			t.Errorf("%.20q by %s, %d: %v, want %v", c.question, c.by, c.k, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := x.Search(ctx, "queue", 3); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestDocumentsRefused(t *testing.T) {
	for _, docs := range [][]Doc{{{ID: ""}}, {{ID: "x"}, {ID: "x"}}} {
		if _, err := New(context.Background(), docs, nil, nil); !errors.Is(err, tune.ErrUsage) {
			t.Errorf("%v: %v", docs, err)
		}
	}
	x, err := New(context.Background(), nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if hits, err := x.Search(context.Background(), "queue", 3); err != nil || len(hits) != 0 {
		t.Errorf("no documents: %v, %v", hits, err)
	}
}

// failing embeds documents, and fails at the first question.
type failing struct {
	embed.Embedder
	documents bool
	err       error
}

func (f *failing) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	if f.documents {
		return nil, f.err
	}
	f.documents = true
	return f.Embedder.Embed(ctx, texts)
}

// TestEmbedderLost: a service that fails leaves words and graph, and the answer says so.
func TestEmbedderLost(t *testing.T) {
	static, err := embed.NewStatic()
	if err != nil {
		t.Fatal(err)
	}
	lost := fmt.Errorf("the service is away: %w", tune.ErrNoData)
	x := small(t, &failing{Embedder: static, err: lost})
	hits := ask(t, x, Fused, "visitors turned away")
	if len(hits) < 2 || hits[0].ID != "c_symptom" || !strings.Contains(hits[0].Why, "meaning not compared") {
		t.Errorf("without the service: %+v", hits)
	}
	if _, err := x.SearchBy(context.Background(), Vector, "visitors", 3); !errors.Is(err, tune.ErrNoData) {
		t.Errorf("by vector alone: %v", err)
	}
	if _, err := New(context.Background(), x.docs, &failing{documents: true, err: lost}, nil); !errors.Is(err, tune.ErrNoData) {
		t.Errorf("documents cannot be embedded: %v", err)
	}
}

// TestSameAnswerAlways: many readers at once get one answer, and another order of documents the same.
func TestSameAnswerAlways(t *testing.T) {
	docs, edges := shipped(t)
	x := index(t)
	slices.Reverse(docs)
	y, err := New(context.Background(), docs, x.near.embedder, Neighbours(edges))
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for _, q := range questions(t, "tune")[:20] {
		want := ask(t, x, Fused, q.Question)
		if got := ask(t, y, Fused, q.Question); !slices.Equal(names(got), names(want)) {
			t.Errorf("%q: documents in another order give %v, not %v", q.Question, names(got), names(want))
		}
		all.Go(func() {
			if got, err := x.Search(context.Background(), q.Question, 10); err != nil || !slices.Equal(got, want) {
				t.Errorf("%q: another answer at once with others: %v", q.Question, err)
			}
		})
	}
	all.Wait()
}

func TestStem(t *testing.T) {
	for _, group := range [][]string{
		{"drop", "drops", "dropped", "dropping"}, {"queue", "queues", "queued"}, {"retry", "retries", "retried"},
		{"cache", "caches", "cached", "caching"}, {"stall", "stalls", "stalled"}, {"reset", "resets", "resetting"},
	} {
		for _, w := range group[1:] {
			if stem(w) != stem(group[0]) {
				t.Errorf("%s is cut to %s, %s to %s", w, stem(w), group[0], stem(group[0]))
			}
		}
	}
	for _, w := range []string{"bus", "class", "tcp", "x", "is", "4096", "ring"} {
		if stem(w) != w {
			t.Errorf("%s is cut to %s", w, stem(w))
		}
	}
}

func BenchmarkSearch(b *testing.B) {
	x := index(b)
	for b.Loop() {
		if _, err := x.Search(context.Background(), "connections reset when traffic spikes", 10); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		index(b)
	}
}

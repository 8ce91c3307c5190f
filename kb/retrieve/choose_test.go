package retrieve

import (
	"context"
	"os"
	"testing"
)

// TestChooseWeights looks for better weights on the tuning part: one number after another, by a few
// factors, until none helps. It prints what it finds; a person writes it to weights.go. TUNE=1 runs it.
func TestChooseWeights(t *testing.T) {
	if os.Getenv("TUNE") == "" {
		t.Skip("TUNE=1 runs it")
	}
	x, qs := index(t), questions(t, "tune")
	near := make([][]float64, len(qs))
	for i, q := range qs {
		var err error
		if near[i], err = x.near.score(context.Background(), q.Question); err != nil {
			t.Fatal(err)
		}
	}
	list, err := loadWords()
	if err != nil {
		t.Fatal(err)
	}
	lang := newLanguage(list)
	value := func(w weights) (total float64, sum quality) {
		y := *x
		y.weights, y.words = w, newKeywords(w, lang, x.docs)
		y.graph = &graph{decay: w.Decay, docs: x.graph.docs, names: x.graph.names, links: x.graph.links}
		for i, q := range qs {
			var hits []Hit
			for _, r := range y.fuse(&found{words: y.words.score(y.words.question(q.Question)), near: near[i]}, Fused, 10) {
				hits = append(hits, Hit{ID: y.ids[r.doc]})
			}
			gain, hit := judge(hits, q.Grades)
			sum.ndcg += gain / float64(len(qs))
			if hit {
				sum.hit += 1 / float64(len(qs))
			}
		}
		return sum.ndcg + sum.hit/4, sum
	}
	w := chosen()
	best, reached := value(w)
	for better := true; better; {
		better = false
		for _, field := range []*float64{&w.Keyword, &w.Vector, &w.Graph, &w.Offset, &w.Decay, &w.Name, &w.Title, &w.Text,
			&w.Asked, &w.Saturation, &w.LengthPart, &w.SameMeaning, &w.Misspelt} {
			kept := *field
			for _, factor := range []float64{0.5, 0.8, 1.25, 2} {
				*field = kept * factor
				if got, sum := value(w); got > best+0.0005 {
					best, reached, better = got, sum, true
					kept = *field
					break
				}
				*field = kept
			}
		}
	}
	t.Logf("nDCG@10 %.3f, hit@3 %.3f with %+v", reached.ndcg, reached.hit, w)
}

package retrieve

import (
	"context"
	"os"
	"testing"
)

// half is one of the two indexes the weights are chosen on.
type half struct {
	index *Index
	lang  language
	near  [][]float64 // per question
}

// value is what is made best: nDCG@10 and a quarter of hit@3.
func (h half) value(w weights, qs []question) (total float64, sum quality) {
	y := *h.index
	y.weights, y.words = w, newKeywords(w, h.lang, y.docs)
	y.graph = &graph{decay: w.Decay, docs: h.index.graph.docs, names: h.index.graph.names, links: h.index.graph.links}
	for i, q := range qs {
		var hits []Hit
		for _, r := range y.fuse(&found{words: y.words.score(y.words.question(q.Question)), near: h.near[i]}, Fused, 10) {
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

// TestChooseWeights looks for better weights on the tuning part: one number after another, by a few
// factors, until none helps. What counts is the mean over two indexes, with the sayings and without: the
// sayings and the questions have one author, and weights chosen with the sayings alone trust them more
// than a stranger's question deserves. It prints what it finds; a person writes it to weights.go.
func TestChooseWeights(t *testing.T) {
	if os.Getenv("TUNE") == "" {
		t.Skip("TUNE=1 runs it")
	}
	list, err := loadWords()
	if err != nil {
		t.Fatal(err)
	}
	qs := questions(t, "tune")
	with := index(t)
	var halves []half
	for _, x := range []*Index{with, bare(t, with)} {
		h := half{index: x, lang: newLanguage(list)}
		for _, q := range qs {
			near, err := x.near.score(context.Background(), q.Question)
			if err != nil {
				t.Fatal(err)
			}
			h.near = append(h.near, near)
		}
		halves = append(halves, h)
	}
	value := func(w weights) (float64, [2]quality) {
		a, with := halves[0].value(w, qs)
		b, without := halves[1].value(w, qs)
		return (a + b) / 2, [2]quality{with, without}
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
	t.Logf("with and without sayings %+.3f with %+v", reached, w)
}

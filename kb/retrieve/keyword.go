package retrieve

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// posting is how often a term stands in a document, fields weighed.
type posting struct {
	doc   int
	count float64
}

// keywords ranks by BM25 over weighted fields.
type keywords struct {
	weights  weights
	lang     language
	postings map[string][]posting
	norm     []float64 // per document: k1 (1 - b + b length/mean)
	known    []string  // all words, sorted, for misspelt ones
}

func newKeywords(w weights, lang language, docs []Doc) *keywords {
	k := &keywords{weights: w, lang: lang, postings: map[string][]posting{}, norm: make([]float64, len(docs))}
	total := 0.0
	for i, d := range docs {
		counts := map[string]float64{}
		put := func(text string, weight float64) {
			for _, term := range lang.terms(text) {
				counts[term] += weight
				k.norm[i] += weight
			}
		}
		put(d.ID, w.Name)
		put(d.Title, w.Title)
		put(d.Text, w.Text)
		for _, a := range d.Asked {
			put(a, w.Asked)
		}
		total += k.norm[i]
		for term, n := range counts {
			k.postings[term] = append(k.postings[term], posting{i, n})
		}
	}
	for i := range k.norm {
		k.norm[i] = w.Saturation * (1 - w.LengthPart + w.LengthPart*k.norm[i]*float64(len(docs))/max(total, 1))
	}
	for term := range k.postings {
		if len(term) >= 4 && !strings.Contains(term, "_") {
			k.known = append(k.known, term)
		}
	}
	slices.Sort(k.known)
	return k
}

// wanted is one term of a question, and what it counts.
type wanted struct {
	term   string
	weight float64
}

// question gives the terms to look for, each once; a word no document has stands for its likely spelling.
func (k *keywords) question(text string) []wanted {
	var out []wanted
	seen := map[string]bool{}
	add := func(term string, weight float64) {
		if !seen[term] {
			seen[term] = true
			out = append(out, wanted{term, weight})
		}
	}
	unknown := map[string]string{}
	for _, term := range k.lang.terms(text) {
		switch {
		case strings.HasPrefix(term, "="):
			add(term, k.weights.SameMeaning)
		case k.postings[term] != nil:
			add(term, 1)
		default:
			if near := respell(term, k.known); near != "" {
				unknown[term] = near
			}
		}
	}
	if len(unknown) == 0 {
		return out
	}
	words := split(text)
	for i, w := range words {
		if near := unknown[stem(w)]; near != "" {
			words[i] = near
		}
	}
	for _, term := range k.lang.terms(strings.Join(words, " ")) {
		add(term, k.weights.Misspelt)
	}
	return out
}

// score gives each document's score for the terms of a question.
func (k *keywords) score(terms []wanted) []float64 {
	scores := make([]float64, len(k.norm))
	for _, q := range terms {
		list := k.postings[q.term]
		for _, p := range list {
			scores[p.doc] += q.weight * k.rarity(len(list)) * p.count * (k.weights.Saturation + 1) / (p.count + k.norm[p.doc])
		}
	}
	return scores
}

func (k *keywords) rarity(found int) float64 {
	return math.Log(1 + (float64(len(k.norm)-found)+0.5)/(float64(found)+0.5))
}

// matched names up to n of the terms that a document has, the rarest first; meanings are left
// out, since they have no word of their own.
func (k *keywords) matched(terms []wanted, doc, n int) []string {
	type match struct {
		word string
		rare int
	}
	var found []match
	for _, q := range terms {
		list := k.postings[q.term]
		at, ok := slices.BinarySearchFunc(list, doc, func(p posting, d int) int { return cmp.Compare(p.doc, d) })
		if ok && list[at].count > 0 && !strings.HasPrefix(q.term, "=") {
			found = append(found, match{q.term, len(list)})
		}
	}
	slices.SortStableFunc(found, func(a, b match) int { return cmp.Compare(a.rare, b.rare) })
	var out []string
	for _, m := range found[:min(n, len(found))] {
		out = append(out, m.word)
	}
	return out
}

package cli

import (
	"math"
	"sort"
	"strings"
	"unicode"

	"semantos/internal/tune"
)

// hit is one answer of kb search.
type hit struct {
	Kind  string  `json:"kind"` // tunable or symptom
	Name  string  `json:"name"`
	Score float64 `json:"score"`
	Why   string  `json:"why"`
}

// passage is one thing that can be found: its name counts double.
type passage struct {
	kind, name, why string
	words           map[string]int
	length          int
}

// passages are the catalogue's tunables and the rules' symptoms.
func passages(tunables []*tune.Tunable, rules []tune.Rule) []passage {
	var out []passage
	for _, t := range tunables {
		out = append(out, newPassage("tunable", t.Name, t.Summary,
			t.Domain, t.Danger, strings.Join(t.Aliases, " "), strings.Join(t.Elements, " ")))
	}
	for _, r := range rules {
		text := []string{r.Resource, r.Says, r.When, strings.Join(r.Show, " ")}
		why := r.Says
		if len(r.Relief) > 0 {
			why = r.Relief[0].Why // a sentence without the numbers of a host
		}
		for _, relief := range r.Relief {
			text = append(text, relief.Why, relief.Expect)
			for _, c := range relief.Changes {
				text = append(text, c.Tunable)
			}
		}
		out = append(out, newPassage("symptom", r.Name, why, text...))
	}
	return out
}

func newPassage(kind, name, why string, rest ...string) passage {
	p := passage{kind: kind, name: name, why: why, words: map[string]int{}}
	for _, text := range append([]string{name, name, why}, rest...) {
		for _, w := range words(text) {
			p.words[w]++
			p.length++
		}
	}
	return p
}

func words(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}

// search ranks passages by BM25 (k1 1.2, b 0.75); equal scores stand in the order of their names.
func search(all []passage, query []string, limit int) []hit {
	mean := 0.0
	for _, p := range all {
		mean += float64(p.length) / float64(len(all))
	}
	scores := make([]float64, len(all))
	for _, word := range words(strings.Join(query, " ")) {
		found := 0
		for _, p := range all {
			if p.words[word] > 0 {
				found++
			}
		}
		rarity := math.Log(1 + (float64(len(all)-found)+0.5)/(float64(found)+0.5))
		for i, p := range all {
			n := float64(p.words[word])
			scores[i] += rarity * n * 2.2 / (n + 1.2*(0.25+0.75*float64(p.length)/mean))
		}
	}
	hits := []hit{}
	for i, p := range all {
		if scores[i] > 0 {
			hits = append(hits, hit{Kind: p.kind, Name: p.name, Score: math.Round(scores[i]*1000) / 1000, Why: p.why})
		}
	}
	sort.SliceStable(hits, func(i, j int) bool {
		if hits[i].Score != hits[j].Score {
			return hits[i].Score > hits[j].Score
		}
		return hits[i].Name < hits[j].Name
	})
	return hits[:min(limit, len(hits))]
}

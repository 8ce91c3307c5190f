package retrieve

import (
	"regexp"
	"strings"

	"semantos/internal/tune"
)

// Kinds of documents.
const (
	KindTunable = "tunable"
	KindSymptom = "symptom"
)

// Doc is one thing that can be found. ID is unique over all kinds and its parts count as words; Title
// is one sentence that says what it is; Text all else that describes it; Asked what people say or see
// when they mean it, one saying each.
type Doc struct {
	ID, Kind, Title, Text string
	Asked                 []string
}

// Documents gives a document for every tunable and symptom, in this order, with the sayings of
// words.yaml.
func Documents(tunables []*tune.Tunable, rules []tune.Rule) ([]Doc, error) {
	w, err := loadWords()
	if err != nil {
		return nil, err
	}
	docs := make([]Doc, 0, len(tunables)+len(rules))
	for _, t := range tunables {
		docs = append(docs, Doc{
			ID: t.Name, Kind: KindTunable, Title: t.Summary, Asked: w.Asked[t.Name],
			Text: joined(t.Danger, strings.Join(t.Aliases, " "), strings.Join(t.Elements, " "), strings.Join(t.Values, " ")),
		})
	}
	for _, r := range rules {
		docs = append(docs, symptom(r, w.Asked[r.Name]))
	}
	return docs, nil
}

func symptom(r tune.Rule, asked []string) Doc {
	d := Doc{ID: r.Name, Kind: KindSymptom, Title: plain(r.Says), Asked: asked}
	parts := []string{r.Resource}
	for _, relief := range r.Relief {
		parts = append(parts, relief.Why, relief.Expect)
		for _, c := range relief.Changes {
			parts = append(parts, c.Tunable)
		}
	}
	d.Text = joined(append(parts, strings.Join(r.Show, " "))...)
	return d
}

// placeholder is what a rule's sentence fills in from the host.
var placeholder = regexp.MustCompile(`\{[^{}]*\}`)

func plain(says string) string {
	return strings.Join(strings.Fields(placeholder.ReplaceAllString(says, "")), " ")
}

func joined(parts ...string) string {
	kept := parts[:0:0]
	for _, p := range parts {
		if p != "" {
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, " ")
}

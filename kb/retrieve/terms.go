package retrieve

import (
	_ "embed" // words.yaml
	"fmt"
	"strings"
	"unicode"

	"gopkg.in/yaml.v3"

	"semantos/internal/tune"
)

//go:embed words.yaml
var wordsFile []byte

// wordList is words.yaml.
type wordList struct {
	Stop  []string            `yaml:"stop"`
	Same  [][]string          `yaml:"same"`  // sayings of one meaning, a group each
	Asked map[string][]string `yaml:"asked"` // document id to sayings
}

func loadWords() (wordList, error) {
	var w wordList
	d := yaml.NewDecoder(strings.NewReader(string(wordsFile)))
	d.KnownFields(true)
	if err := d.Decode(&w); err != nil {
		return wordList{}, fmt.Errorf("read words of retrieval: %w: %w", tune.ErrCorrupt, err)
	}
	return w, nil
}

// language cuts text into terms: stems without stop words, and a term "=n" for every saying of the n-th
// group of one meaning.
type language struct {
	stop    map[string]bool
	sayings map[string][]saying // by the first stem
}

type saying struct {
	stems []string
	term  string
}

func newLanguage(w wordList) language {
	l := language{stop: map[string]bool{}, sayings: map[string][]saying{}}
	for _, s := range w.Stop {
		l.stop[s] = true
	}
	for i, group := range w.Same {
		for _, text := range group {
			var stems []string
			for _, word := range split(text) {
				stems = append(stems, stem(word))
			}
			if len(stems) > 0 {
				l.sayings[stems[0]] = append(l.sayings[stems[0]], saying{stems, fmt.Sprintf("=%d", i)})
			}
		}
	}
	return l
}

// terms of a text; a meaning is given once for each saying of it.
func (l language) terms(text string) []string {
	words := split(text)
	stems := make([]string, len(words))
	for i, w := range words {
		stems[i] = stem(w)
	}
	var out []string
	for i, w := range words {
		for _, s := range l.sayings[stems[i]] {
			if begins(stems[i:], s.stems) {
				out = append(out, s.term)
			}
		}
		if !l.stop[w] && (len(w) > 1 || unicode.IsDigit(rune(w[0]))) {
			out = append(out, stems[i])
		}
	}
	return append(out, compounds(text)...)
}

// compounds are names written with joints (tcp_mem, read_ahead_kb), whole.
func compounds(text string) []string {
	var out []string
	for _, w := range strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '_' && r != '-'
	}) {
		if w = strings.Trim(w, "_-"); strings.ContainsAny(w, "_") {
			out = append(out, w)
		}
	}
	return out
}

func begins(stems, with []string) bool {
	if len(stems) < len(with) {
		return false
	}
	for i, s := range with {
		if stems[i] != s {
			return false
		}
	}
	return true
}

// split gives the lower-case words; a number behind letters stands apart too (kswapd0, cpu3).
func split(text string) []string {
	var out []string
	for _, w := range strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}) {
		if letters := strings.TrimRight(w, "0123456789"); len(letters) >= 3 && letters != w {
			w = letters
		}
		out = append(out, w)
	}
	return out
}

// stem takes the common endings off an English word, so that "dropped", "drops" and "dropping" meet.
func stem(w string) string {
	if len(w) < 4 || w[0] >= '0' && w[0] <= '9' {
		return w
	}
	switch {
	case strings.HasSuffix(w, "ies") && len(w) > 4:
		w = w[:len(w)-3] + "y"
	case strings.HasSuffix(w, "sses"), strings.HasSuffix(w, "xes"), strings.HasSuffix(w, "ches"), strings.HasSuffix(w, "shes"):
		w = w[:len(w)-2]
	case strings.HasSuffix(w, "s") && !strings.HasSuffix(w, "ss") && !strings.HasSuffix(w, "us") && !strings.HasSuffix(w, "is"):
		w = w[:len(w)-1]
	}
	for _, end := range []string{"ing", "ed"} {
		if base, ok := strings.CutSuffix(w, end); ok && len(base) >= 3 && strings.ContainsAny(base, "aeiouy") {
			if n := len(base); base[n-1] == base[n-2] && !strings.ContainsRune("lsz", rune(base[n-1])) {
				base = base[:n-1]
			}
			w = base
			break
		}
	}
	if len(w) > 4 {
		w = strings.TrimSuffix(w, "e")
	}
	if len(w) > 3 && w[len(w)-1] == 'y' {
		w = w[:len(w)-1] + "i"
	}
	return w
}

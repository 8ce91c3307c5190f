package embed

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// unknownToken stands for a word none of whose cuts is in the vocabulary.
const unknownToken int32 = -1

// maxWordRunes: a longer word is unknown as a whole, as in the model's own tokenizer.
const maxWordRunes = 100

// vocabulary cuts text as BERT's uncased WordPiece does. Pieces that continue a word stand in a map of
// their own, without their "##".
type vocabulary struct {
	first, rest map[string]int32
	longest     int // bytes of the longest piece
}

func newVocabulary(words []string) vocabulary {
	v := vocabulary{first: make(map[string]int32, len(words)), rest: make(map[string]int32, len(words)/4)}
	for i, w := range words {
		if piece, ok := strings.CutPrefix(w, "##"); ok && piece != "" {
			v.rest[piece] = int32(i)
			w = piece
		} else {
			v.first[w] = int32(i)
		}
		v.longest = max(v.longest, len(w))
	}
	return v
}

// tokenize gives the token of every piece of text, [unknownToken] for a word that cannot be cut.
func (v vocabulary) tokenize(text string) []int32 {
	out := make([]int32, 0, len(text)/4+4)
	words(normalize(text), func(word string) { out = v.cut(out, word) })
	return out
}

// cut takes the longest known piece from the left, again and again.
func (v vocabulary) cut(out []int32, word string) []int32 {
	if len(word) > maxWordRunes && utf8.RuneCountInString(word) > maxWordRunes {
		return append(out, unknownToken)
	}
	mark, pieces := len(out), v.first
	for word != "" {
		end := min(len(word), v.longest)
		id, ok := pieces[word[:end]]
		for !ok && end > 1 {
			end--
			id, ok = pieces[word[:end]]
		}
		if !ok {
			return append(out[:mark], unknownToken)
		}
		out = append(out, id)
		word, pieces = word[end:], v.rest
	}
	return out
}

// normalize removes control signs, sets ideographs apart, strips accents and lowers, in this order.
func normalize(text string) string {
	if isPlain(text) {
		return strings.ToLower(text)
	}
	var b strings.Builder
	b.Grow(len(text) + 8)
	for _, r := range text {
		switch {
		case r == utf8.RuneError || isControl(r):
		case unicode.IsSpace(r):
			b.WriteByte(' ')
		case isIdeograph(r):
			b.WriteByte(' ')
			b.WriteRune(r)
			b.WriteByte(' ')
		default:
			b.WriteRune(r)
		}
	}
	apart := norm.NFD.String(b.String())
	b.Reset()
	for _, r := range apart {
		if !unicode.Is(unicode.Mn, r) {
			b.WriteRune(unicode.ToLower(r))
		}
	}
	return b.String()
}

// isPlain: printable ASCII and blanks need only be lowered.
func isPlain(text string) bool {
	for i := range len(text) {
		if c := text[i]; c >= 0x7f || c < ' ' && c != '\t' && c != '\n' && c != '\r' {
			return false
		}
	}
	return true
}

// words splits at blanks; every punctuation sign is a word of its own.
func words(text string, each func(string)) {
	start := -1
	end := func(at int) {
		if start >= 0 {
			each(text[start:at])
			start = -1
		}
	}
	for i, r := range text {
		switch {
		case unicode.IsSpace(r):
			end(i)
		case isPunctuation(r):
			end(i)
			each(text[i : i+utf8.RuneLen(r)])
		case start < 0:
			start = i
		}
	}
	end(len(text))
}

// isControl leaves unassigned signs alone, as the model's tokenizer does.
func isControl(r rune) bool {
	return r != '\t' && r != '\n' && r != '\r' && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Cs)
}

// isPunctuation counts all signs of ASCII, "$" and "~" too.
func isPunctuation(r rune) bool {
	if r < utf8.RuneSelf {
		return r > ' ' && r < 0x7f && !('0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z')
	}
	return unicode.IsPunct(r)
}

// isIdeograph: the blocks BERT sets apart, sign by sign. Kana and Hangul are not among them.
func isIdeograph(r rune) bool {
	return r >= 0x3400 && (r >= 0x4E00 && r <= 0x9FFF || r <= 0x4DBF || r >= 0xF900 && r <= 0xFAFF ||
		r >= 0x20000 && r <= 0x2A6DF || r >= 0x2A700 && r <= 0x2CEAF || r >= 0x2F800 && r <= 0x2FA1F)
}

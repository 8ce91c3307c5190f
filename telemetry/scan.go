package telemetry

import (
	"bytes"
	"fmt"
	"math"

	"semantos/internal/tune"
)

// line cuts the first line off b.
func line(b []byte) (head, rest []byte) {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return b[:i], b[i+1:]
	}
	return b, nil
}

// word cuts the first run of non-blanks off b.
func word(b []byte) (head, rest []byte) {
	i := 0
	for i < len(b) && (b[i] == ' ' || b[i] == '\t') {
		i++
	}
	j := i
	for j < len(b) && b[j] != ' ' && b[j] != '\t' && b[j] != '\n' {
		j++
	}
	return b[i:j], b[j:]
}

// number reads a decimal integer, possibly negative, without allocating. Values beyond 2^64 are not numbers.
func number(b []byte) (float64, bool) {
	neg := len(b) > 0 && b[0] == '-'
	if neg {
		b = b[1:]
	}
	if len(b) == 0 || len(b) > 20 {
		return 0, false
	}
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		d := uint64(c - '0')
		if n > (math.MaxUint64-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	if neg {
		return -float64(n), true
	}
	return float64(n), true
}

// hexNumber reads a hexadecimal integer of at most 16 digits.
func hexNumber(b []byte) (uint64, bool) {
	if len(b) == 0 || len(b) > 16 {
		return 0, false
	}
	var n uint64
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9':
			n = n<<4 | uint64(c-'0')
		case c >= 'a' && c <= 'f':
			n = n<<4 | uint64(c-'a'+10)
		case c >= 'A' && c <= 'F':
			n = n<<4 | uint64(c-'A'+10)
		default:
			return 0, false
		}
	}
	return n, true
}

// parseNumbers reads blank-separated integers into dst and gives how many there were.
func parseNumbers(b []byte, dst []float64) (int, error) {
	n := 0
	b = bytes.TrimSpace(b)
	for len(b) > 0 && n < len(dst) {
		var w []byte
		if w, b = word(b); len(w) == 0 {
			break
		}
		v, ok := number(w)
		if !ok {
			return n, corrupt("number", w)
		}
		dst[n] = v
		n++
	}
	if n == 0 {
		return 0, fmt.Errorf("no number in it: %w", tune.ErrCorrupt)
	}
	return n, nil
}

// parseKeyValues calls visit for each "key value" line; a line without a number is an error.
func parseKeyValues(b []byte, visit func(key []byte, v float64)) error {
	lines := 0
	for len(b) > 0 {
		var l []byte
		if l, b = line(b); len(bytes.TrimSpace(l)) == 0 {
			continue
		}
		key, rest := word(l)
		w, _ := word(rest)
		v, ok := number(w)
		if !ok {
			return corrupt("line", l)
		}
		visit(key, v)
		lines++
	}
	if lines == 0 {
		return fmt.Errorf("empty: %w", tune.ErrCorrupt)
	}
	return nil
}

func corrupt(what string, b []byte) error {
	if len(b) > 60 {
		b = b[:60]
	}
	return fmt.Errorf("%s %q: %w", what, b, tune.ErrCorrupt)
}

// snake spells a kernel's CamelCase counter in lower case, acronyms kept together:
// ReqQFullDrop is req_q_full_drop, DelayedACKs delayed_acks, ReasmOKs reasm_oks.
func snake(s string) string {
	out := make([]byte, 0, len(s)+8)
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '(' || c == '_' || c == '-':
			if len(out) > 0 && out[len(out)-1] != '_' {
				out = append(out, '_')
			}
			continue
		case c == ')':
			continue
		case isUpper(c) && startsWord(s, i) && len(out) > 0 && out[len(out)-1] != '_':
			out = append(out, '_')
		}
		if isUpper(c) {
			c += 'a' - 'A'
		}
		out = append(out, c)
	}
	return string(out)
}

func isUpper(c byte) bool { return c >= 'A' && c <= 'Z' }

// startsWord: an upper-case letter begins a word after a lower-case one, or when what follows is
// lower case, unless that is only the plural s of an acronym.
func startsWord(s string, i int) bool {
	if i == 0 {
		return false
	}
	prev := s[i-1]
	if !isUpper(prev) && !(prev >= '0' && prev <= '9') {
		return true
	}
	if i+1 >= len(s) {
		return false
	}
	next := s[i+1]
	if next < 'a' || next > 'z' {
		return false
	}
	plural := next == 's' && (i+2 == len(s) || isUpper(s[i+2]))
	return !plural
}

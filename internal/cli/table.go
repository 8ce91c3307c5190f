package cli

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// pageWidth is what tables for people fit in, where no narrower terminal says otherwise.
const pageWidth = 100

// narrowest is the terminal below which wrapping helps nobody.
const narrowest = 60

// pageOf is the page of a writer: pageWidth, or the terminal's width if that is less.
func pageOf(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return pageWidth
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 { // no terminal, or one that does not know
		return pageWidth
	}
	return min(pageWidth, max(narrowest, int(size.Col)))
}

// table prints rows under a header, two spaces between columns. The last column takes what is left of
// the page and wraps under itself; a table of values that is wider anyway is left to the terminal.
func table(w io.Writer, header []string, rows [][]string) {
	widths := make([]int, len(header))
	for _, row := range append([][]string{header}, rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	left, page := 0, pageOf(w)
	for _, n := range widths[:len(widths)-1] {
		left += n + 2
	}
	for _, row := range append([][]string{header}, rows...) {
		var line strings.Builder
		for i, cell := range row[:len(row)-1] {
			line.WriteString(pad(cell, widths[i]+2))
		}
		for i, part := range wrap(row[len(row)-1], max(24, page-left)) {
			if i > 0 {
				line.WriteString(strings.Repeat(" ", left))
			}
			line.WriteString(part)
			fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
			line.Reset()
		}
	}
}

func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(s)))
}

// wrap breaks text at spaces into lines of at most width runes; a longer word keeps its line.
func wrap(text string, width int) []string {
	words := strings.Fields(text)
	if len(words) == 0 {
		return []string{""}
	}
	lines := []string{words[0]}
	for _, word := range words[1:] {
		last := lines[len(lines)-1]
		if utf8.RuneCountInString(last)+1+utf8.RuneCountInString(word) <= width {
			lines[len(lines)-1] = last + " " + word
			continue
		}
		lines = append(lines, word)
	}
	return lines
}

// paragraph prints wrapped text behind a label, continuation lines under the text.
func paragraph(w io.Writer, indent int, label, text string) {
	head := strings.Repeat(" ", indent) + label
	under := strings.Repeat(" ", utf8.RuneCountInString(head))
	for i, line := range wrap(text, pageOf(w)-utf8.RuneCountInString(head)) {
		if i > 0 {
			head = under
		}
		fmt.Fprintln(w, strings.TrimRight(head+line, " "))
	}
}

// shorten cuts text to at most n runes, at the last space where there is one, and says so by an ellipsis.
func shorten(text string, n int) string {
	runes := []rune(text)
	if len(runes) <= n {
		return text
	}
	cut := string(runes[:n-1])
	if at := strings.LastIndexByte(cut, ' '); at > 0 {
		cut = cut[:at]
	}
	return strings.TrimRight(cut, " ,;:") + "…"
}

// oneLine makes text from outside (a process name, a log line) safe to print: no control characters,
// no escape sequences.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return '?'
		}
		return r
	}, s)
}

// number prints a signal's value with three or four telling digits.
func number(v float64) string {
	switch abs := max(v, -v); {
	case abs == 0:
		return "0"
	case abs >= 1e7:
		return fmt.Sprintf("%.3g", v)
	case abs >= 100:
		return fmt.Sprintf("%.0f", v)
	case abs >= 1:
		return strings.TrimRight(strings.TrimRight(fmt.Sprintf("%.2f", v), "0"), ".")
	default:
		return fmt.Sprintf("%.3g", v)
	}
}

// quantity prints a number with its unit: shares as percent, bytes in powers of two.
func quantity(v float64, unit string) string {
	switch unit {
	case "/s":
		return number(v) + "/s"
	case "share":
		return number(v*100) + " %"
	case "bytes", "bytes/s":
		return byteSize(v) + strings.TrimPrefix(unit, "bytes")
	case "":
		return number(v)
	}
	return number(v) + " " + unit
}

func byteSize(v float64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for ; i < len(units)-1 && max(v, -v) >= 1024; i++ {
		v /= 1024
	}
	return number(v) + " " + units[i]
}

// byCount sorts the keys of a tally, largest count first, names breaking ties.
func byCount(tally map[string]int) []string {
	keys := slices.Sorted(maps.Keys(tally))
	slices.SortStableFunc(keys, func(a, b string) int { return tally[b] - tally[a] })
	return keys
}

package kb

import (
	"fmt"
	"sort"
	"strings"

	"semantos/internal/tune"
)

// Problem is one thing that is wrong in a catalogue file.
type Problem struct {
	File  string
	Line  int
	Field string
	Entry string // the entry's name, when it is known
	What  string
	Err   error // sentinel; [tune.ErrUsage] when nil
}

// Error gives "file:line: field: what (entry)".
func (p Problem) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d: ", p.File, p.Line)
	if p.Field != "" {
		b.WriteString(p.Field + ": ")
	}
	b.WriteString(p.What)
	if p.Entry != "" {
		fmt.Fprintf(&b, " (entry %s)", p.Entry)
	}
	return b.String()
}

// Unwrap gives the sentinel.
func (p Problem) Unwrap() error {
	if p.Err == nil {
		return tune.ErrUsage
	}
	return p.Err
}

// Problems are all that was found wrong in one load, in the order of file and line.
type Problems []Problem

// Error lists every problem on a line of its own.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.Is find the sentinel of any problem.
func (ps Problems) Unwrap() []error {
	out := make([]error, len(ps))
	for i, p := range ps {
		out[i] = p
	}
	return out
}

func (ps Problems) sorted() Problems {
	sort.SliceStable(ps, func(i, j int) bool {
		if ps[i].File != ps[j].File {
			return ps[i].File < ps[j].File
		}
		return ps[i].Line < ps[j].Line
	})
	return ps
}

// failed wraps the problems as one operator's error, or gives nil when there are none.
func (ps Problems) failed(op string) error {
	if len(ps) == 0 {
		return nil
	}
	hint := "correct the named lines; nothing was loaded"
	return &tune.Error{Op: op, Err: ps.sorted(), Hint: hint}
}

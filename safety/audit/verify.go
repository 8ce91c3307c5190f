package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"semantos/internal/tune"
)

// Report is what verifying found. Verified means: every record present is as it was written, none is
// missing between First and Last, and every anchor is met. Lost counts what could not be kept when it
// happened, which the log itself tells; that is no sign of tampering.
type Report struct {
	Verified bool      `json:"verified"`
	Records  uint64    `json:"records"`
	First    time.Time `json:"first,omitzero"`
	Last     time.Time `json:"last,omitzero"`
	Head     string    `json:"head"` // "SEQ:SHA256" of the newest record
	Lost     uint64    `json:"lost"`
	Dropped  uint64    `json:"dropped"` // by retention, before First
	Problems []Problem `json:"problems"`
	More     int       `json:"more_problems,omitempty"` // beyond those listed
	Notes    []string  `json:"notes,omitempty"`
}

// Problem is one break: where it is, and what is wrong there. Line is counted from 1; Seq is the record's
// own number, or the one expected there.
type Problem struct {
	File string `json:"file"`
	Line int    `json:"line,omitempty"`
	Seq  uint64 `json:"seq,omitempty"`
	What string `json:"what"`
}

// Anchor is a head somebody kept elsewhere.
type Anchor struct {
	Head
	Where string
}

// maxProblems bounds the list: what follows a first break says little more.
const maxProblems = 20

// Verify reads a whole log and holds it against the anchors. It only reads, also while a guard appends:
// get the anchors before. Its error is for what could not be read.
func Verify(dir string, anchors []Anchor) (Report, error) {
	for try := 1; ; try++ {
		v := newVerifier(slices.Clone(anchors))
		segs, err := segments(dir)
		for i := 0; i < len(segs) && err == nil; i++ {
			err = v.segment(segs[i], i == len(segs)-1)
		}
		if err == nil {
			v.finish(dir)
		}
		// What retention dropped while we read is told by a record that we may not have seen.
		if (err != nil || !v.out.Verified) && try < 10 && moved(dir, segs) {
			continue
		}
		if err != nil {
			return v.out, readError(dir, err)
		}
		return v.out, nil
	}
}

// moved reports whether segments were begun or dropped since they were listed.
func moved(dir string, before []segment) bool {
	now, err := segments(dir)
	return err != nil || !slices.EqualFunc(before, now, func(a, b segment) bool { return a.path == b.path })
}

func readError(dir string, err error) error {
	kind, hint := tune.ErrStorage, "check the folder"
	if errors.Is(err, fs.ErrPermission) {
		kind, hint = tune.ErrNotPermitted, "run as root: the log is for the user that changes tunables only"
	}
	return &tune.Error{Op: "read audit log", Subject: dir, Err: fmt.Errorf("%w: %w", kind, err), Hint: hint}
}

type verifier struct {
	out     Report
	anchors []Anchor
	last    Head // newest record read, or what stands for it after a break
	unsure  bool // its hash is not known
	good    Head // newest record that is whole
	first   uint64
	before  string // the hash the first record is chained to
	dropped map[Head]bool
	jumps   int      // how often the clock went back
	end     segment  // the newest
	lines   int      // in it
	cutOff  *Problem // a segment that ends within a record; excused by what follows
}

func newVerifier(anchors []Anchor) *verifier {
	return &verifier{out: Report{Problems: []Problem{}}, anchors: anchors, dropped: map[Head]bool{}}
}

func (v *verifier) segment(s segment, newest bool) error {
	f, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // read only
	return v.read(s, f, newest)
}

func (v *verifier) read(s segment, in io.Reader, newest bool) error {
	v.end, v.lines = s, 0
	return scan(in, func(l line) bool {
		if !l.torn {
			v.lines = l.number
		}
		switch {
		case l.torn && l.bad == nil && newest:
			v.out.Notes = append(v.out.Notes, fmt.Sprintf("%s ends in %d bytes of an unfinished record: a crash, or being written now",
				filepath.Base(s.path), l.bytes))
		case l.torn && l.bad == nil:
			v.cutOff = &Problem{File: s.path, Line: l.number, Seq: v.last.Seq + 1, What: "the file ends within a record, and another follows it"}
		case l.bad != nil:
			v.problem(s, l.number, v.last.Seq+1, l.bad.Error())
			v.last.Seq++ // one record stood here; its hash is not known
			v.unsure = true
		default:
			v.record(s, l)
		}
		return true
	})
}

func (v *verifier) record(s segment, l line) {
	r := l.record
	if p := v.cutOff; p != nil && r.Kind != Gap { // a gap tells of a write that could not be taken back
		v.problem(segment{path: p.File}, p.Line, p.Seq, p.What)
	}
	v.cutOff = nil
	switch {
	case v.first == 0:
		v.first, v.before, v.out.First = r.Seq, r.Prev, r.Time
		if v.last.Seq > 0 && v.last.Seq+1 != r.Seq { // a bad line stood first
			v.problem(s, l.number, r.Seq, "what should stand before it is not readable")
		}
	case r.Kind == Gap && r.Span != nil && r.Seq > v.last.Seq+1 && r.Span.First <= v.last.Seq+1 && r.Span.Last == r.Seq-1:
		v.out.Lost += r.Seq - 1 - v.last.Seq // a failed sync that was told
	case r.Seq != v.last.Seq+1:
		v.problem(s, l.number, r.Seq, jump(v.last.Seq, r.Seq))
	case !v.unsure && r.Prev != v.last.Hash:
		v.problem(s, l.number, r.Seq, fmt.Sprintf("it was not written after the record %d that stands before it", v.last.Seq))
	}
	if r.Time.Before(v.out.Last) {
		v.jumps++
	}
	v.last, v.unsure = Head{Seq: r.Seq, Hash: l.hash}, false
	v.good = v.last
	v.out.Records++
	v.out.Last = r.Time
	switch {
	case r.Kind == Gap && r.Span != nil:
		v.out.Lost += r.Span.Records
	case r.Kind == Checkpoint && r.Span != nil:
		v.dropped[Head{r.Span.Last, r.Span.Hash}] = true
	case r.Kind == Broken:
		v.problem(s, l.number, r.Seq, fmt.Sprintf("the guard found at %s: %s", r.Time.Format(time.RFC3339), r.Detail))
	}
	for i := range v.anchors {
		v.meet(s, l, &v.anchors[i])
	}
}

func jump(from, to uint64) string {
	if to > from+1 {
		return fmt.Sprintf("records %d to %d are missing before it", from+1, to-1)
	}
	return fmt.Sprintf("it has the number of an earlier record: %d stands before it", from)
}

// meet checks an anchor at its record; one known by its hash alone is met wherever that stands.
func (v *verifier) meet(s segment, l line, a *Anchor) {
	same := strings.HasPrefix(l.hash, a.Hash)
	switch {
	case a.Seq == 0 && same:
		a.Seq = l.record.Seq
	case a.Seq == l.record.Seq && !same:
		v.problem(s, l.number, a.Seq, fmt.Sprintf("it is not the record that %s has: %.12s… there, %.12s… here", a.Where, a.Hash, l.hash))
	}
}

func (v *verifier) problem(s segment, line int, seq uint64, what string) {
	if len(v.out.Problems) == maxProblems {
		v.out.More++
		return
	}
	v.out.Problems = append(v.out.Problems, Problem{File: s.path, Line: line, Seq: seq, What: what})
}

// finish judges both ends of the log: how it begins, and whether it reaches every anchor.
func (v *verifier) finish(dir string) {
	if v.first > 1 {
		if v.dropped[Head{v.first - 1, v.before}] {
			v.out.Dropped = v.first - 1
		} else {
			v.problem(segment{path: filepath.Join(dir, segmentName(v.first))}, 1, v.first,
				fmt.Sprintf("records 1 to %d are missing before it, and no checkpoint tells that they were dropped", v.first-1))
		}
	} else if v.first == 1 && v.before != origin().Hash {
		v.problem(segment{path: filepath.Join(dir, segmentName(1))}, 1, 1, "the first record of all is chained to another one")
	}
	at, next := v.end, v.lines+1
	if at.path == "" {
		at, next = segment{path: dir}, 0
	}
	for _, a := range v.anchors {
		switch {
		case a.Seq == 0:
			v.problem(segment{path: dir}, 0, 0, fmt.Sprintf("no record has the hash that %s has (%.12s…)", a.Where, a.Hash))
		case a.Seq > v.last.Seq:
			v.problem(at, next, a.Seq, fmt.Sprintf("the log ends at record %d, but %s has record %d", v.last.Seq, a.Where, a.Seq))
		case a.Seq < v.first && a.Where == Noted:
			v.problem(segment{path: dir}, 0, a.Seq, fmt.Sprintf("record %d was dropped by retention: it cannot be compared", a.Seq))
		}
	}
	if v.out.Records == 0 {
		v.problem(segment{path: dir}, 0, 0, "there is no record: nothing was ever logged, or the log was taken away")
	}
	if v.jumps > 0 {
		v.out.Notes = append(v.out.Notes, fmt.Sprintf("the clock went back %d times between records; their order is by number", v.jumps))
	}
	v.out.Head = v.good.String()
	v.out.Verified = len(v.out.Problems) == 0
}

// Noted is where a head comes from that a person gives: it must be comparable, or nothing was shown.
const Noted = "what you noted"

// Read gives every readable record, oldest first, until visit says false.
func Read(dir string, visit func(Record) bool) error {
	segs, err := segments(dir)
	if err != nil {
		return readError(dir, err)
	}
	for _, s := range segs {
		f, err := os.Open(s.path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // dropped meanwhile
		}
		if err != nil {
			return readError(dir, err)
		}
		more := true
		err = scan(f, func(l line) bool {
			more = l.bad != nil || l.torn || visit(l.record)
			return more
		})
		_ = f.Close() // read only
		if err != nil {
			return readError(dir, err)
		}
		if !more {
			return nil
		}
	}
	return nil
}

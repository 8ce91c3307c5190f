package audit

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The log lies in segments, one file each, named by the number of the first record in it. Old ones are
// dropped whole.

const segmentPrefix, segmentSuffix = "audit-", ".jsonl"

func segmentName(first uint64) string {
	return fmt.Sprintf("%s%012d%s", segmentPrefix, first, segmentSuffix)
}

type segment struct {
	path  string
	first uint64 // by its name
	size  int64
}

// segments lists what a folder holds, oldest first; an absent folder has none.
func segments(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []segment
	for _, e := range entries {
		name, _ := strings.CutPrefix(e.Name(), segmentPrefix)
		digits, ok := strings.CutSuffix(name, segmentSuffix)
		if !ok || !e.Type().IsRegular() {
			continue
		}
		first, err := strconv.ParseUint(digits, 10, 64)
		if err != nil || segmentName(first) != e.Name() {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return segments(dir) // retention dropped it: what else stands there has changed too
		}
		if err != nil {
			return nil, err
		}
		out = append(out, segment{filepath.Join(dir, e.Name()), first, info.Size()})
	}
	slices.SortFunc(out, func(a, b segment) int { return cmp.Compare(a.first, b.first) })
	return out, nil
}

// line is one line of a segment: a record, or what is wrong with it. The last one may be unfinished.
type line struct {
	number int
	bytes  int // with its line end
	record Record
	hash   string
	bad    error
	torn   bool // no line end: cut off by a crash
}

// scan gives a segment's lines in order until visit says false.
func scan(r io.Reader, visit func(line) bool) error {
	in := bufio.NewReaderSize(r, 64<<10)
	for n := 1; ; n++ {
		text, err := readLine(in)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if len(text) == 0 && err != nil {
			return nil
		}
		l := line{number: n, bytes: len(text)}
		if body, whole := bytes.CutSuffix(text, []byte("\n")); whole {
			l.record, l.hash, l.bad = decode(body)
		} else {
			l.torn, l.bad = true, tail(text)
		}
		if !visit(l) || err != nil {
			return nil
		}
	}
}

// readLine gives the next line; one beyond any record's length is cut there, and so cannot be whole.
func readLine(in *bufio.Reader) ([]byte, error) {
	var text []byte
	for {
		part, err := in.ReadSlice('\n')
		text = append(text, part...)
		switch {
		case !errors.Is(err, bufio.ErrBufferFull):
			return text, err
		case len(text) > maxLine:
			return text, nil
		}
	}
}

// tail judges an unfinished last line: a crash leaves the beginning of one, or zeroes where its bytes had
// not reached the disk. Anything else was not left by a crash.
func tail(text []byte) error {
	if len(bytes.Trim(text, "\x00")) == 0 {
		return nil
	}
	n := min(len(text), len(lineOpen))
	if string(text[:n]) != lineOpen[:n] || len(text) > maxLine {
		return errors.New("the last line is no beginning of a record")
	}
	if _, _, err := decode(text[:len(text)-1]); err == nil {
		return errors.New("something else stands where the last record's line end belongs")
	}
	return nil
}

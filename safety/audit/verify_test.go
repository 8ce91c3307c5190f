package audit

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"semantos/internal/tune"
)

func put(t testing.TB, dir string, first uint64, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, segmentName(first))
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func verify(t tb, dir string, anchors ...Anchor) Report {
	t.Helper()
	r, err := Verify(dir, anchors)
	if err != nil {
		t.Fatal(err)
	}
	if r.Verified != (len(r.Problems) == 0) {
		t.Fatalf("%+v", r)
	}
	return r
}

// broken expects a first problem that says all of this.
func (r Report) broken(t testing.TB, name string, line int, seq uint64, says ...string) {
	t.Helper()
	if r.Verified {
		t.Fatalf("%s: verified", name)
	}
	p := r.Problems[0]
	for _, s := range says {
		if !strings.Contains(p.What, s) {
			t.Errorf("%s: %+v does not say %q", name, p, s)
		}
	}
	if p.Line != line || p.Seq != seq {
		t.Errorf("%s: found at line %d, record %d, want %d, %d: %s", name, p.Line, p.Seq, line, seq, p.What)
	}
}

func TestWholeLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data, heads := chained(t, 6)
	ends := lineEnds(data)
	put(t, dir, 1, data[:ends[1]])
	put(t, dir, 3, data[ends[1]:ends[4]])
	put(t, dir, 6, data[ends[4]:])
	r := verify(t, dir, Anchor{heads[0], "the journal"}, Anchor{heads[5], "the run folder"}, Anchor{Head{Hash: heads[3].Hash[:12]}, Noted})
	if !r.Verified || r.Records != 6 || r.Head != heads[5].String() || !r.First.Equal(noon) || r.Last.Sub(noon).Seconds() != 5 || r.Problems == nil {
		t.Errorf("%+v", r)
	}
}

func lineEnds(data []byte) (ends []int) {
	for i, b := range data {
		if b == '\n' {
			ends = append(ends, i+1)
		}
	}
	return ends
}

// TestEveryFlippedBitIsFound: of a small log, every bit of every byte.
func TestEveryFlippedBitIsFound(t *testing.T) {
	t.Parallel()
	data, _ := chained(t, 3)
	ends := lineEnds(data)
	for at := range data {
		for bit := range 8 {
			spoilt := bytes.Clone(data)
			spoilt[at] ^= 1 << bit
			v := newVerifier(nil)
			if err := v.read(segment{path: "log"}, bytes.NewReader(spoilt), true); err != nil {
				t.Fatal(err)
			}
			v.finish("dir")
			r := v.out
			if r.Verified {
				t.Fatalf("byte %d, bit %d: %q for %q is not found", at, bit, spoilt[at], data[at])
			}
			if want := 1 + len(endsBefore(ends, at)); r.Problems[0].Line != want {
				t.Fatalf("byte %d, bit %d: found in line %d, not %d: %s", at, bit, r.Problems[0].Line, want, r.Problems[0].What)
			}
		}
	}
}

func endsBefore(ends []int, at int) []int {
	n := 0
	for n < len(ends) && ends[n] <= at {
		n++
	}
	return ends[:n]
}

func TestTampering(t *testing.T) {
	t.Parallel()
	data, heads := chained(t, 5)
	e := lineEnds(data)
	end := Anchor{heads[4], "the run folder"}
	rewritten := func() []byte { // somebody who seals what he wrote, and nothing behind it
		r, _, err := decode(data[e[1] : e[2]-1])
		if err != nil {
			t.Fatal(err)
		}
		r.New = "1000"
		text, _, err := encode(r)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Join([][]byte{data[:e[1]], text, data[e[2]:]}, nil)
	}
	all, _ := chained(t, 7)
	for _, c := range []struct {
		name    string
		data    []byte
		anchors []Anchor
		line    int
		seq     uint64
		says    string
	}{
		{"a record is taken out", append(bytes.Clone(data[:e[1]]), data[e[2]:]...), nil, 3, 4, "record 3 to 3 are missing"},
		{"records change places", bytes.Join([][]byte{data[:e[0]], data[e[1]:e[2]], data[e[0]:e[1]], data[e[2]:]}, nil), nil, 2, 3, "missing"},
		{"a record twice", append(bytes.Clone(data[:e[1]]), data[e[0]:]...), nil, 3, 2, "number of an earlier record"},
		{"a record is written anew", rewritten(), nil, 4, 4, "not written after"},
		{"a line is put in", bytes.Join([][]byte{data[:e[0]], []byte("{}\n"), data[e[0]:]}, nil), nil, 2, 2, "no audit record"},
		{"the beginning is cut", data[e[1]:], nil, 1, 3, "records 1 to 2 are missing"},
		{"the end is cut", data[:e[2]], []Anchor{end}, 4, 5, "the log ends at record 3, but the run folder has record 5"},
		{"all is gone", nil, []Anchor{end}, 0, 5, "the log ends at record 0"},
		{"nothing was ever there", nil, nil, 0, 0, "no record"},
		{"it is another log", all, []Anchor{{Head{5, strings.Repeat("0", 64)}, "the journal"}}, 5, 5, "not the record that the journal has"},
		{"a noted hash is nowhere", data, []Anchor{{Head{Hash: strings.Repeat("0", 64)}, Noted}}, 0, 0, "no record has the hash"},
		{"a long line", append(bytes.Clone(data), bytes.Repeat([]byte("x"), 3*maxLine)...), nil, 6, 6, "no beginning of a record"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			first := uint64(1)
			if c.data != nil {
				if strings.HasPrefix(c.name, "the beginning") {
					first = 3
				}
				put(t, dir, first, c.data)
			}
			says := strings.Replace(c.says, "record 3 to 3", "records 3 to 3", 1)
			verify(t, dir, c.anchors...).broken(t, c.name, c.line, c.seq, says)
		})
	}
}

// TestTornTailIsNoTampering: a crash cuts the last line anywhere, or leaves zeroes.
func TestTornTailIsNoTampering(t *testing.T) {
	t.Parallel()
	data, heads := chained(t, 3)
	ends := lineEnds(data)
	for _, tail := range [][]byte{data[ends[1] : ends[1]+1], data[ends[1] : ends[1]+40], data[ends[1] : ends[2]-1], make([]byte, 300)} {
		dir := t.TempDir()
		put(t, dir, 1, append(bytes.Clone(data[:ends[1]]), tail...))
		r := verify(t, dir)
		if !r.Verified || r.Records != 2 || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "unfinished") || r.Head != heads[1].String() {
			t.Errorf("%d bytes: %+v", len(tail), r)
		}
		put(t, dir, 3, data[ends[1]:]) // another segment behind it: the crash was not the last thing
		verify(t, dir).broken(t, "torn in the middle", 3, 3, "ends within a record")
	}
}

func TestVerifyNeedsRights(t *testing.T) {
	t.Parallel()
	if err := readError("/x", os.ErrPermission); !errors.Is(err, tune.ErrNotPermitted) || tune.Hint(err) == "" {
		t.Error(err)
	}
	dir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(dir, nil); !errors.Is(err, tune.ErrStorage) {
		t.Errorf("got %v", err)
	}
}

// TestVerifyNeverPanics, and finds whatever was changed: random edits of a log.
func TestAnyEditIsFound(t *testing.T) {
	t.Parallel()
	data, heads := chained(t, 4)
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		from := rapid.IntRange(0, len(data)).Draw(rt, "from")
		to := rapid.IntRange(from, min(len(data), from+200)).Draw(rt, "to")
		with := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(rt, "with")
		edited := bytes.Join([][]byte{data[:from], with, data[to:]}, nil)
		if bytes.Equal(edited, data) {
			return
		}
		put(t, dir, 1, edited)
		if r := verify(t, dir, Anchor{heads[3], "the run folder"}); r.Verified {
			// Behind a log that reaches its head there may be the beginning of another record.
			if !bytes.HasPrefix(edited, data) || tail(edited[len(data):]) != nil {
				rt.Fatalf("%d to %d became %q and is not found", from, to, with)
			}
		}
	})
}

func FuzzDecode(f *testing.F) {
	data, _ := chained(f, 2)
	f.Add(data)
	f.Add([]byte(lineOpen))
	f.Fuzz(func(t *testing.T, data []byte) {
		total := 0
		if err := scan(bytes.NewReader(data), func(l line) bool {
			total += l.bytes
			if l.bad == nil && !l.torn {
				if len(l.hash) != hashLen || l.record.Seq == 0 {
					t.Fatalf("%+v is taken for a record", l)
				}
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
		if total != len(data) {
			t.Fatalf("read %d of %d bytes", total, len(data))
		}
	})
}

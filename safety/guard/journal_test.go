package guard

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"semantos/internal/tune"
)

func sampleRecords() []record {
	h := how{Name: "q.plain", Scope: tune.ScopeHost, Method: tune.MethodSysctl, Path: "q/plain", Kind: tune.KindInteger}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return []record{
		{Kind: kindIntent, Time: at, Rollout: "r1", Tunable: "q.plain", Target: "host", How: &h, Old: "5", New: "50", Boot: "b",
			Identity: tune.Identity{"cookie": "7"}, Pair: &beside{Tunable: "q.pair", Target: "host", How: h, Value: "0"}},
		{Kind: kindDone, Time: at, Rollout: "r1", Tunable: "q.plain", Target: "host", New: "50", ReadBack: "48"},
		{Kind: kindCommitted, Time: at, Rollout: "r1"},
	}
}

func journalBytes(t interface{ Fatal(...any) }, recs []record) (data []byte, ends []int) {
	for i, r := range recs {
		r.Seq = uint64(i + 1)
		line, err := encodeRecord(r)
		if err != nil {
			t.Fatal(err)
		}
		data = append(data, line...)
		ends = append(ends, len(data))
	}
	return data, ends
}

func TestRecordRoundTrip(t *testing.T) {
	t.Parallel()
	data, _ := journalBytes(t, sampleRecords())
	s := scanJournal(data)
	want := sampleRecords()
	for i := range want {
		want[i].Seq = uint64(i + 1)
	}
	if d := cmp.Diff(want, s.records); d != "" || s.badAt != -1 || s.torn != 0 || s.good != int64(len(data)) {
		t.Errorf("%s\n%+v", d, s)
	}
}

func TestDamagedJournals(t *testing.T) {
	t.Parallel()
	data, ends := journalBytes(t, sampleRecords())
	flip := func(at int) []byte {
		out := bytes.Clone(data)
		out[at] ^= 1
		return out
	}
	future := sampleRecords()
	future[1].Kind = "invented"
	unknownKind, _ := journalBytes(t, future)
	for _, c := range []struct {
		name    string
		data    []byte
		records int
		badAt   int64
		torn    int64
	}{
		{"empty", nil, 0, -1, 0},
		{"cut in the last record", data[:len(data)-3], 2, -1, int64(len(data) - 3 - ends[1])},
		{"cut before the last line end", data[:len(data)-1], 2, -1, int64(len(data) - 1 - ends[1])},
		{"cut between records", data[:ends[1]], 2, -1, 0},
		{"zeroes behind", append(bytes.Clone(data), make([]byte, 100)...), 3, -1, 100},
		{"a bit of the first", flip(20), 2, 0, 0},
		{"a bit of the middle", flip(ends[0] + 60), 2, int64(ends[0]), 0},
		{"a bit of the last, whole line", flip(ends[1] + 60), 2, int64(ends[1]), 0},
		{"a record is missing", append(bytes.Clone(data[:ends[0]]), data[ends[1]:]...), 2, int64(ends[0]), 0},
		{"records change places", append(bytes.Clone(data[ends[0]:]), data[:ends[0]]...), 3, int64(len(data) - ends[0]), 0},
		{"a line of text", append(append(bytes.Clone(data[:ends[0]]), "hello\n"...), data[ends[0]:]...), 3, int64(ends[0]), 0},
		{"kind of a later version", unknownKind, 2, int64(ends[0]), 0},
		{"another file", []byte("\x7fELF\n\n"), 0, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := scanJournal(c.data)
			if len(s.records) != c.records || s.badAt != c.badAt || s.torn != c.torn {
				t.Errorf("records %d, bad at %d, torn %d; want %d, %d, %d (%v)", len(s.records), s.badAt, s.torn, c.records, c.badAt, c.torn, s.bad)
			}
			path := filepath.Join(t.TempDir(), "journal", "journal.log")
			if err := (osDisk{}).Replace(path, c.data, 0o600); err != nil {
				t.Fatal(err)
			}
			j, _ := openJournal(osDisk{}, path, "/run/semantos")
			defer j.close()
			err := j.usable()
			if (c.badAt >= 0) != errors.Is(err, tune.ErrCorrupt) {
				t.Fatalf("usable: %v", err)
			}
			if err != nil && (!strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), fmt.Sprintf("byte %d", c.badAt)) ||
				!strings.Contains(tune.Hint(err), "/run/semantos")) {
				t.Errorf("error %q, hint %q", err, tune.Hint(err))
			}
			// A restore is still recorded, on a line of its own.
			if err := j.append(true, record{Kind: kindClosed, Rollout: "r1"}); err != nil {
				t.Fatal(err)
			}
			now, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if again := scanJournal(now); len(again.records) != c.records+1 || again.torn != 0 || again.badAt != c.badAt {
				t.Errorf("after an append: %d records, torn %d, bad at %d", len(again.records), again.torn, again.badAt)
			}
		})
	}
}

func TestHalfWrittenRecordIsTakenBack(t *testing.T) {
	t.Parallel()
	d := newMemDisk()
	j, _ := openJournal(d, "/data/j", "/run")
	recs := sampleRecords()
	if err := j.append(true, recs[0]); err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(d.files["/data/j"])
	d.full = "/data"
	if err := j.append(true, recs[1]); !errors.Is(err, tune.ErrStorage) {
		t.Errorf("got %v", err)
	}
	if !bytes.Equal(before, d.files["/data/j"]) {
		t.Error("half a record stays")
	}
	d.full = ""
	if err := j.append(true, recs[1:]...); err != nil {
		t.Fatal(err)
	}
	if s := scanJournal(d.files["/data/j"]); len(s.records) != 3 || s.badAt >= 0 {
		t.Errorf("%+v", s)
	}
	d.dead = "/data"
	if err := j.append(true, recs[2]); !errors.Is(err, tune.ErrStorage) {
		t.Errorf("got %v", err)
	}
	d.dead = ""
	if err := j.append(true, recs[2]); !errors.Is(err, tune.ErrStorage) {
		t.Errorf("a file that lost a sync is trusted again: %v", err)
	}
}

func TestCompaction(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.apply(t, "keep", "q.plain=50")
	if err := b.guard.commit(t.Context(), "keep"); err != nil {
		t.Fatal(err)
	}
	bk := b.guard.log.(*book)
	note := strings.Repeat("n", 60_000)
	for i := 0; bk.main.size < compactAbove; i++ {
		id := fmt.Sprintf("r%d", i)
		if _, err := b.guard.apply(t.Context(), id, changes("q.round=8192"), note); err != nil {
			t.Fatal(err)
		}
		if _, err := b.guard.rollback(id, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := bk.main.compact(b.guard.state); err != nil {
		t.Fatal(err)
	}
	if bk.main.size > 4096 {
		t.Errorf("still %d bytes", bk.main.size)
	}
	b.apply(t, "later", "q.round=12288")
	b.start()
	if s := scanJournal(b.disk.files[journalPath("/data")]); s.badAt >= 0 {
		t.Error(s.bad)
	}
	b.expect(t, map[string]string{"q.plain@host": "50", "q.round@host": "4096"})
	if _, err := b.guard.rollback("keep", ""); err != nil {
		t.Fatal(err)
	}
	b.untouched(t)
}

// TestFoldLaws: whatever the records, the original of an entry is its first old value, a closed rollout
// holds nothing, and folding the same journal twice gives the same.
func TestFoldLaws(t *testing.T) {
	t.Parallel()
	kinds := []recordKind{kindIntent, kindIntent, kindDone, kindAgain, kindReverted, kindRestored, kindYielded, kindGone, kindCommitted,
		kindPersisting, kindPersisted, kindUnpersisted, kindClosed}
	rapid.Check(t, func(rt *rapid.T) {
		recs := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) record {
			v := func(label string) tune.Value { return tune.Value(fmt.Sprint(rapid.IntRange(0, 4).Draw(rt, label))) }
			return record{Kind: rapid.SampledFrom(kinds).Draw(rt, "kind"), Rollout: rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "rollout"),
				Tunable: rapid.SampledFrom([]string{"x", "y"}).Draw(rt, "tunable"), Target: "host", How: &how{}, Boot: "boot",
				Old: v("old"), New: v("new"), ReadBack: v("read back")}
		}), 0, 30).Draw(rt, "records")
		s, again := newJournalState(), newJournalState()
		first := map[[2]string]tune.Value{}
		for _, r := range recs {
			s.fold(r)
			again.fold(r)
			key := [2]string{r.Rollout, r.Tunable}
			if _, seen := first[key]; !seen && r.Kind == kindIntent {
				first[key] = r.Old
			}
		}
		if d := cmp.Diff(s.managed("boot", true), again.managed("boot", true)); d != "" {
			rt.Fatal(d)
		}
		for _, m := range s.managed("boot", true) {
			if want := first[[2]string{m.Rollout, m.Tunable}]; m.Original != want {
				rt.Fatalf("original of %+v should be %q", m, want)
			}
			ro := s.rollouts[m.Rollout]
			// Restored, but listed while a file of its rollout would set it again at the next boot.
			fileStays := m.State == "persisted" && ro.outlives()
			if ro.Closed || ro.entry(m.Tunable, "host").End == kindRestored && !fileStays {
				rt.Fatalf("%+v is held by something ended", m)
			}
		}
		if len(s.managed("another boot", true)) > 0 && !slices.ContainsFunc(s.open(), (*heldRollout).outlives) {
			rt.Fatal("held over a boot without being persisted")
		}
	})
}

func TestOursElementByElement(t *testing.T) {
	t.Parallel()
	en := &heldEntry{Old: "1 2 3", Wrote: []tune.Value{"4 5 6", "7 8 9"}}
	for live, want := range map[tune.Value]bool{
		"1 2 3": true, "7 8 9": true, "4 2 9": true, "1 5 3": true, "1 2 4": false, "2 1 3": false, "1 2": true, "": false, "1 2 3 4": false,
	} {
		if got := en.ours(live); got != want {
			t.Errorf("ours(%q) is %v", live, got)
		}
	}
	scalar := &heldEntry{Old: "1", Wrote: []tune.Value{"2"}}
	if scalar.ours("3") || !scalar.ours("2") {
		t.Error("scalar")
	}
}

func TestInspectReadsOnly(t *testing.T) {
	t.Parallel()
	data, run := t.TempDir(), t.TempDir()
	if m, err := Inspect(data, run, "b"); err != nil || len(m) != 0 {
		t.Errorf("nothing yet: %v, %v", m, err)
	}
	bytesOf, ends := journalBytes(t, sampleRecords())
	if err := (osDisk{}).Replace(journalPath(data), bytesOf[:ends[2]-1], 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := Inspect(data, run, "b")
	if err != nil || len(m) != 1 || m[0].State != "in_doubt" || m[0].Original != "5" || m[0].Current != "48" {
		t.Errorf("%+v, %v", m, err)
	}
	bytesOf[ends[0]+50] ^= 1
	if err := (osDisk{}).Replace(journalPath(data), bytesOf, 0o600); err != nil {
		t.Fatal(err)
	}
	m, err = Inspect(data, run, "b")
	if !errors.Is(err, tune.ErrCorrupt) || len(m) != 1 || m[0].State != "committed" {
		t.Errorf("damaged: %+v, %v", m, err)
	}
	if undo, _ := InspectUndo(data, run, "b", ""); len(undo) != 1 || undo[0].Proposed != "5" {
		t.Errorf("undo: %+v", undo)
	}
	if m, _ := Inspect(data, run, "another boot"); len(m) != 0 {
		t.Errorf("after a boot: %+v", m)
	}
	after, err := os.ReadFile(journalPath(data))
	if err != nil || !bytes.Equal(after, bytesOf) {
		t.Error("inspecting wrote")
	}
}

func FuzzJournal(f *testing.F) {
	data, ends := journalBytes(f, sampleRecords())
	f.Add(data)
	f.Add(data[:ends[1]-7])
	f.Add([]byte("{}\n{\"crc32c\":\"00000000\",\"record\":{}}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := scanJournal(data)
		if s.good+s.torn != int64(len(data)) {
			t.Fatalf("good %d and torn %d of %d bytes", s.good, s.torn, len(data))
		}
		state := newJournalState()
		for _, r := range s.records {
			state.fold(r)
			line, err := encodeRecord(r)
			if err != nil {
				t.Fatal(err)
			}
			back, err := decodeRecord(bytes.TrimSuffix(line, []byte("\n")))
			if err != nil {
				t.Fatalf("own line is not read: %v", err)
			}
			if a, b := mustJSON(t, r), mustJSON(t, back); a != b {
				t.Fatalf("%s\n%s", a, b)
			}
		}
		state.managed("b", true)
	})
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

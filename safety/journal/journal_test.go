package journal_test

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

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"semantos/internal/tune"
	"semantos/safety/journal"
	"semantos/safety/journal/journaltest"
)

func TestRecordRoundTrip(t *testing.T) {
	t.Parallel()
	data, _ := journaltest.Bytes(t, journaltest.Records())
	s := journal.Scan(data)
	want := journaltest.Records()
	for i := range want {
		want[i].Seq = uint64(i + 1)
	}
	if d := cmp.Diff(want, s.Records); d != "" || s.BadAt != -1 || s.Torn != 0 || s.Good != int64(len(data)) {
		t.Errorf("%s\n%+v", d, s)
	}
}

func TestDamagedJournals(t *testing.T) {
	t.Parallel()
	data, ends := journaltest.Bytes(t, journaltest.Records())
	flip := func(at int) []byte {
		out := bytes.Clone(data)
		out[at] ^= 1
		return out
	}
	future := journaltest.Records()
	future[1].Kind = "invented"
	unknownKind, _ := journaltest.Bytes(t, future)
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
			s := journal.Scan(c.data)
			if len(s.Records) != c.records || s.BadAt != c.badAt || s.Torn != c.torn {
				t.Errorf("records %d, bad at %d, torn %d; want %d, %d, %d (%v)", len(s.Records), s.BadAt, s.Torn, c.records, c.badAt, c.torn, s.Bad)
			}
			path := filepath.Join(t.TempDir(), "journal", "journal.log")
			if err := (journal.HostDisk{}).Replace(path, c.data, 0o600); err != nil {
				t.Fatal(err)
			}
			j, _ := journal.Open(journal.HostDisk{}, path, "/run/semantos")
			defer j.Close()
			err := j.Usable()
			if (c.badAt >= 0) != errors.Is(err, tune.ErrCorrupt) {
				t.Fatalf("usable: %v", err)
			}
			if err != nil && (!strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), fmt.Sprintf("byte %d", c.badAt)) ||
				!strings.Contains(tune.Hint(err), "/run/semantos")) {
				t.Errorf("error %q, hint %q", err, tune.Hint(err))
			}
			// A restore is still recorded, on a line of its own.
			if err := j.Append(true, journal.Record{Kind: journal.Closed, Rollout: "r1"}); err != nil {
				t.Fatal(err)
			}
			now, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if again := journal.Scan(now); len(again.Records) != c.records+1 || again.Torn != 0 || again.BadAt != c.badAt {
				t.Errorf("after an append: %d records, torn %d, bad at %d", len(again.Records), again.Torn, again.BadAt)
			}
		})
	}
}

func TestHalfWrittenRecordIsTakenBack(t *testing.T) {
	t.Parallel()
	d := journaltest.New()
	j, _ := journal.Open(d, "/data/j", "/run")
	recs := journaltest.Records()
	if err := j.Append(true, recs[0]); err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(d.Files["/data/j"])
	d.Full = "/data"
	if err := j.Append(true, recs[1]); !errors.Is(err, tune.ErrStorage) {
		t.Errorf("got %v", err)
	}
	if !bytes.Equal(before, d.Files["/data/j"]) {
		t.Error("half a record stays")
	}
	d.Full = ""
	if err := j.Append(true, recs[1:]...); err != nil {
		t.Fatal(err)
	}
	if s := journal.Scan(d.Files["/data/j"]); len(s.Records) != 3 || s.BadAt >= 0 {
		t.Errorf("%+v", s)
	}
	d.Dead = "/data"
	if err := j.Append(true, recs[2]); !errors.Is(err, tune.ErrStorage) {
		t.Errorf("got %v", err)
	}
	d.Dead = ""
	if err := j.Append(true, recs[2]); !errors.Is(err, tune.ErrStorage) {
		t.Errorf("a file that lost a sync is trusted again: %v", err)
	}
}

// TestFoldLaws: whatever the records, the original of an entry is its first old value, a closed rollout
// holds nothing, and folding the same journal twice gives the same.
func TestFoldLaws(t *testing.T) {
	t.Parallel()
	kinds := []journal.Kind{journal.Intent, journal.Intent, journal.Done, journal.Again, journal.Reverted, journal.Restored, journal.Yielded, journal.Gone, journal.Committed,
		journal.Persisting, journal.Persisted, journal.Unpersisted, journal.Closed}
	rapid.Check(t, func(rt *rapid.T) {
		recs := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) journal.Record {
			v := func(label string) tune.Value { return tune.Value(fmt.Sprint(rapid.IntRange(0, 4).Draw(rt, label))) }
			return journal.Record{Kind: rapid.SampledFrom(kinds).Draw(rt, "kind"), Rollout: rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "rollout"),
				Tunable: rapid.SampledFrom([]string{"x", "y"}).Draw(rt, "tunable"), Target: "host", How: &journal.How{}, Boot: "boot",
				Old: v("old"), New: v("new"), ReadBack: v("read back")}
		}), 0, 30).Draw(rt, "records")
		s, again := journal.NewState(), journal.NewState()
		first := map[[2]string]tune.Value{}
		for _, r := range recs {
			s.Fold(r)
			again.Fold(r)
			key := [2]string{r.Rollout, r.Tunable}
			if _, seen := first[key]; !seen && r.Kind == journal.Intent {
				first[key] = r.Old
			}
		}
		if d := cmp.Diff(s.Managed("boot", true), again.Managed("boot", true)); d != "" {
			rt.Fatal(d)
		}
		for _, m := range s.Managed("boot", true) {
			if want := first[[2]string{m.Rollout, m.Tunable}]; m.Original != want {
				rt.Fatalf("original of %+v should be %q", m, want)
			}
			ro := s.Rollouts[m.Rollout]
			// Restored, but listed while a file of its rollout would set it again at the next boot.
			fileStays := m.State == "persisted" && ro.Outlives()
			if ro.Closed || ro.Entry(m.Tunable, "host").End == journal.Restored && !fileStays {
				rt.Fatalf("%+v is held by something ended", m)
			}
		}
		if len(s.Managed("another boot", true)) > 0 && !slices.ContainsFunc(s.Open(), (*journal.Rollout).Outlives) {
			rt.Fatal("held over a boot without being persisted")
		}
	})
}

func TestOursElementByElement(t *testing.T) {
	t.Parallel()
	en := &journal.Entry{Old: "1 2 3", Wrote: []tune.Value{"4 5 6", "7 8 9"}}
	for live, want := range map[tune.Value]bool{
		"1 2 3": true, "7 8 9": true, "4 2 9": true, "1 5 3": true, "1 2 4": false, "2 1 3": false, "1 2": true, "": false, "1 2 3 4": false,
	} {
		if got := en.Ours(live); got != want {
			t.Errorf("ours(%q) is %v", live, got)
		}
	}
	scalar := &journal.Entry{Old: "1", Wrote: []tune.Value{"2"}}
	if scalar.Ours("3") || !scalar.Ours("2") {
		t.Error("scalar")
	}
}

func FuzzJournal(f *testing.F) {
	data, ends := journaltest.Bytes(f, journaltest.Records())
	f.Add(data)
	f.Add(data[:ends[1]-7])
	f.Add([]byte("{}\n{\"crc32c\":\"00000000\",\"record\":{}}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := journal.Scan(data)
		if s.Good+s.Torn != int64(len(data)) {
			t.Fatalf("good %d and torn %d of %d bytes", s.Good, s.Torn, len(data))
		}
		state := journal.NewState()
		for _, r := range s.Records {
			state.Fold(r)
			line, err := journal.Encode(r)
			if err != nil {
				t.Fatal(err)
			}
			back, err := journal.Decode(bytes.TrimSuffix(line, []byte("\n")))
			if err != nil {
				t.Fatalf("own line is not read: %v", err)
			}
			if a, b := mustJSON(t, r), mustJSON(t, back); a != b {
				t.Fatalf("%s\n%s", a, b)
			}
		}
		state.Managed("b", true)
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

package audit

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"semantos/internal/tune"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// chained gives n records as bytes, and their heads.
func chained(t testing.TB, n int) (data []byte, heads []Head) {
	t.Helper()
	prev := origin()
	for i := range n {
		half := 0.5
		r := Record{Seq: prev.Seq + 1, Time: noon.Add(time.Duration(i) * time.Second), Boot: "b", Prev: prev.Hash,
			Entry: Entry{Kind: Wrote, Actor: "guard", Rollout: "r", Tunable: "vm.swappiness", Target: "host", Old: "60",
				New: tune.Value(fmt.Sprint(i)), Numbers: &Numbers{Metric: "p95_ms", Ratio: &half}}}
		text, hash, err := encode(r)
		if err != nil {
			t.Fatal(err)
		}
		data = append(data, text...)
		prev = Head{Seq: r.Seq, Hash: hash}
		heads = append(heads, prev)
	}
	return data, heads
}

func TestRecordRoundTrip(t *testing.T) {
	t.Parallel()
	share := 5.0
	want := Record{Seq: 7, Time: noon, Boot: "b", Prev: strings.Repeat("ab", 32), Entry: Entry{Kind: Stage, Actor: "uid 0", Rollout: "r-1",
		Recommendation: "r", Reason: "fail", Detail: "worse \x00\n<>&\u2028", Changes: []Change{{Tunable: "a", New: "1"}},
		Numbers: &Numbers{Share: &share}, Span: &Span{Records: 3}}}
	text, hash, err := encode(want)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(text), "\n") != 1 {
		t.Errorf("a record is one line: %q", text)
	}
	got, said, err := decode(text[:len(text)-1])
	if err != nil || said != hash {
		t.Fatalf("%v, %s", err, said)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	want.Detail = strings.Repeat("\x00", maxLine)
	if _, _, err := encode(want); !errors.Is(err, tune.ErrOutOfRange) {
		t.Errorf("got %v", err)
	}
}

func TestParseHead(t *testing.T) {
	t.Parallel()
	full := strings.Repeat("0a", 32)
	for text, want := range map[string]Head{
		"12:" + full: {Seq: 12, Hash: full}, full: {Hash: full}, strings.ToUpper(full): {Hash: full}, full[:12]: {Hash: full[:12]},
	} {
		if got, err := ParseHead(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "12", "12:", "0:" + full, "-1:" + full, full + "0", full[:11], "12:xyz" + full[3:], "a:" + full} {
		if _, err := ParseHead(text); !errors.Is(err, tune.ErrUsage) || text != "" && !strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if h := (Head{}); h.String() != "" {
		t.Error("no head has a name")
	}
}

package audit

import (
	"errors"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"semantos/internal/tune"
)

func TestOnlyDecisionsMayBeTold(t *testing.T) {
	t.Parallel()
	ok := Entry{Kind: Gate, Actor: "uid 0", Rollout: "r", Reason: "vetoed"}
	if err := ok.Check(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Entry){
		"a deed":             func(e *Entry) { e.Kind = Wrote },
		"a gap":              func(e *Entry) { e.Kind = Gap },
		"no kind":            func(e *Entry) { e.Kind = "" },
		"nobody":             func(e *Entry) { e.Actor = "" },
		"a long word":        func(e *Entry) { e.Rollout = strings.Repeat("x", maxWord+1) },
		"a long detail":      func(e *Entry) { e.Detail = strings.Repeat("x", maxDetail+1) },
		"no UTF-8":           func(e *Entry) { e.Reason = "\xff" },
		"no UTF-8 in detail": func(e *Entry) { e.Detail = "\xff" },
		"files":              func(e *Entry) { e.Files = []string{"/etc/passwd"} },
		"a read-back":        func(e *Entry) { e.ReadBack = "1" },
		"a span":             func(e *Entry) { e.Span = &Span{} },
		"many changes":       func(e *Entry) { e.Changes = make([]Change, maxChanges+1) },
		"a long change":      func(e *Entry) { e.Changes = []Change{{New: tune.Value(strings.Repeat("1", maxWord+1))}} },
	} {
		e := ok
		spoil(&e)
		if err := e.Check(); !errors.Is(err, tune.ErrUsage) && !errors.Is(err, tune.ErrOutOfRange) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestClipMakesAnyTextFit(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é\xff", 5000)
	e := Entry{Kind: Stage, Actor: long, Reason: long, Detail: long, New: tune.Value(long)}
	for range maxChanges + 5 {
		e.Changes = append(e.Changes, Change{Tunable: long, New: tune.Value(long)})
	}
	got := e.Clip()
	if err := got.Check(); err != nil {
		t.Fatal(err)
	}
	if !utf8.ValidString(got.Actor) || !strings.HasSuffix(got.Detail, ellipsis) || e.Actor != long {
		t.Errorf("clipped to %q", got.Actor)
	}
	short := Entry{Kind: Stage, Actor: "uid 0", Detail: "worse"}
	if got := short.Clip(); got.Detail != "worse" || got.Actor != "uid 0" {
		t.Errorf("%+v", got)
	}
}

func TestNumbersHoldWhatJSONCan(t *testing.T) {
	t.Parallel()
	n := NewNumbers(&tune.Effect{Metric: "p95_ms", Ratio: 2, Low: math.NaN(), High: math.Inf(1)})
	if n.Ratio == nil || *n.Ratio != 2 || n.Low != nil || n.High != nil {
		t.Errorf("%+v", n)
	}
	if n := NewNumbers(nil); n.Metric != "" || n.Ratio != nil {
		t.Errorf("%+v", n)
	}
}

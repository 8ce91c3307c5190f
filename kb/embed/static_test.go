package embed

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"semantos/internal/tune"
)

func static(t testing.TB) *Static {
	t.Helper()
	s, err := NewStatic()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestGolden: pieces and vectors are those of the model's own tokenizer in Python, on texts chosen to
// tell tokenizers apart (scripts/distill/golden.py).
func TestGolden(t *testing.T) {
	s := static(t)
	names := make([]string, len(s.scales))
	for piece, id := range s.tokens.first {
		names[id] = piece
	}
	for piece, id := range s.tokens.rest {
		names[id] = "##" + piece
	}
	file, err := os.Open("testdata/golden.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	n, vectors := 0, 0
	for lines := bufio.NewScanner(file); lines.Scan(); n++ {
		var want struct {
			Text   string    `json:"text"`
			Pieces []string  `json:"pieces"`
			Vector []float32 `json:"vector"`
		}
		if err := json.Unmarshal(lines.Bytes(), &want); err != nil {
			t.Fatal(err)
		}
		got := []string{}
		for _, id := range s.tokens.tokenize(want.Text) {
			if id == unknownToken {
				got = append(got, "[UNK]")
			} else {
				got = append(got, names[id])
			}
		}
		if !slices.Equal(got, want.Pieces) {
			t.Errorf("%q is cut to %q, Python cuts to %q", want.Text, got, want.Pieces)
		}
		if want.Vector == nil {
			continue
		}
		vectors++
		v, err := s.Embed(context.Background(), []string{want.Text})
		if err != nil {
			t.Fatal(err)
		}
		for i := range want.Vector {
			if math.Abs(float64(v[0][i]-want.Vector[i])) > 2e-5 {
				t.Fatalf("%q: element %d is %v, Python has %v", want.Text, i, v[0][i], want.Vector[i])
			}
		}
	}
	if n < 300 || vectors < 5 {
		t.Fatalf("golden file has %d texts and %d vectors", n, vectors)
	}
}

func TestMeaningIsNear(t *testing.T) {
	v, err := static(t).Embed(context.Background(), []string{
		"the computer swaps all the time", "memory pages go to the swap disk and come back", "the choir sang in the old church",
	})
	if err != nil {
		t.Fatal(err)
	}
	near, far := product(v[0], v[1]), product(v[0], v[2])
	if near < far+0.2 {
		t.Errorf("related texts are %.2f near, unrelated ones %.2f", near, far)
	}
}

func TestTableFitsTheBinary(t *testing.T) {
	if n := len(staticTable); n > 10<<20 {
		t.Errorf("the table has %d bytes; at most 10 MiB go into the binary", n)
	}
}

func TestNoDirectionIsAnError(t *testing.T) {
	s := static(t)
	for _, text := range []string{"", " \t\n", "\u200b\ufeff", strings.Repeat("x", 200), "\U0001F600"} {
		got, err := s.Embed(context.Background(), []string{"good", text})
		if !errors.Is(err, tune.ErrUsage) || !strings.Contains(err.Error(), "number 2") {
			t.Errorf("%q: %v, %v; want an error of wrong usage that names text number 2", text, got, err)
		}
	}
	if got, err := s.Embed(context.Background(), nil); err != nil || len(got) != 0 {
		t.Errorf("no texts: %v, %v", got, err)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := static(t).Embed(ctx, []string{"a text"}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestAnyTextIsUnitOrRefused: whatever the text, a vector is finite and of length 1, and the same twice.
func TestAnyTextIsUnitOrRefused(t *testing.T) {
	s := static(t)
	rapid.Check(t, func(rt *rapid.T) {
		text := string(rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(rt, "bytes")) + rapid.String().Draw(rt, "text")
		v, err := s.Embed(context.Background(), []string{text})
		if err != nil {
			if !errors.Is(err, tune.ErrUsage) {
				rt.Fatalf("%q: %v", text, err)
			}
			return
		}
		if len(v[0]) != s.Dim() || math.Abs(product(v[0], v[0])-1) > 1e-5 {
			rt.Fatalf("%q: length %v of %d elements", text, product(v[0], v[0]), len(v[0]))
		}
		again, _ := s.Embed(context.Background(), []string{text})
		if !slices.Equal(v[0], again[0]) {
			rt.Fatalf("%q: not the same twice", text)
		}
	})
}

func TestConcurrentReaders(t *testing.T) {
	s := static(t)
	want, err := s.Embed(context.Background(), []string{"redis latency after fork"})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				if v, err := s.Embed(context.Background(), []string{"redis latency after fork"}); err != nil || !slices.Equal(v[0], want[0]) {
					t.Errorf("another vector from another goroutine: %v", err)
				}
			}
		})
	}
	all.Wait()
}

func TestDamagedTableIsRefused(t *testing.T) {
	for name, data := range map[string]string{
		"empty": "", "cut": staticTable[:1<<20], "another magic": "X" + staticTable[1:], "longer": staticTable + "x",
		"header": staticTable[:8] + "\xff\xff\xff\xff" + staticTable[12:], "no tokens": staticTable[:8] + "\x00\x00\x00\x00" + staticTable[12:],
	} {
		if _, err := parseStatic(data); !errors.Is(err, tune.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCostGrowsWithTheText: a text of 64 times the tokens takes about 64 times as long, not the square.
func TestCostGrowsWithTheText(t *testing.T) {
	s := static(t)
	sentence := "nginx drops new connections during bursts of traffic "
	cost := func(text string, rounds int) time.Duration {
		least := time.Hour
		for range 5 {
			start := time.Now()
			for range rounds {
				if _, err := s.Embed(context.Background(), []string{text}); err != nil {
					t.Fatal(err)
				}
			}
			least = min(least, time.Since(start))
		}
		return least / time.Duration(rounds)
	}
	short, long := cost(sentence, 640), cost(strings.Repeat(sentence, 64), 10)
	if ratio := float64(long) / float64(short); ratio > 200 {
		t.Errorf("64 times the text takes %.0f times as long", ratio)
	}
	huge := cost(strings.Repeat(sentence, 400_000), 1) // 20 MB: only the first 64 KiB are read
	if ratio := float64(huge) / float64(long); ratio > 200 {
		t.Errorf("a text of 20 MB takes %.0f times as long as one of 3 KB", ratio)
	}
}

func product(a, b []float32) float64 {
	sum := 0.0
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

func BenchmarkStatic(b *testing.B) {
	s := static(b)
	text := []string{"nginx drops new connections during bursts and kswapd eats a whole core of the machine"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Embed(context.Background(), text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		static(b)
	}
}

package vector

import (
	"encoding/binary"
	"math"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestAgainstBrute: after any run of upserts, deletes and compactions, with any filter, an exact
// index answers what a plain loop over a map answers, and a graph index nothing that is not stored.
func TestAgainstBrute(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom([]string{KindExact, KindGraph, KindCoder}).Draw(t, "kind")
		dim := rapid.IntRange(1, 40).Draw(t, "dim")
		x, err := New(Config{Dim: dim, Kind: kind})
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		x.from = 16 // build early, so that small cases reach the walker
		stored := map[string][]float32{}
		element := rapid.Custom(func(t *rapid.T) float32 { return float32(rapid.IntRange(-3, 3).Draw(t, "x")) })
		vector := rapid.Custom(func(t *rapid.T) []float32 {
			v := rapid.SliceOfN(element, dim, dim).Draw(t, "v")
			v[rapid.IntRange(0, dim-1).Draw(t, "one")] = 1 // never all zeros
			return v
		})
		for range rapid.IntRange(0, 80).Draw(t, "steps") {
			id := strconv.Itoa(rapid.IntRange(0, 60).Draw(t, "id"))
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0, 1:
				if err := x.Delete(id); err != nil {
					t.Fatal(err)
				}
				delete(stored, id)
			case 2:
				if err := x.Build(t.Context()); err != nil {
					t.Fatal(err)
				}
			default:
				v := vector.Draw(t, "vector")
				if err := x.Upsert(id, v); err != nil {
					t.Fatal(err)
				}
				stored[id] = v
			}
		}
		var keep func(string) bool
		if last := rapid.IntRange(0, 12).Draw(t, "keep"); last < 10 {
			keep = func(id string) bool { return strings.HasSuffix(id, strconv.Itoa(last)) }
		}
		q, k := vector.Draw(t, "query"), rapid.IntRange(0, 70).Draw(t, "k")
		got, err := x.Search(q, k, keep)
		if err != nil || x.Len() != len(stored) {
			t.Fatalf("%v; %d stored, want %d", err, x.Len(), len(stored))
		}
		compare(t, got, brute(stored, q, k, keep), stored, q, keep)
	})
}

// compare allows for float32: equal distances in the truth may come a rounding apart.
func compare(t *rapid.T, got, want []Match, stored map[string][]float32, q []float32, keep func(string) bool) {
	if len(got) != len(want) {
		t.Fatalf("%d answers, want %d: %v, %v", len(got), len(want), got, want)
	}
	for i, m := range got {
		v, ok := stored[m.ID]
		if !ok || keep != nil && !keep(m.ID) {
			t.Fatalf("%s is not stored or not wanted", m.ID)
		}
		if math.Abs(distance(q, v)-float64(m.Distance)) > 1e-5 || math.Abs(float64(m.Distance-want[i].Distance)) > 1e-5 {
			t.Fatalf("answer %d: %v, want %v", i, m, want[i])
		}
		if i > 0 && (got[i-1].Distance > m.Distance || got[i-1].Distance == m.Distance && got[i-1].ID >= m.ID) {
			t.Fatalf("answers %d and %d out of order: %v", i-1, i, got)
		}
	}
}

// FuzzIndex: whatever bytes say, the index answers or refuses; it never panics and never stores what
// has no direction.
func FuzzIndex(f *testing.F) {
	f.Add([]byte{0}, uint8(0))
	f.Add([]byte("semantos walks a graph of vectors, whatever these bytes happen to mean"), uint8(2))
	f.Add(binary.LittleEndian.AppendUint32([]byte{1, 2, 3, 4}, math.Float32bits(float32(math.NaN()))), uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, kind uint8) {
		x, err := New(Config{Dim: 2, Kind: []string{KindExact, KindGraph, KindCoder, KindAuto}[kind%4]})
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		x.from = 8
		for ; len(b) >= 10; b = b[10:] {
			v := []float32{math.Float32frombits(binary.LittleEndian.Uint32(b[2:])), math.Float32frombits(binary.LittleEndian.Uint32(b[6:]))}
			id, k := string(b[:1]), int(int8(b[1]))
			switch b[1] % 4 {
			case 0:
				_ = x.Delete(id)
			case 1:
				if got, err := x.Search(v, k, nil); err == nil && len(got) > max(k, 0) {
					t.Fatalf("%d answers for k %d", len(got), k)
				}
			default:
				_ = x.Upsert(id, v[:min(2, int(b[1]%5))])
			}
		}
		got, err := x.Search([]float32{1, 0}, 300, nil)
		if err != nil || len(got) != x.Len() {
			t.Fatalf("%d of %d answered, %v", len(got), x.Len(), err)
		}
		for _, m := range got {
			if !(m.Distance >= 0 && m.Distance <= 2) {
				t.Fatalf("%+v", m)
			}
		}
	})
}

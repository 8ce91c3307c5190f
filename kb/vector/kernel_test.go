package vector

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestKernels: the assembly computes what the plain loops compute, at every width that matters.
func TestKernels(t *testing.T) {
	t.Logf("loops: %s", detect().name)
	sameLoops(t, detect(), portable())
}

func sameLoops(t *testing.T, fast, plain kernels) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, width := range []int{32, 64, 96, 256, 384, 1536} {
		const rows = 64
		codes, q := make([]int8, rows*width), make([]int16, width)
		limit := queryLimit(width)
		for i := range codes {
			codes[i] = int8(rng.IntN(255) - 127)
		}
		for i := range q {
			q[i] = int16(rng.IntN(2*limit+1) - limit)
		}
		scale, slack := make([]float32, rows), make([]float32, rows)
		ids := make([]uint32, 32)
		for i := range scale {
			scale[i], slack[i] = rng.Float32(), rng.Float32()
		}
		for i := range ids {
			ids[i] = uint32(rng.IntN(rows))
		}
		got, want := make([]float32, rows), make([]float32, rows)
		fast.scan(q, codes, width, rows, 1e-4, scale, slack, got)
		plain.scan(q, codes, width, rows, 1e-4, scale, slack, want)
		for i := range got {
			if diff := math.Abs(float64(got[i] - want[i])); diff > 1e-5*math.Abs(float64(want[i]))+1e-5 {
				t.Fatalf("width %d: scan row %d: %v, want %v", width, i, got[i], want[i])
			}
		}
		sums, wantSums := make([]int32, len(ids)), make([]int32, len(ids))
		fast.gather(q, codes, width, ids, sums)
		plain.gather(q, codes, width, ids, wantSums)
		for i := range sums {
			if sums[i] != wantSums[i] {
				t.Fatalf("width %d: gather %d: %d, want %d", width, i, sums[i], wantSums[i])
			}
		}
		a, b := codes[:width], codes[width:2*width]
		if got, want := fast.pair(a, b), plain.pair(a, b); got != want {
			t.Fatalf("width %d: pair: %d, want %d", width, got, want)
		}
		x, y := make([]float32, width), make([]float32, width)
		for i := range x {
			x[i], y[i] = rng.Float32()-0.5, rng.Float32()-0.5
		}
		if got, want := fast.dot(x, y), plain.dot(x, y); math.Abs(float64(got-want)) > 1e-4 {
			t.Fatalf("width %d: dot: %v, want %v", width, got, want)
		}
	}
}

// TestQueryLimit: the widest sums an int32 has to hold do fit.
func TestQueryLimit(t *testing.T) {
	for width := widthStep; width <= 65536; width += widthStep {
		if limit := queryLimit(width); limit < 127 || int64(limit)*127*int64(width) > math.MaxInt32 {
			t.Fatalf("width %d: limit %d overflows or is coarser than the codes", width, limit)
		}
	}
	if k := portable(); k.name != "go" {
		t.Fatal(k.name)
	}
}

package probe_test

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"semantos/ebpf/probe"
	"semantos/ebpf/probetest"
)

// top is where the last bucket ends: what is longer counts in it.
const top = uint64(1) << 40

// values draws waits of all magnitudes alike.
func values() *rapid.Generator[uint64] {
	return rapid.Custom(func(t *rapid.T) uint64 {
		bits := rapid.IntRange(0, 40).Draw(t, "bits")
		return rapid.Uint64Range(0, 1<<bits-1).Draw(t, "value")
	})
}

func count(vs []uint64) probe.Hist {
	var r probe.Raw
	for _, v := range vs {
		r.Sum += v
		r.Buckets[probe.Bucket(v)]++
	}
	return probe.Of(r)
}

func hists() *rapid.Generator[probe.Hist] {
	return rapid.Map(rapid.SliceOfN(values(), 0, 40), count)
}

func same(a, b probe.Hist) bool { return a.Sum == b.Sum && slices.Equal(a.Bins, b.Bins) }

func TestBucket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := values().Draw(t, "v")
		b := probe.Bucket(v)
		low, high := probe.Bounds(b)
		if v < low || v >= high {
			t.Fatalf("%d is in bucket %d, of %d to %d", v, b, low, high)
		}
		if b < 16 && high-low != 1 || b >= 16 && float64(high-low)/float64(low) > 1./16 {
			t.Fatalf("bucket %d from %d to %d is too wide", b, low, high)
		}
		if b > 0 {
			if _, before := probe.Bounds(b - 1); before != low {
				t.Fatalf("bucket %d ends at %d, the next begins at %d", b-1, before, low)
			}
		}
	})
	for _, v := range []uint64{top, top + 1, math.MaxUint64} {
		if b := probe.Bucket(v); b != probe.Buckets-1 {
			t.Errorf("%d is in bucket %d, not in the last", v, b)
		}
	}
	if _, high := probe.Bounds(probe.Buckets - 1); high != top {
		t.Errorf("the last bucket ends at %d", high)
	}
}

// TestQuantile holds quantiles against the sorted values: true to 3/64 whatever their distribution.
func TestQuantile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		vs := rapid.SliceOfN(values(), 1, 200).Draw(t, "values")
		if rapid.Bool().Draw(t, "all alike") {
			for i := range vs {
				vs[i] = vs[0]
			}
		}
		q := rapid.SampledFrom([]float64{0.01, 0.5, 0.9, 0.95, 0.99, 0.999, 1}).Draw(t, "q")
		h := count(vs)
		slices.Sort(vs)
		want := float64(vs[max(0, int(math.Ceil(q*float64(len(vs))))-1)])
		if got := h.Quantile(q); math.Abs(got-want) > want*3/64+1e-9 {
			t.Fatalf("quantile %g of %d values is %g, want %g", q, len(vs), got, want)
		}
	})
	if !math.IsNaN(probe.Hist{}.Quantile(.5)) || !math.IsNaN(probe.Hist{}.Mean()) {
		t.Error("nothing counted has a median or a mean")
	}
}

func TestMean(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		vs := rapid.SliceOfN(values(), 1, 50).Draw(t, "values")
		var sum uint64
		for _, v := range vs {
			sum += v
		}
		h := count(vs)
		if h.Count() != uint64(len(vs)) || h.Mean() != float64(sum)/float64(len(vs)) {
			t.Fatalf("%d values of mean %g", h.Count(), h.Mean())
		}
	})
}

func TestAdd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := hists().Draw(t, "a"), hists().Draw(t, "b"), hists().Draw(t, "c")
		if !same(a.Add(b), b.Add(a)) || !same(a.Add(b).Add(c), a.Add(b.Add(c))) || !same(a.Add(probe.Hist{}), a) {
			t.Fatal("the order of adding matters")
		}
		if !slices.IsSortedFunc(a.Add(b).Bins, func(x, y probe.Bin) int { return int(x.Bucket) - int(y.Bucket) }) {
			t.Fatal("not sorted")
		}
	})
}

func TestSince(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := hists().Draw(t, "a"), hists().Draw(t, "b")
		if got := a.Add(b).Since(a); !same(got, b) {
			t.Fatalf("what was added is %+v, want %+v", got, b)
		}
		// Made anew: unless what is there now could have grown from what was there, all of it is new.
		if grown := grownFrom(b, a); !grown && !same(b.Since(a), b) {
			t.Fatalf("%+v since %+v is %+v", b, a, b.Since(a))
		}
	})
}

func grownFrom(now, before probe.Hist) bool {
	if now.Sum < before.Sum {
		return false
	}
	for _, x := range before.Bins {
		i := slices.IndexFunc(now.Bins, func(y probe.Bin) bool { return y.Bucket == x.Bucket })
		if i < 0 || now.Bins[i].Count < x.Count {
			return false
		}
	}
	return true
}

func TestBelow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		vs := rapid.SliceOfN(values(), 0, 60).Draw(t, "values")
		h := count(vs)
		a, b := values().Draw(t, "a"), values().Draw(t, "b")
		if na, nb := h.Below(min(a, b)), h.Below(max(a, b)); na > nb || nb > float64(len(vs)) {
			t.Fatalf("%g below %d, %g below %d, of %d", na, min(a, b), nb, max(a, b), len(vs))
		}
		bound, _ := probe.Bounds(probe.Bucket(a))
		want := 0
		for _, v := range vs {
			if v < bound {
				want++
			}
		}
		if got := h.Below(bound); got != float64(want) {
			t.Fatalf("%g below the bucket at %d, want %d", got, bound, want)
		}
		for _, far := range []uint64{top, 2 * top, math.MaxUint64} {
			if got := h.Below(far); got != float64(len(vs)) {
				t.Fatalf("%g below %d, want %d", got, far, len(vs))
			}
		}
	})
}

// TestKernel holds that C and Go count alike, in the shared histogram and in those of each CPU.
func TestKernel(t *testing.T) {
	c := probetest.NewArithmetic(t)
	var want probe.Raw
	ask := func(t interface{ Fatalf(string, ...any) }, v uint64) {
		got, err := c.Bucket(v)
		if err != nil {
			t.Fatalf("%v", err)
		}
		if got != uint64(probe.Bucket(v)) {
			t.Fatalf("%d: C says bucket %d, Go %d", v, got, probe.Bucket(v))
		}
		want.Sum += v
		want.Buckets[probe.Bucket(v)]++
	}
	for bit := range 64 {
		v := uint64(1) << bit
		ask(t, v-1)
		ask(t, v)
		ask(t, v+1)
	}
	rapid.Check(t, func(rt *rapid.T) { ask(rt, values().Draw(rt, "v")) })
	rapid.Check(t, func(rt *rapid.T) { ask(rt, rapid.Uint64().Draw(rt, "v")) })
	shared, local := c.Hists(t)
	if !same(shared, probe.Of(want)) || !same(local, probe.Of(want)) {
		t.Error("the histograms differ from what was asked")
	}
}

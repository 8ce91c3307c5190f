package probe

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
)

// The shape of a histogram, as in headers/hist.h.
const (
	subBits = 4
	sub     = 1 << subBits
	maxBits = 40
	// Buckets is how many a histogram has.
	Buckets = (maxBits - subBits + 1) * sub
)

// Raw is a histogram as the kernel keeps it (struct hist).
type Raw struct {
	Sum     uint64
	Buckets [Buckets]uint64
}

// Bin is one bucket that is not empty.
type Bin struct {
	Bucket uint16
	Count  uint64
}

// Hist is a log-linear histogram of cumulative counts, with only the buckets that are not empty, sorted.
// Values are nanoseconds unless a probe says otherwise; a quantile is true to 3/64 (4.7 %) of itself. The zero
// value is empty. Methods do not change their receiver.
type Hist struct {
	Sum  uint64
	Bins []Bin
}

// Of keeps what a raw histogram counted; several (one per CPU) are added up.
func Of(raw ...Raw) Hist {
	return Sum(len(raw), func(i int) *Raw { return &raw[i] })
}

// Sum adds up n raw histograms where they lie: hundreds of CPUs have one each, of some kilobytes.
func Sum(n int, of func(i int) *Raw) Hist {
	var h Hist
	var counts [Buckets]uint64
	for i := range n {
		raw := of(i)
		h.Sum += raw.Sum
		for b, c := range raw.Buckets {
			counts[b] += c
		}
	}
	for b, c := range counts {
		if c > 0 {
			h.Bins = append(h.Bins, Bin{uint16(b), c})
		}
	}
	return h
}

// Bucket says where a value is counted.
func Bucket(v uint64) int {
	if v < sub {
		return int(v)
	}
	msb := bits.Len64(v) - 1
	return min((msb-subBits+1)*sub+int(v>>(msb-subBits)&(sub-1)), Buckets-1)
}

// Bounds gives the values a bucket counts: low <= v < high.
func Bounds(bucket int) (low, high uint64) {
	if bucket < sub {
		return uint64(bucket), uint64(bucket) + 1
	}
	octave, part := bucket/sub, uint64(bucket%sub)
	width := uint64(1) << (octave - 1)
	low = (sub + part) * width
	return low, low + width
}

// Count is how many values were counted.
func (h Hist) Count() uint64 {
	var n uint64
	for _, b := range h.Bins {
		n += b.Count
	}
	return n
}

// Quantile gives the value below which the share q in (0,1] of the counted values lies; NaN when nothing
// was counted. It is placed in the middle half of its bucket in proportion, so that it moves with small
// shifts, and is off by 3/64 at most even when all values lie at one edge of the bucket.
func (h Hist) Quantile(q float64) float64 {
	total := h.Count()
	if total == 0 {
		return math.NaN()
	}
	want, seen := q*float64(total), 0.0
	for _, b := range h.Bins {
		n := float64(b.Count)
		if seen+n >= want {
			low, high := Bounds(int(b.Bucket))
			if high-low <= 1 {
				return float64(low)
			}
			return float64(low) + float64(high-low)*(0.25+0.5*max(0, want-seen)/n)
		}
		seen += n
	}
	_, high := Bounds(int(h.Bins[len(h.Bins)-1].Bucket))
	return float64(high)
}

// Mean is the mean of the counted values, exact; NaN when nothing was counted.
func (h Hist) Mean() float64 { return float64(h.Sum) / float64(h.Count()) }

// Add joins two histograms.
func (h Hist) Add(o Hist) Hist {
	return Hist{Sum: h.Sum + o.Sum, Bins: combine(h.Bins, o.Bins, func(a, b uint64) uint64 { return a + b })}
}

// Since gives what was counted after an earlier reading of the same histogram. A bucket that went back
// was made anew meanwhile: then everything in h is new.
func (h Hist) Since(earlier Hist) Hist {
	if h.Sum < earlier.Sum {
		return h
	}
	back := false
	bins := combine(h.Bins, earlier.Bins, func(now, before uint64) uint64 {
		back = back || now < before
		return now - before
	})
	if back {
		return h
	}
	return Hist{Sum: h.Sum - earlier.Sum, Bins: bins}
}

// combine walks two sorted lists; what becomes zero is left out.
func combine(a, b []Bin, f func(a, b uint64) uint64) []Bin {
	out := make([]Bin, 0, max(len(a), len(b)))
	put := func(bucket uint16, n uint64) {
		if n > 0 {
			out = append(out, Bin{bucket, n})
		}
	}
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].Bucket < b[0].Bucket:
			put(a[0].Bucket, f(a[0].Count, 0))
			a = a[1:]
		case len(a) == 0 || b[0].Bucket < a[0].Bucket:
			put(b[0].Bucket, f(0, b[0].Count))
			b = b[1:]
		default:
			put(a[0].Bucket, f(a[0].Count, b[0].Count))
			a, b = a[1:], b[1:]
		}
	}
	return out
}

// Below counts the values under a bound, for cumulative buckets of other shapes: the share of the
// bucket that holds the bound is taken in proportion.
func (h Hist) Below(bound uint64) float64 {
	at, _ := slices.BinarySearchFunc(h.Bins, Bucket(bound), func(b Bin, want int) int { return cmp.Compare(int(b.Bucket), want) })
	n := 0.0
	for _, b := range h.Bins[:at] {
		n += float64(b.Count)
	}
	if at < len(h.Bins) && int(h.Bins[at].Bucket) == Bucket(bound) {
		low, high := Bounds(Bucket(bound))
		n += float64(h.Bins[at].Count) * min(1, float64(bound-low)/float64(high-low)) // the last has no end
	}
	return n
}

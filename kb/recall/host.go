package recall

import (
	"fmt"
	"math"
	"strings"

	"semantos/internal/tune"
)

// hostFeatures are what makes two hosts alike for a tunable, -1 where unknown.
type hostFeatures struct {
	cpus, memory, nodes, swap, rotational, kernel float32
	arch, virt                                    uint8 // interned words, 0 unknown
}

// words interns the few words hosts are described by.
type words struct {
	index map[string]uint8
}

func (w *words) of(s string) uint8 {
	if s == "" {
		return 0
	}
	if n, ok := w.index[s]; ok {
		return n
	}
	if len(w.index) >= math.MaxUint8-1 {
		return math.MaxUint8 // more kinds than there are: all unlike each other is close enough
	}
	n := uint8(len(w.index) + 1)
	w.index[s] = n
	return n
}

func (w *words) features(f tune.Facts) hostFeatures {
	num := func(name string) float32 {
		v, ok := f.Num[name]
		if !ok || !(v >= 0) || math.IsInf(v, 0) {
			return -1
		}
		return float32(v)
	}
	logged := func(name string) float32 {
		v := num(name)
		if v < 0 {
			return -1
		}
		return float32(math.Log(max(1, float64(v))))
	}
	return hostFeatures{cpus: logged("cpus"), memory: logged("mem_total_bytes"), nodes: num("numa_nodes"),
		swap: num("swap_total_bytes"), rotational: num("rotational_any"), kernel: num("kernel"),
		arch: w.of(f.Text["arch"]), virt: w.of(f.Text["virt"])}
}

// LeastAlike is the similarity below which a host's traces say too little to be shown.
const LeastAlike = 0.3

// alike is how much a trace of host b says about host a, in [0,1]: sizes by their ratio (a factor of 8
// in CPUs or 16 in memory costs half of what is left beyond e-folding), the rest by equality. What one
// of them does not know costs a little, since it may differ.
func alike(a, b hostFeatures) float64 {
	s := 1.0
	ratio := func(x, y float32, scale float64) {
		if x < 0 || y < 0 {
			s *= unknown
			return
		}
		s *= math.Exp(-math.Abs(float64(x-y)) / math.Log(scale))
	}
	same := func(equal, known bool, penalty float64) {
		switch {
		case !known:
			s *= unknown
		case !equal:
			s *= penalty
		}
	}
	ratio(a.cpus, b.cpus, 8)
	ratio(a.memory, b.memory, 32)
	same((a.nodes > 1) == (b.nodes > 1), a.nodes >= 0 && b.nodes >= 0, 0.5)
	same((a.swap > 0) == (b.swap > 0), a.swap >= 0 && b.swap >= 0, 0.9)
	same(a.rotational == b.rotational, a.rotational >= 0 && b.rotational >= 0, 0.7)
	same(a.arch == b.arch, a.arch > 0 && b.arch > 0, 0.9)
	same(a.virt == b.virt, true, 0.95)
	if a.kernel >= 0 && b.kernel >= 0 {
		// major*1000+minor; ten minor versions are about two years of kernels
		s *= math.Exp(-min(20, math.Abs(float64(a.kernel-b.kernel))) / 40)
	}
	return s
}

const unknown = 0.95

// describeHost says in words where a trace came from.
func describeHost(f tune.Facts) string {
	var parts []string
	if n := f.Num["cpus"]; n > 0 {
		parts = append(parts, fmt.Sprintf("%.0f CPUs", n))
	}
	if n := f.Num["mem_total_bytes"]; n > 0 {
		parts = append(parts, fmt.Sprintf("%.1f GiB", n/(1<<30)))
	}
	if n := f.Num["numa_nodes"]; n > 1 {
		parts = append(parts, fmt.Sprintf("%.0f NUMA nodes", n))
	}
	if len(parts) == 0 {
		return "a host that is not described"
	}
	return strings.Join(parts, ", ")
}

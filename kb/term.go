package kb

import (
	"fmt"
	"strconv"

	"semantos/internal/expr"
	"semantos/internal/tune"
)

// term is one value of an entry: a constant, or an expression over facts. Most are constants, and
// compiling only the others keeps the start of every command short.
type term struct {
	text  string
	num   float64
	konst bool
	prog  *expr.Program
}

func newTerm(env *expr.Env, src string, want expr.Kind) (term, error) {
	if n, err := strconv.ParseFloat(src, 64); err == nil && plainNumber.MatchString(src) {
		return term{text: src, num: n, konst: true}, nil
	}
	p, err := env.Compile(src, want)
	if err != nil {
		return term{}, err
	}
	return term{prog: p}, nil
}

func (t term) number(f tune.Facts) (float64, error) {
	if t.konst {
		return t.num, nil
	}
	return t.prog.Number(expr.Vars{Facts: f})
}

// element gives the value's text, kept digit by digit when it is a constant.
func (t term) element(f tune.Facts) (string, error) {
	if t.konst {
		return t.text, nil
	}
	out, err := t.prog.Values(expr.Vars{Facts: f})
	if err != nil {
		return "", err
	}
	if len(out) != 1 {
		return "", fmt.Errorf("%d values for one element: %w", len(out), tune.ErrType)
	}
	return out[0], nil
}

// bound is a safe range's two ends; a nil end is open.
type bound struct{ min, max *term }

// sampleHosts are a very small and a very large machine. Every expression of an entry must evaluate on
// both: that finds misspelt facts and defaults outside the hard range before a host does.
func sampleHosts() []tune.Facts {
	host := func(mem, cpus, nodes, swap, kernel, zram, rot float64) tune.Facts {
		return tune.Facts{
			Num: map[string]float64{"mem_total_bytes": mem, "cpus": cpus, "numa_nodes": nodes, "swap_total_bytes": swap,
				"page_size": 4096, "kernel": kernel, "is_zram_swap": zram, "rotational_any": rot},
			Text: map[string]string{"kernel": "0.0.0", "arch": "x86_64", "virt": "", "distro": "debian"},
		}
	}
	return []tune.Facts{
		host(1<<28, 1, 1, 0, 4018, 0, 1),
		host(1<<42, 512, 8, 1<<36, 6018, 1, 0),
	}
}

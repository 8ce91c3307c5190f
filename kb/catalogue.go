package kb

import (
	"fmt"
	"math"
	"sort"
	"strings"

	"semantos/internal/expr"
	"semantos/internal/tune"
)

// Catalogue is the loaded set of tunables, with their invariants and edges. It is immutable and safe
// for concurrent use; callers must not alter the tunables it hands out.
type Catalogue struct {
	env        *expr.Env
	items      []*item
	byName     map[string]*item // names, aliases and the paths of plain entries
	templated  []*item
	invariants []invariant
	edges      []tune.Edge
}

// item is a tunable with its compiled terms.
type item struct {
	*tune.Tunable
	defaults []term
	safe     []bound
}

func newCatalogue(env *expr.Env, l *loader) *Catalogue {
	c := &Catalogue{env: env, byName: map[string]*item{}, invariants: l.invariants}
	for _, e := range l.entries {
		it := &item{Tunable: e.tunable, defaults: e.defaults, safe: e.safe}
		c.items = append(c.items, it)
		for _, n := range append([]string{it.Name}, it.Aliases...) {
			c.byName[n] = it
		}
		if it.Templated() {
			c.templated = append(c.templated, it)
		}
	}
	for _, it := range c.items { // paths last: a name is never hidden by another's path
		for _, p := range spellings(it.Tunable) {
			if _, taken := c.byName[p]; !taken {
				c.byName[p] = it
			}
		}
	}
	c.edges = gatherEdges(c.items, l.edges)
	return c
}

// All gives every tunable, sorted by name.
func (c *Catalogue) All() []*tune.Tunable {
	out := make([]*tune.Tunable, len(c.items))
	for i, it := range c.items {
		out[i] = it.Tunable
	}
	return out
}

// Lookup finds a tunable by name, by the name of an instance (block/vda/queue/nr_requests, whose target
// is "vda"), by alias, or by its file (/proc/sys/vm/swappiness). The error of an unknown name hints at
// the nearest ones.
func (c *Catalogue) Lookup(name string) (*tune.Tunable, string, error) {
	name = strings.TrimSpace(name)
	if it, ok := c.byName[name]; ok {
		return it.Tunable, "", nil
	}
	for _, it := range c.templated {
		if target, ok := it.Match(name); ok {
			return it.Tunable, target, nil
		}
		if target, ok := matchFile(it.Tunable, name); ok {
			return it.Tunable, target, nil
		}
	}
	return nil, "", &tune.Error{Op: "look up tunable", Subject: name, Err: tune.ErrUnknown, Hint: c.hint(name)}
}

// spellings are the other ways people write a plain tunable: its file, and a sysctl with slashes.
func spellings(t *tune.Tunable) []string {
	if t.Templated() {
		return nil
	}
	switch t.Method {
	case tune.MethodSysctl:
		return []string{t.Path, "/proc/sys/" + t.Path}
	case tune.MethodSysfs, tune.MethodChoice:
		return []string{"/sys/" + t.Path}
	case tune.MethodDebugfs:
		return []string{"/sys/kernel/debug/" + t.Path}
	case tune.MethodDMALatency:
		return []string{"/dev/cpu_dma_latency"}
	case tune.MethodCgroup:
		return []string{t.Path}
	}
	return nil
}

// matchFile matches a file below /sys, or an alias with {words}, against a templated entry.
func matchFile(t *tune.Tunable, name string) (string, bool) {
	for _, pattern := range append([]string{"/sys/" + t.Path}, t.Aliases...) {
		if target, ok := (&tune.Tunable{Name: pattern}).Match(name); ok && target != "" {
			return target, true
		}
	}
	return "", false
}

func (c *Catalogue) item(t *tune.Tunable) (*item, error) {
	if t != nil {
		if it, ok := c.byName[t.Name]; ok && it.Name == t.Name {
			return it, nil
		}
		return nil, fmt.Errorf("tunable %s: %w", t.Name, tune.ErrUnknown)
	}
	return nil, fmt.Errorf("no tunable: %w", tune.ErrUnknown)
}

// Safe gives what an expert accepts in production on this host, one range per element; nil for words.
// An end the entry leaves open is the hard end, and no range leaves the hard one.
func (c *Catalogue) Safe(t *tune.Tunable, facts tune.Facts) ([]tune.Range, error) {
	it, err := c.item(t)
	if err != nil {
		return nil, err
	}
	return it.safeOn(facts)
}

// Default gives the kernel's own default on this host; [tune.ErrNoData] when the entry has none.
func (c *Catalogue) Default(t *tune.Tunable, facts tune.Facts) (tune.Value, error) {
	it, err := c.item(t)
	if err != nil {
		return "", err
	}
	return it.defaultOn(facts)
}

func (it *item) defaultOn(facts tune.Facts) (tune.Value, error) {
	if len(it.defaults) == 0 {
		return "", fmt.Errorf("default of %s: %w", it.Name, tune.ErrNoData)
	}
	out := make([]string, len(it.defaults))
	for i, d := range it.defaults {
		s, err := d.element(facts)
		if err != nil {
			return "", fmt.Errorf("default of %s: %w", it.Name, err)
		}
		out[i] = s
	}
	return tune.Value(strings.Join(out, " ")), nil
}

func (it *item) safeOn(facts tune.Facts) ([]tune.Range, error) {
	if len(it.Hard) == 0 {
		return nil, nil
	}
	out := make([]tune.Range, max(1, it.Arity))
	for i := range out {
		hard, _ := it.HardAt(i)
		out[i] = hard
		if len(it.safe) == 0 {
			continue
		}
		b := it.safe[min(i, len(it.safe)-1)]
		lo, err := endOn(b.min, facts, hard.Min)
		if err != nil {
			return nil, fmt.Errorf("safe range of %s: %w", it.Name, err)
		}
		hi, err := endOn(b.max, facts, hard.Max)
		if err != nil {
			return nil, fmt.Errorf("safe range of %s: %w", it.Name, err)
		}
		lo, hi = clamp(lo, hard), clamp(hi, hard)
		// On a very small host a fixed floor can pass a ceiling that scales with memory: the ceiling wins.
		out[i] = tune.Range{Min: min(lo, hi), Max: hi}
	}
	return out, nil
}

func endOn(t *term, facts tune.Facts, open float64) (float64, error) {
	if t == nil {
		return open, nil
	}
	n, err := t.number(facts)
	if err == nil && math.IsNaN(n) {
		err = tune.ErrNoData
	}
	return n, err
}

func clamp(x float64, r tune.Range) float64 { return max(r.Min, min(r.Max, x)) }

// hint names up to three catalogued names near an unknown one.
func (c *Catalogue) hint(name string) string {
	type near struct {
		name string
		d    int
	}
	var best []near
	want := strings.ToLower(name)
	for _, it := range c.items {
		for _, n := range append([]string{it.Name}, it.Aliases...) {
			d := distance(want, strings.ToLower(n))
			if strings.Contains(n, want) || strings.HasSuffix(n, lastWord(want)) {
				d = min(d, 2)
			}
			if d <= max(3, len(want)/3) {
				best = append(best, near{it.Name, d})
				break
			}
		}
	}
	sort.SliceStable(best, func(i, j int) bool { return best[i].d < best[j].d })
	if len(best) == 0 {
		return "list the catalogued names with: semantos tunables"
	}
	var names []string
	for _, b := range best[:min(3, len(best))] {
		names = append(names, b.name)
	}
	return "did you mean " + strings.Join(names, ", ") + "?"
}

func lastWord(name string) string {
	i := strings.LastIndexAny(name, "./")
	if i < 0 || i == len(name)-1 {
		return name
	}
	return name[i:]
}

// distance is Levenshtein's, over bytes: names are ASCII.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		last := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next := min(row[j]+1, row[j-1]+1, last+cost)
			last, row[j] = row[j], next
		}
	}
	return row[len(b)]
}

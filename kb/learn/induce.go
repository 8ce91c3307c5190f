package learn

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"

	"gonum.org/v1/gonum/stat/distuv"

	"semantos/internal/tune"
)

// Run is one measurement of a co-tuning sweep: which tunables stood at their tried value (at most two),
// and the metric under them, above 0.
type Run struct {
	On    []string `json:"on"`
	Value float64  `json:"value"`
}

// Sweep is a pairwise co-tuning sweep: runs with nothing changed, with each tunable alone, and with
// pairs. Each pair needs its four cells with at least two runs each.
type Sweep struct {
	Metric string `json:"metric"`
	Better string `json:"better"` // "lower" or "higher"
	Runs   []Run  `json:"runs"`
}

// Options of an induction; zero fields take the defaults.
type Options struct {
	Level     float64 // chance that any edge at all is invented from noise; 0.05
	Resamples int     // bootstrap; 2000
	Seed      uint64
}

// Finding is the interaction of one pair on the log scale: joint effect less the sum of single effects,
// above 0 when together they are better than apart. Low and High are simultaneous bounds over all pairs
// of the sweep: they leave out 0 for a pair without interaction in at most Level of all sweeps.
type Finding struct {
	A           string  `json:"a"`
	B           string  `json:"b"`
	Interaction float64 `json:"interaction"`
	Low         float64 `json:"low"`
	High        float64 `json:"high"`
	Runs        int     `json:"runs"` // of the smallest of the four cells
	Kept        bool    `json:"kept"`
}

// Edge is the edge of a kept finding: a doubling that neither makes alone has weight 1.
func (f Finding) Edge(source string) tune.Edge {
	e := tune.Edge{From: f.A, Type: tune.SynergizesWith, To: f.B, Sign: 1, Source: source,
		Why: fmt.Sprintf("interaction %+.3f (%+.3f to %+.3f) on the log scale", f.Interaction, f.Low, f.High)}
	if f.Interaction < 0 {
		e.Type, e.Sign = tune.ConflictsWith, -1
	}
	e.Seed = min(1, math.Abs(f.Interaction)/math.Ln2)
	e.Weight, e.Learned = e.Seed, e.Seed
	return e
}

// cell is one setting of the sweep, on the log scale and turned so that more is better.
type cell struct {
	values []float64
	mean   float64
}

// pair is one estimate: the signs its four cells enter with are +, -, -, +.
type pair struct {
	a, b  string
	cells [4]int // joint, a alone, b alone, none
}

// Induce finds the interactions of a sweep. The bounds are those of a studentised bootstrap of the
// largest statistic over all pairs (Westfall and Young, 1993: it corrects for many pairs and uses their
// correlation; the cells without and with one change are shared). It pools the residuals, which is right
// where the noise is alike in all cells on the log scale. Where it is not, a noisy cell with few runs would
// pass for an interaction; so no interval is narrower than Welch's (1947), which takes each cell's own
// variance and is corrected for many pairs by Bonferroni.
func Induce(s Sweep, o Options) ([]Finding, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	cells, index, err := readCells(s)
	if err != nil {
		return nil, err
	}
	pairs, err := findPairs(cells, index)
	if err != nil {
		return nil, err
	}
	spread := pooledDeviation(cells)
	critical := criticalValue(cells, pairs, o)
	out := make([]Finding, len(pairs))
	for i, p := range pairs {
		estimate, unit := p.estimate(cells, nil)
		half := max(critical*spread*unit, p.welch(cells, o.Level/float64(len(pairs))))
		f := Finding{A: p.a, B: p.b, Interaction: estimate, Low: estimate - half, High: estimate + half, Runs: math.MaxInt}
		for _, c := range p.cells {
			f.Runs = min(f.Runs, len(cells[c].values))
		}
		f.Kept = f.Low > 0 || f.High < 0
		out[i] = f
	}
	slices.SortFunc(out, func(x, y Finding) int {
		return cmp.Or(cmp.Compare(math.Abs(y.Interaction), math.Abs(x.Interaction)), cmp.Compare(x.A, y.A), cmp.Compare(x.B, y.B))
	})
	return out, nil
}

// complete fills in the defaults; a level that is none, or too few or too many resamples, is
// tune.ErrUsage.
func (o Options) complete() (Options, error) {
	if o.Level == 0 {
		o.Level = 0.05
	}
	if o.Resamples == 0 {
		o.Resamples = 2000
	}
	if !(o.Level > 0 && o.Level < 1) {
		return o, badSweep(fmt.Sprintf("level %v", o.Level), "give a chance between 0 and 1, such as 0.05")
	}
	if o.Resamples < minResamples || o.Resamples > maxResamples {
		return o, badSweep(fmt.Sprintf("%d resamples", o.Resamples), fmt.Sprintf("give %d to %d", minResamples, maxResamples))
	}
	return o, nil
}

const (
	minResamples = 100
	maxResamples = 100_000
)

func readCells(s Sweep) ([]cell, map[string]int, error) {
	sign := 1.0
	switch s.Better {
	case "lower":
		sign = -1
	case "higher":
	default:
		return nil, nil, badSweep(fmt.Sprintf("better %q", s.Better), `say "lower" or "higher"`)
	}
	index := map[string]int{}
	var cells []cell
	for i, r := range s.Runs {
		if !(r.Value > 0) || math.IsInf(r.Value, 0) {
			return nil, nil, badSweep(fmt.Sprintf("run %d: value %v", i+1, r.Value), "values are measurements above 0")
		}
		on := slices.Sorted(slices.Values(r.On))
		if len(on) > 2 || len(on) == 2 && on[0] == on[1] || slices.Contains(on, "") {
			return nil, nil, badSweep(fmt.Sprintf("run %d: on %q", i+1, r.On), "name none, one or two different tunables")
		}
		key := strings.Join(on, "\x00")
		at, ok := index[key]
		if !ok {
			at = len(cells)
			index[key] = at
			cells = append(cells, cell{})
		}
		cells[at].values = append(cells[at].values, sign*math.Log(r.Value))
	}
	for i := range cells {
		for _, v := range cells[i].values {
			cells[i].mean += v / float64(len(cells[i].values))
		}
	}
	return cells, index, nil
}

func badSweep(what, hint string) error {
	return &tune.Error{Op: "read sweep", Subject: what, Err: tune.ErrUsage, Hint: hint}
}

func findPairs(cells []cell, index map[string]int) ([]pair, error) {
	var pairs []pair
	keys := make([]string, 0, len(index))
	for k := range index {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		a, b, two := strings.Cut(k, "\x00")
		if !two {
			continue
		}
		p := pair{a: a, b: b}
		for i, need := range []string{k, a, b, ""} {
			at, ok := index[need]
			if !ok || len(cells[at].values) < 2 {
				return nil, badSweep(fmt.Sprintf("pair %s and %s", a, b),
					fmt.Sprintf("measure %q at least twice", strings.ReplaceAll(need, "\x00", " with ")))
			}
			p.cells[i] = at
		}
		pairs = append(pairs, p)
	}
	if len(pairs) == 0 {
		return nil, badSweep(fmt.Sprintf("%d runs", len(index)), "at least one pair of tunables must be measured together")
	}
	return pairs, nil
}

var signs = [4]float64{1, -1, -1, 1}

// estimate gives the interaction by the means given (the cells' own when nil), and its standard error
// for a deviation of 1.
func (p pair) estimate(cells []cell, means []float64) (value, unit float64) {
	for i, c := range p.cells {
		m := cells[c].mean
		if means != nil {
			m = means[c]
		}
		value += signs[i] * m
		unit += 1 / float64(len(cells[c].values))
	}
	return value, math.Sqrt(unit)
}

// welch is the half width of the interval at a level by the cells' own variances, with the degrees of
// freedom of Satterthwaite.
func (p pair) welch(cells []cell, level float64) float64 {
	sum, squares := 0.0, 0.0
	for _, i := range p.cells {
		c := cells[i]
		free := float64(len(c.values) - 1)
		variance := 0.0
		for _, v := range c.values {
			variance += (v - c.mean) * (v - c.mean) / free
		}
		share := max(variance, resolution*resolution) / (free + 1)
		sum += share
		squares += share * share / free
	}
	return math.Sqrt(sum) * distuv.StudentsT{Mu: 0, Sigma: 1, Nu: sum * sum / squares}.Quantile(1-level/2)
}

// resolution is the least deviation on the log scale: a meter that answers the same every time still has
// the resolution of its numbers.
const resolution = 1e-9

func pooledDeviation(cells []cell) float64 {
	sum, free := 0.0, 0
	for _, c := range cells {
		for _, v := range c.values {
			sum += (v - c.mean) * (v - c.mean)
		}
		free += len(c.values) - 1
	}
	return max(math.Sqrt(sum/float64(free)), resolution)
}

// criticalValue is the 1-Level quantile of the largest studentised interaction when there is none.
func criticalValue(cells []cell, pairs []pair, o Options) float64 {
	r := rand.New(rand.NewPCG(o.Seed, 0x5ee9))
	var residuals []float64
	for _, c := range cells {
		n := float64(len(c.values))
		if n < 2 {
			continue
		}
		for _, v := range c.values {
			residuals = append(residuals, (v-c.mean)*math.Sqrt(n/(n-1)))
		}
	}
	means := make([]float64, len(cells))
	largest := make([]float64, o.Resamples)
	for b := range largest {
		sum, free := 0.0, 0
		for i, c := range cells {
			total, squares := 0.0, 0.0
			for range c.values {
				x := residuals[r.IntN(len(residuals))]
				total += x
				squares += x * x
			}
			n := float64(len(c.values))
			means[i] = total / n
			sum += squares - total*total/n
			free += len(c.values) - 1
		}
		s := max(math.Sqrt(max(0, sum)/float64(free)), resolution)
		for _, p := range pairs {
			v, unit := p.estimate(cells, means)
			largest[b] = max(largest[b], math.Abs(v)/(s*unit))
		}
	}
	sort.Float64s(largest)
	return largest[min(len(largest)-1, int(math.Ceil((1-o.Level)*float64(len(largest)))))]
}

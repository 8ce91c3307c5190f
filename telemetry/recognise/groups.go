package recognise

import "semantos/internal/tune"

// group adds up the processes of one cgroup, those of no kind too.
type group struct {
	sum    tune.Workload
	weight float64
	byKind map[string]float64
	facts  map[string][]tune.Fact // of the busiest process of each kind
	most   map[string]float64
}

// groups are those of one look, by path.
type groups map[string]*group

// add takes one process; its kind is "" when it is like none. Everything lives below the root group, so
// that is not one work.
func (gs groups) add(path string, w tune.Workload) {
	if path == "" || path == "/" {
		return
	}
	g := gs[path]
	if g == nil {
		g = &group{sum: tune.Workload{Entity: path, Of: tune.EntityCgroup, Name: path}, byKind: map[string]float64{},
			facts: map[string][]tune.Fact{}, most: map[string]float64{}}
		gs[path] = g
	}
	part := max(w.CPUShare, 0.01) // what hardly uses a CPU counts a little: an audio server
	g.sum.CPUShare += w.CPUShare
	g.weight += part
	if w.Kind == "" {
		return
	}
	g.byKind[w.Kind] += part * w.Score
	if part > g.most[w.Kind] {
		g.most[w.Kind], g.facts[w.Kind] = part, w.Evidence
	}
}

// scores of each kind by the CPU time of the processes that are like it.
func (g *group) scores() map[string]float64 {
	out := map[string]float64{}
	for kind, sum := range g.byKind {
		out[kind] = sum / g.weight
	}
	return out
}

package recall

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strings"

	"semantos/internal/tune"
)

// lookup is features without learning new words: a reader must not write.
func (w *words) lookup(f tune.Facts) hostFeatures {
	frozen := words{index: make(map[string]uint8, 2)}
	for _, key := range []string{"arch", "virt"} {
		if n, ok := w.index[f.Text[key]]; ok {
			frozen.index[f.Text[key]] = n
		}
	}
	out := frozen.features(tune.Facts{Num: f.Num})
	known := func(s string) uint8 {
		if s == "" {
			return 0
		}
		if n, ok := frozen.index[s]; ok {
			return n
		}
		return math.MaxUint8
	}
	out.arch, out.virt = known(f.Text["arch"]), known(f.Text["virt"])
	return out
}

// byWords ranks by the symptoms, tunables and workload a trace shares with the case, the rarer the more.
func (m *Memory) byWords(s *selection, q Query) []scored {
	weights := map[string]float64{}
	add := func(kind string, names ...string) {
		for _, n := range names {
			if list := m.postings[kind+n]; len(list) > 0 {
				weights[kind+n] = math.Log(1 + float64(len(m.entries))/float64(len(list)))
			}
		}
	}
	add("symptom:", q.Symptoms...)
	add("tunable:", q.Tunables...)
	if q.Workload != "" {
		add("workload:", q.Workload)
	}
	for _, w := range strings.Fields(q.Text) {
		add("symptom:", w)
		add("tunable:", w)
	}
	return m.gather(s, weights)
}

// nearTo gives the tunables the graph holds near the symptoms, by the keys they are found under.
func (m *Memory) nearTo(q Query) map[string]float64 {
	weights := map[string]float64{}
	if m.cfg.Near == nil {
		return weights
	}
	for _, symptom := range q.Symptoms {
		for tunable, strength := range m.cfg.Near(symptom) {
			key := "tunable:" + tunable
			weights[key] = max(weights[key], strength)
		}
	}
	return weights
}

// byGraph ranks by the tunables the graph holds near the symptoms.
func (m *Memory) byGraph(s *selection, near map[string]float64) []scored { return m.gather(s, near) }

// gather sums weights over postings and keeps the best. Lists are long where a case is common: then the
// newest outcomes of hosts that are alike suffice, for older ones only repeat them.
func (m *Memory) gather(s *selection, weights map[string]float64) []scored {
	const newest = 1024
	sums := map[int32]float64{}
	for key, w := range weights {
		taken := 0
		for _, at := range slices.Backward(m.postings[key]) {
			if taken >= newest {
				break
			}
			if s.similar(at) >= LeastAlike {
				sums[at] += w
				taken++
			}
		}
	}
	out := make([]scored, 0, len(sums))
	for at, sum := range sums {
		out = append(out, scored{at, sum * s.weight(at)})
	}
	return m.strongest(out)
}

func (m *Memory) strongest(list []scored) []scored {
	slices.SortFunc(list, func(a, b scored) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(m.entries[a.at].id, m.entries[b.at].id))
	})
	return list[:min(considered, len(list))]
}

// meaningOf gives the vector of a case; nil where nothing has one yet, or the embedder does not answer:
// then the other two rankings stand alone.
func (m *Memory) meaningOf(ctx context.Context, q Query) []float32 {
	text := q.Text
	if text == "" {
		text = Text(tune.Trace{Symptoms: q.Symptoms, Workload: q.Workload, Changes: changesOf(q.Tunables)})
	}
	m.mu.RLock()
	empty := m.index == nil
	m.mu.RUnlock()
	if text == "" || empty {
		return nil
	}
	v, err := m.cfg.Embedder.Embed(ctx, []string{text})
	if err != nil || len(v) != 1 {
		return nil
	}
	return v[0]
}

// byMeaning ranks by the nearest vectors; each stands for every trace of the same text.
func (m *Memory) byMeaning(s *selection, v []float32) []scored {
	if v == nil {
		return nil
	}
	near, err := m.index.Search(v, considered, nil)
	if err != nil {
		return nil
	}
	var out []scored
	for _, n := range near {
		taken := 0
		for _, at := range slices.Backward(m.byVector[n.ID]) {
			if taken >= considered {
				break
			}
			if w := s.weight(at); w > 0 {
				out = append(out, scored{at, max(0, 1-float64(n.Distance)) * w})
				taken++
			}
		}
	}
	return m.strongest(out)
}

func changesOf(tunables []string) []tune.Change {
	out := make([]tune.Change, len(tunables))
	for i, t := range tunables {
		out[i].Tunable = t
	}
	return out
}

package retrieve

// found is what the rankers said of one question, per document.
type found struct {
	terms   []wanted
	words   []float64
	near    []float64 // nil without an embedder
	failed  error     // why near is nil
	reached []reached // nil before the graph was asked
}

// fuse orders by reciprocal ranks. The graph spreads from the best of keyword and vector.
func (x *Index) fuse(f *found, by Ranker, k int) []ranked {
	w := x.weights
	sum := make([]float64, len(x.docs))
	add := func(list []ranked, weight float64) {
		for place, r := range list {
			sum[r.doc] += weight / (w.Offset + float64(place+1))
		}
	}
	words := w.Keyword
	if f.near == nil { // else what edges bring would weigh as much as what matched
		words += w.Vector
	}
	add(best(f.words, 0, w.Depth, x.ids), words)
	add(best(f.near, 0, w.Depth, x.ids), w.Vector)
	f.reached = x.graph.spread(best(sum, 0, w.Seeds, x.ids))
	flow := make([]float64, len(x.docs))
	for i, r := range f.reached {
		flow[i] = r.score
	}
	if by == Graph {
		return best(flow, 0, k, x.ids)
	}
	add(best(flow, 0, w.Depth, x.ids), w.Graph)
	return best(sum, 0, k, x.ids)
}

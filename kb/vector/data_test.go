package vector

import (
	"math"
	"math/rand/v2"
	"strconv"
)

// clustered draws vectors that resemble sentence embeddings: topics of uneven size, a spectrum that
// falls with the dimension (as after a PCA), a common mean, and each text a mixture of one topic, a
// second one and its own noise. Queries come from the same source and are not among the rows.
func clustered(seed uint64, n, queries, dim int) (rows, qs [][]float32) {
	rng := rand.New(rand.NewPCG(seed, 7))
	std := make([]float64, dim)
	mean := make([]float64, dim)
	for i := range std {
		std[i] = math.Pow(float64(i+4), -0.4)
		mean[i] = 0.4 * std[i] * rng.NormFloat64()
	}
	draw := func() []float64 {
		v := make([]float64, dim)
		for i := range v {
			v[i] = std[i] * rng.NormFloat64()
		}
		return v
	}
	topics := make([][]float64, 300)
	for i := range topics {
		topics[i] = draw()
	}
	topic := func() []float64 { // the first topics are the frequent ones
		return topics[int(float64(len(topics))*math.Pow(rng.Float64(), 2.5))]
	}
	one := func() []float32 {
		a, b, own := topic(), topic(), draw()
		second, noise := 0.5*rng.Float64(), 0.5+0.3*rng.Float64()
		v := make([]float32, dim)
		for i := range v {
			v[i] = float32(mean[i] + a[i] + second*b[i] + noise*own[i])
		}
		return v
	}
	for range n {
		rows = append(rows, one())
	}
	for range queries {
		qs = append(qs, one())
	}
	return rows, qs
}

// uniform draws directions with no structure: the hardest data there is for any index but a scan.
func uniform(seed uint64, n, queries, dim int) (rows, qs [][]float32) {
	rng := rand.New(rand.NewPCG(seed, 11))
	one := func() []float32 {
		v := make([]float32, dim)
		for i := range v {
			v[i] = float32(rng.NormFloat64())
		}
		return v
	}
	for range n {
		rows = append(rows, one())
	}
	for range queries {
		qs = append(qs, one())
	}
	return rows, qs
}

func name(i int) string { return "v" + strconv.Itoa(i) }

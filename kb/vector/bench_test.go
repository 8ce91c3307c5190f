package vector

import (
	"fmt"
	"testing"
)

// BenchmarkSearch: one question, k 10, by kind and size; "filtered" keeps one row in twenty.
func BenchmarkSearch(b *testing.B) {
	for _, n := range []int{1000, 10000, 30000, 100000} {
		data, qs := clustered(1, n, 200, 256)
		for _, kind := range []string{KindExact, KindGraph, KindAuto} {
			x := index(b, kind, 256)
			if kind == KindGraph {
				x.cost = 0
			}
			x.from = max(x.from, min(n, 5000)) // build when the rows are there
			fill(b, x, data)
			build(b, x)
			search := func(keep func(string) bool) func(*testing.B) {
				return func(b *testing.B) {
					b.ReportAllocs()
					for i := range b.N {
						if _, err := x.Search(qs[i%len(qs)], 10, keep); err != nil {
							b.Fatal(err)
						}
					}
				}
			}
			b.Run(fmt.Sprintf("%s/%d", kind, n), search(nil))
			b.Run(fmt.Sprintf("%s/%d/filtered", kind, n), search(func(id string) bool { return id[len(id)-1] == '7' && id[len(id)-2] < '5' }))
		}
	}
}

// BenchmarkUpsert: one row into an exact index.
func BenchmarkUpsert(b *testing.B) {
	data, _ := clustered(1, 5000, 0, 256)
	x := index(b, KindExact, 256)
	for i := range b.N {
		if err := x.Upsert(name(i), data[i%len(data)]); err != nil {
			b.Fatal(err)
		}
	}
}

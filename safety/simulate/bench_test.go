package simulate

import "testing"

func BenchmarkRollout(b *testing.B) {
	for i := range b.N {
		if _, err := Play(Defaults(), Load{CV: 0.1, AR: 0.5, P95: 1, Throughput: 1}, uint64(i)); err != nil {
			b.Fatal(err)
		}
	}
}

package vector

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// TestConcurrent: readers get whole, sorted answers while writers change rows and walkers are built
// and swapped. Rows that nobody touches are found throughout. The loops are the plain Go ones: the
// race detector does not see what assembly reads.
func TestConcurrent(t *testing.T) {
	for _, kind := range []string{KindExact, KindGraph, KindCoder} {
		t.Run(kind, func(t *testing.T) {
			const fixed, churned, rounds = 300, 300, 8
			data, _ := clustered(5, fixed+churned, 0, 32)
			x, err := newLive(Config{Dim: 32, Kind: kind}, portable())
			if err != nil {
				t.Fatal(err)
			}
			defer x.Close()
			x.cost = 0 // walk although so few rows are cheaper to scan
			fill(t, x, data[:fixed])
			build(t, x)
			var writers, readers sync.WaitGroup
			var over atomic.Bool
			var asked atomic.Int64
			for r := range 2 {
				readers.Add(1)
				go func() {
					defer readers.Done()
					for i := r; !over.Load() || asked.Load() < 200; i += 2 {
						id := name(i % fixed)
						got, err := x.Search(data[i%fixed], 5, func(id string) bool { return id[0] == 'v' })
						if err != nil || len(got) != 5 || got[0].ID != id {
							t.Errorf("%s: %v, %v", id, got, err)
							return
						}
						asked.Add(1)
					}
				}()
			}
			for w := range 2 {
				writers.Add(1)
				go func() {
					defer writers.Done()
					for round := range rounds {
						for i := w; i < churned; i += 2 {
							id := fmt.Sprintf("w%d", i)
							if err := x.Upsert(id, data[fixed+(i+round)%churned]); err != nil {
								t.Error(err)
							}
							if i%3 == 0 {
								_ = x.Delete(id)
							}
						}
					}
				}()
			}
			writers.Wait()
			over.Store(true)
			readers.Wait()
			build(t, x)
			if want := fixed + churned - churned/3; x.Len() != want {
				t.Errorf("%d rows, want %d", x.Len(), want)
			}
			for i := range churned {
				got, err := x.Search(data[fixed+(i+rounds-1)%churned], 1, func(id string) bool { return id == fmt.Sprintf("w%d", i) })
				if err != nil || len(got) != (map[bool]int{true: 0, false: 1}[i%3 == 0]) || len(got) == 1 && got[0].Distance > 1e-6 {
					t.Fatalf("w%d: %v, %v", i, got, err)
				}
			}
		})
	}
}

// TestCompaction: rows that died are given up, and what lived is as it was.
func TestCompaction(t *testing.T) {
	for _, kind := range []string{KindExact, KindGraph} {
		data, qs := clustered(6, 3000, 20, 64)
		x := index(t, kind, 64)
		x.cost = 0
		fill(t, x, data)
		build(t, x)
		want := make([][]Match, len(qs))
		keep := func(id string) bool { return len(id) < 4 } // v0 to v99
		for i, q := range qs {
			want[i], _ = x.Search(q, 10, keep)
		}
		for i := range data {
			if i >= 100 {
				_ = x.Delete(name(i))
			}
		}
		build(t, x)
		if x.rows.n > 1024+x.rows.live+x.rows.live/4+1 || x.Len() != 100 {
			t.Errorf("%s: %d slots for %d rows", kind, x.rows.n, x.Len())
		}
		for i, q := range qs {
			got, err := x.Search(q, 10, nil)
			if err != nil || fmt.Sprint(got) != fmt.Sprint(want[i]) {
				t.Fatalf("%s: %v, want %v (%v)", kind, got, want[i], err)
			}
		}
		for i := range 100 {
			_ = x.Delete(name(i))
		}
		build(t, x)
		if x.Len() != 0 || x.Upsert("again", data[0]) != nil {
			t.Errorf("%s: %d rows left, or no new one taken", kind, x.Len())
		}
		if got, err := x.Search(data[0], 3, nil); err != nil || len(got) != 1 || got[0].ID != "again" {
			t.Errorf("%s: %v, %v", kind, got, err)
		}
	}
}

// TestTwins: thousands of equal vectors are one node of the graph; the rest stays in reach, and the
// answer among the equal ones is by ID.
func TestTwins(t *testing.T) {
	data, qs := clustered(8, 6000, 50, 64)
	for i := range data {
		if i%2 == 0 {
			data[i] = data[(i/2)%3]
		}
	}
	x := index(t, KindGraph, 64)
	x.cost = 0
	fill(t, x, data)
	build(t, x)
	if x.walker == nil {
		t.Fatal("no graph")
	}
	if got := recall(t, x, data, qs, nil); got < 0.99 {
		t.Errorf("recall %.4f", got)
	}
	got, err := x.Search(data[0], 3, nil)
	if err != nil || got[0].ID+got[1].ID+got[2].ID != "v0v1002v1008" {
		t.Errorf("%v, %v", got, err)
	}
}

// TestSame: the same steps give the same graph and the same answers.
func TestSame(t *testing.T) {
	data, qs := clustered(9, 2000, 30, 64)
	var answers [2]string
	for run := range answers {
		x := index(t, KindGraph, 64)
		x.cost, x.from = 0, len(data) // one build, after the last row
		fill(t, x, data)
		build(t, x)
		for _, q := range qs {
			got, err := x.Search(q, 10, nil)
			if err != nil {
				t.Fatal(err)
			}
			answers[run] += fmt.Sprintln(got)
		}
	}
	if answers[0] != answers[1] {
		t.Error("two runs differ")
	}
}

// TestClose: a build under way ends, and what is stored still answers.
func TestClose(t *testing.T) {
	data, _ := clustered(10, 5000, 0, 64)
	x := index(t, KindGraph, 64)
	fill(t, x, data)
	if err := x.Close(); err != nil || x.idle != nil {
		t.Fatal(err, "work goes on")
	}
	if got, err := x.Search(data[4321], 1, nil); err != nil || got[0].ID != name(4321) {
		t.Fatal(got, err)
	}
	if err := x.Upsert("late", data[7]); err != nil || x.idle != nil || x.Len() != 5001 {
		t.Fatal(err, "a closed index works")
	}
}

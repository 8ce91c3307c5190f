package recall

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"semantos/internal/tune"
	"semantos/kb/embed"
	"semantos/kb/vector"
)

// exact is the smallest right vector index.
type exact struct {
	ids  []string
	rows [][]float32
}

func (x *exact) Upsert(id string, v []float32) error {
	x.ids, x.rows = append(x.ids, id), append(x.rows, v)
	return nil
}

func (x *exact) Search(q []float32, k int, _ func(string) bool) ([]vector.Match, error) {
	out := make([]vector.Match, len(x.ids))
	for i, r := range x.rows {
		var dot float32
		for j := range r {
			dot += r[j] * q[j]
		}
		out[i] = vector.Match{ID: x.ids[i], Distance: 1 - dot}
	}
	slices.SortFunc(out, func(a, b vector.Match) int {
		return cmp.Or(cmp.Compare(a.Distance, b.Distance), cmp.Compare(a.ID, b.ID))
	})
	return out[:min(k, len(out))], nil
}

func host(cpus, gib, nodes float64) tune.Facts {
	return tune.Facts{Num: map[string]float64{"cpus": cpus, "mem_total_bytes": gib * (1 << 30), "numa_nodes": nodes,
		"swap_total_bytes": 0, "rotational_any": 0, "kernel": 6018}, Text: map[string]string{"arch": "x86_64", "virt": "kvm"}}
}

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func trace(id, symptom, tunable string, day int, f tune.Facts) tune.Trace {
	return tune.Trace{ID: id, Time: start.AddDate(0, 0, day), Facts: f, Symptoms: []string{symptom},
		Changes: []tune.Change{{Tunable: tunable}}, State: tune.Committed}
}

func memoryOf(t testing.TB, near func(string) map[string]float64, traces ...tune.Trace) *Memory {
	t.Helper()
	e, err := embed.NewStatic()
	if err != nil {
		t.Fatal(err)
	}
	byID := map[string]tune.Trace{}
	m := New(Config{Embedder: e, Index: func(int) (Vectors, error) { return &exact{}, nil }, Near: near, Load: func(_ context.Context, id string) (tune.Trace, error) {
		x, ok := byID[id]
		if !ok {
			return x, tune.ErrUnknown
		}
		return x, nil
	}})
	for _, x := range traces {
		byID[x.ID] = x
		if err := m.Add(context.Background(), x); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func retrieve(t *testing.T, m *Memory, q Query, k int) []string {
	t.Helper()
	if q.At.IsZero() {
		q.At = start.AddDate(0, 0, 10)
	}
	hits, err := m.Retrieve(context.Background(), q, k)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for i, h := range hits {
		ids = append(ids, h.Trace.ID)
		if h.Why == "" || h.Similarity < LeastAlike || h.Similarity > 1 || i > 0 && h.Score > hits[i-1].Score {
			t.Errorf("hit %d: %+v", i, h)
		}
	}
	return ids
}

func TestRetrieve(t *testing.T) {
	t.Parallel()
	here := host(2, 24, 1)
	m := memoryOf(t, func(s string) map[string]float64 {
		if s == "accept_queue_overflow" {
			return map[string]float64{"net.ipv4.tcp_max_syn_backlog": 0.9}
		}
		return nil
	},
		trace("same", "accept_queue_overflow", "net.core.somaxconn", 9, here),
		trace("big", "accept_queue_overflow", "net.core.somaxconn", 9, host(128, 1024, 4)),
		trace("old", "accept_queue_overflow", "net.core.somaxconn", -200, here),
		trace("near", "syn_queue_full", "net.ipv4.tcp_max_syn_backlog", 9, here),
		trace("far", "audio_wakeups_late", "dev/cpu_dma_latency", 9, here),
	)
	got := retrieve(t, m, Query{Symptoms: []string{"accept_queue_overflow"}, Facts: here}, 3)
	if len(got) != 3 || got[0] != "same" || got[1] != "near" {
		t.Errorf("hits %v; want the same case first, then what the graph holds near", got)
	}
	if all := retrieve(t, m, Query{Symptoms: []string{"accept_queue_overflow"}, Facts: here}, 10); slices.Contains(all, "big") {
		t.Errorf("a trace of a host with 128 CPUs and 4 NUMA nodes was found for one with 2: %v", all)
	}
	if all := retrieve(t, m, Query{Symptoms: []string{"accept_queue_overflow"}, Facts: host(96, 768, 2)}, 10); len(all) == 0 || all[0] != "big" {
		t.Errorf("on a large host the large host's trace is not first: %v", all)
	}
	hits, err := m.Retrieve(context.Background(), Query{Symptoms: []string{"accept_queue_overflow"}, Facts: here, At: start}, 1)
	if err != nil || !strings.Contains(hits[0].Why, "same symptom accept_queue_overflow; on 2 CPUs, 24.0 GiB (100 % alike)") {
		t.Errorf("why is %q, %v", hits[0].Why, err)
	}
	if got := retrieve(t, m, Query{Text: "connections are refused because the accept queue is full", Facts: here}, 2); got[0] != "same" {
		t.Errorf("a question in words finds %v", got)
	}
	if got := retrieve(t, memoryOf(t, nil), Query{Text: "anything", Facts: here}, 2); len(got) != 0 {
		t.Errorf("an empty memory finds %v", got)
	}
	if _, err := m.Retrieve(context.Background(), Query{}, 0); !errors.Is(err, tune.ErrOutOfRange) {
		t.Errorf("k = 0 gives %v", err)
	}
}

func TestAlike(t *testing.T) {
	t.Parallel()
	w := words{index: map[string]uint8{}}
	f := func(x tune.Facts) hostFeatures { return w.features(x) }
	same := alike(f(host(8, 32, 1)), f(host(8, 32, 1)))
	twice := alike(f(host(8, 32, 1)), f(host(16, 64, 1)))
	numa := alike(f(host(8, 32, 1)), f(host(128, 512, 4)))
	nothing := alike(f(host(8, 32, 1)), f(tune.Facts{}))
	if same != 1 || twice >= 1 || twice < 0.5 || numa >= LeastAlike || nothing < LeastAlike || nothing >= 1 {
		t.Errorf("same %.2f, twice as large %.2f, 128 CPUs with NUMA %.2f, unknown %.2f", same, twice, numa, nothing)
	}
	bad := host(8, 32, 1)
	bad.Num["cpus"] = math.NaN()
	if s := alike(f(bad), f(host(8, 32, 1))); !(s > 0 && s < 1) {
		t.Errorf("NaN CPUs give %v", s)
	}
}

func TestAddTwiceAndFailures(t *testing.T) {
	t.Parallel()
	x := trace("a", "s", "vm.swappiness", 1, host(2, 4, 1))
	m := memoryOf(t, nil, x, x)
	if m.Len() != 1 {
		t.Errorf("%d traces remembered of one given twice", m.Len())
	}
	m.cfg.Load = func(context.Context, string) (tune.Trace, error) { return tune.Trace{}, tune.ErrStorage }
	if _, err := m.Retrieve(context.Background(), Query{Symptoms: []string{"s"}, At: start, Facts: host(2, 4, 1)}, 1); !errors.Is(err, tune.ErrStorage) {
		t.Errorf("a store that fails gives %v", err)
	}
}

// mute is a service that is away.
type mute struct{ embed.Embedder }

func (mute) Embed(context.Context, []string) ([][]float32, error) { return nil, tune.ErrNoData }

// TestEmbedderAway: a trace is remembered without its meaning, and found by words and graph.
func TestEmbedderAway(t *testing.T) {
	t.Parallel()
	x := trace("a", "s", "vm.swappiness", 1, host(2, 4, 1))
	m := memoryOf(t, nil)
	m.cfg.Embedder = mute{m.cfg.Embedder}
	m.cfg.Load = func(context.Context, string) (tune.Trace, error) { return x, nil }
	if err := m.Add(t.Context(), x); !errors.Is(err, tune.ErrNoData) || m.Len() != 1 {
		t.Errorf("%d traces, %v", m.Len(), err)
	}
	if got := retrieve(t, m, Query{Symptoms: []string{"s"}, Facts: host(2, 4, 1)}, 1); len(got) != 1 {
		t.Errorf("found %v", got)
	}
}

// TestSort: traces that come newest first are, once sorted, looked at newest first as well.
func TestSort(t *testing.T) {
	t.Parallel()
	m := memoryOf(t, nil)
	m.cfg.Load = func(_ context.Context, id string) (tune.Trace, error) { return tune.Trace{ID: id}, nil }
	for day := 2999; day >= 0; day-- {
		if err := m.Add(t.Context(), trace(fmt.Sprint("t", day), "s", "vm.swappiness", day, host(2, 4, 1))); err != nil {
			t.Fatal(err)
		}
	}
	m.Sort()
	q := Query{Symptoms: []string{"s"}, Facts: host(2, 4, 1), At: start.AddDate(0, 0, 3000)}
	if got := retrieve(t, m, q, 1); got[0] != "t2999" {
		t.Errorf("the newest is t2999, found %v", got)
	}
}

// slow is a service that answers when it is told to.
type slow struct {
	embed.Embedder
	asked, answer chan bool
}

func (s slow) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	s.asked <- true
	<-s.answer
	return s.Embedder.Embed(ctx, texts)
}

// TestSlowEmbedder: while one question waits for the service, outcomes are added and counted.
func TestSlowEmbedder(t *testing.T) {
	t.Parallel()
	x := trace("a", "s", "vm.swappiness", 1, host(2, 4, 1))
	m := memoryOf(t, nil, x)
	service := slow{m.cfg.Embedder, make(chan bool), make(chan bool)}
	m.cfg.Embedder = service
	asked := make(chan error)
	go func() {
		_, err := m.Retrieve(context.Background(), Query{Symptoms: []string{"s"}, Facts: host(2, 4, 1), At: start}, 1)
		asked <- err
	}()
	<-service.asked
	added := make(chan error)
	go func() {
		x.ID = "b" // the text is known: nothing is asked for it
		added <- m.Add(context.Background(), x)
	}()
	select {
	case err := <-added:
		if err != nil || m.Len() != 2 {
			t.Errorf("%d traces, %v", m.Len(), err)
		}
		close(service.answer)
	case <-time.After(10 * time.Second):
		t.Error("an outcome waits for another's question")
		close(service.answer)
		<-added
	}
	if err := <-asked; err != nil {
		t.Error(err)
	}
}

var things = strings.Fields("accept queue socket buffer memory dirty write read ahead swap cache fork thread wakeup disk port table neighbour latency interrupt")

// many makes a memory of n traces of n texts on 50 kinds of hosts, its vector index built.
func many(t testing.TB, n int) *Memory {
	t.Helper()
	e, err := embed.NewStatic()
	if err != nil {
		t.Fatal(err)
	}
	var live *vector.Live
	index := func(dim int) (Vectors, error) {
		live, err = vector.New(vector.Config{Dim: dim, Kind: "auto"})
		return live, err
	}
	m := New(Config{Embedder: e, Index: index, Load: func(_ context.Context, id string) (tune.Trace, error) { return tune.Trace{ID: id}, nil }})
	for i := range n {
		x := trace(fmt.Sprint("t", i), fmt.Sprintf("%s_%s_%d", things[i%len(things)], things[i/7%len(things)], i), "vm.swappiness", i%365, host(float64(2+i%50), 32, 1))
		if i%3 == 0 {
			x.Symptoms = append(x.Symptoms, "accept_queue_overflow")
		}
		if err := m.Add(context.Background(), x); err != nil {
			t.Fatal(err)
		}
	}
	m.Sort()
	if err := live.Build(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { live.Close() })
	return m
}

// ask times the i-th question; the embedding of its text is part of it.
func ask(t testing.TB, m *Memory, i int) time.Duration {
	q := Query{Symptoms: []string{"accept_queue_overflow"}, Tunables: []string{"vm.swappiness"}, Facts: host(4, 32, 1), At: start.AddDate(1, 0, 0)}
	q.Text = fmt.Sprintf("why is the %s slow under %s", things[i%len(things)], things[i/3%len(things)])
	began := time.Now()
	if _, err := m.Retrieve(context.Background(), q, 10); err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}

// TestCheaperThanAScan: a question costs at most half of comparing its vector with every trace's, number
// by number, in the same run. Medians: a busy host delays single questions. SOAK=1 asks 100,000 traces.
func TestCheaperThanAScan(t *testing.T) {
	n := 20_000
	if os.Getenv("SOAK") == "1" {
		n = 100_000
	}
	m := many(t, n)
	const dim = 256
	rows, q, sum := make([]float32, n*dim), make([]float32, dim), float32(0)
	var asked, scanned []time.Duration
	for i := range 60 {
		asked = append(asked, ask(t, m, i))
		if i%3 != 0 {
			continue
		}
		began := time.Now()
		for at := 0; at < len(rows); at += dim {
			for j, x := range rows[at : at+dim] {
				sum += x * q[j]
			}
		}
		scanned = append(scanned, time.Since(began))
	}
	slices.Sort(asked)
	slices.Sort(scanned)
	ratio := float64(asked[len(asked)/2]) / float64(scanned[len(scanned)/2])
	t.Logf("%d traces: a question costs %.2f of a plain scan (%v), sum %v", n, ratio, asked[len(asked)/2], sum)
	if ratio > 0.5 {
		t.Errorf("a question costs %.2f of a plain scan", ratio)
	}
}

// BenchmarkRetrieve asks 100,000 traces, and says what remembering them keeps on the heap.
func BenchmarkRetrieve(b *testing.B) {
	heap := func() float64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	before := heap()
	m := many(b, 100_000)
	kept := heap() - before
	var took []time.Duration
	for b.Loop() {
		took = append(took, ask(b, m, len(took)))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
	b.ReportMetric(kept/(1<<20), "MiB")
}

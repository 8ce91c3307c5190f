package recall

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"semantos/internal/tune"
	"semantos/kb/embed"
	"semantos/kb/graph"
	"semantos/kb/vector"
)

// Vectors is the vector index traces are searched in (kb/vector).
type Vectors interface {
	Upsert(id string, v []float32) error
	Search(q []float32, k int, keep func(id string) bool) ([]vector.Match, error)
}

// Config of a Memory. Index makes the vector index when the first vector's dimension is known: a service
// tells it with its first answer. Load fetches a whole trace by its ID; Near gives the tunables the graph
// holds near a symptom, with strengths in (0,1]; nil means no graph.
type Config struct {
	Embedder embed.Embedder
	Index    func(dim int) (Vectors, error)
	Load     func(ctx context.Context, id string) (tune.Trace, error)
	Near     func(symptom string) map[string]float64
}

// Memory is the index over all traces. It keeps some hundred bytes of each, not the trace.
type Memory struct {
	cfg Config

	mu       sync.RWMutex
	words    words
	place    map[string]int32
	entries  []entry
	hosts    []hostFeatures // each once: traces come from few
	hostAt   map[hostFeatures]int32
	postings map[string][]int32 // by "symptom:x", "tunable:x", "workload:x"
	index    Vectors            // nil before the first vector
	vectors  map[string]string  // id of the vector by text: many traces say the same
	byVector map[string][]int32
}

type entry struct {
	id   string
	at   int64
	host int32
}

// New makes an empty memory.
func New(cfg Config) *Memory {
	return &Memory{cfg: cfg, words: words{index: map[string]uint8{}}, place: map[string]int32{}, hostAt: map[hostFeatures]int32{},
		postings: map[string][]int32{}, vectors: map[string]string{}, byVector: map[string][]int32{}}
}

// Text is what keyword and vector search see of a trace: names and words, no numbers, so that a hundred
// outcomes of one case share one vector.
func Text(t tune.Trace) string {
	var parts []string
	for _, s := range t.Symptoms {
		parts = append(parts, spaced(s))
	}
	for _, c := range t.Changes {
		parts = append(parts, spaced(c.Tunable))
	}
	if t.Workload != "" {
		parts = append(parts, spaced(t.Workload))
	}
	return strings.Join(parts, "; ")
}

func spaced(name string) string {
	return strings.NewReplacer("_", " ", ".", " ", "/", " ", ":", " ").Replace(name)
}

func keysOf(t tune.Trace) []string {
	var out []string
	for _, s := range t.Symptoms {
		out = append(out, "symptom:"+s)
	}
	for _, c := range t.Changes {
		out = append(out, "tunable:"+c.Tunable)
	}
	if t.Workload != "" {
		out = append(out, "workload:"+t.Workload)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Add takes a trace in; one that is known already changes nothing. An error says that it is remembered
// without its meaning. Of a common case the last ones added are looked at first: what is added in another
// order than that of time is followed by Sort.
func (m *Memory) Add(ctx context.Context, t tune.Trace) error {
	text := t.Text
	if text == "" {
		text = Text(t)
	}
	m.mu.RLock()
	_, known := m.place[t.ID]
	_, embedded := m.vectors[text]
	m.mu.RUnlock()
	if known {
		return nil
	}
	var vectors [][]float32
	var missed error
	if !embedded && text != "" {
		// A service that is away costs the trace its vector; words and graph still find it.
		vectors, missed = m.cfg.Embedder.Embed(ctx, []string{text})
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.place[t.ID]; known {
		return nil
	}
	at := int32(len(m.entries))
	if len(vectors) == 1 && m.vectors[text] == "" {
		if missed = m.upsert(t.ID, vectors[0]); missed == nil {
			m.vectors[text] = t.ID
		}
	}
	if v := m.vectors[text]; v != "" {
		m.byVector[v] = append(m.byVector[v], at)
	}
	m.entries = append(m.entries, entry{id: t.ID, at: t.Time.Unix(), host: m.hostOf(t.Facts)})
	m.place[t.ID] = at
	for _, k := range keysOf(t) {
		m.postings[k] = append(m.postings[k], at)
	}
	if missed != nil {
		return fmt.Errorf("remember the meaning of trace %s: %w", t.ID, missed)
	}
	return nil
}

// Sort brings what was added into the order of time.
func (m *Memory) Sort() {
	m.mu.Lock()
	defer m.mu.Unlock()
	byTime := func(a, b int32) int {
		x, y := &m.entries[a], &m.entries[b]
		return cmp.Or(cmp.Compare(x.at, y.at), cmp.Compare(x.id, y.id))
	}
	for _, lists := range []map[string][]int32{m.postings, m.byVector} {
		for _, list := range lists {
			slices.SortFunc(list, byTime)
		}
	}
}

// upsert puts one vector into the index, making it with the first.
func (m *Memory) upsert(id string, v []float32) error {
	if m.index == nil {
		index, err := m.cfg.Index(len(v))
		if err != nil {
			return err
		}
		m.index = index
	}
	return m.index.Upsert(id, v)
}

func (m *Memory) hostOf(f tune.Facts) int32 {
	features := m.words.features(f)
	i, ok := m.hostAt[features]
	if !ok {
		i = int32(len(m.hosts))
		m.hosts = append(m.hosts, features)
		m.hostAt[features] = i
	}
	return i
}

// Len is how many traces are remembered.
func (m *Memory) Len() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return len(m.entries)
}

// Query is the case at hand. Tunables are those thought of; all parts may be empty.
type Query struct {
	Text     string
	Symptoms []string
	Tunables []string
	Workload string
	Facts    tune.Facts
	At       time.Time
}

// Hit is one past outcome that speaks about the case.
type Hit struct {
	Trace      tune.Trace `json:"trace"`
	Score      float64    `json:"score"`
	Similarity float64    `json:"host_similarity"` // in [0,1]
	Why        string     `json:"why"`
}

// The three rankings are joined by reciprocal rank (Cormack, Clarke and Büttcher, 2009).
const (
	rankDamping = 60
	considered  = 100 // best of each ranking
)

// scored is one ranking's best, strongest first.
type scored struct {
	at    int32
	score float64
}

// Retrieve gives the k outcomes that say most about the case, best first and by ID where equal. Hosts
// less alike than LeastAlike are left out; evidence fades by 0.98 a day.
func (m *Memory) Retrieve(ctx context.Context, q Query, k int) ([]Hit, error) {
	if k < 1 {
		return nil, fmt.Errorf("retrieve %d outcomes: %w", k, tune.ErrOutOfRange)
	}
	// A service may take seconds to answer, and the graph its own lock: neither is waited for under ours.
	v, near := m.meaningOf(ctx, q), m.nearTo(q)
	m.mu.RLock()
	s := m.selectFor(q)
	lists := []struct {
		name string
		list []scored
	}{{"words", m.byWords(s, q)}, {"graph", m.byGraph(s, near)}, {"meaning", m.byMeaning(s, v)}}
	sums := map[int32]float64{}
	why := map[int32][]string{}
	for _, l := range lists {
		for rank, x := range l.list {
			sums[x.at] += 1 / float64(rankDamping+rank+1)
			why[x.at] = append(why[x.at], fmt.Sprintf("%s %d", l.name, rank+1))
		}
	}
	best := make([]scored, 0, len(sums))
	for at, sum := range sums {
		best = append(best, scored{at, sum * s.weight(at)})
	}
	slices.SortFunc(best, func(a, b scored) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(m.entries[a.at].id, m.entries[b.at].id))
	})
	best = best[:min(k, len(best))]
	hits := make([]Hit, len(best))
	for i, b := range best {
		hits[i] = Hit{Trace: tune.Trace{ID: m.entries[b.at].id}, Score: b.score, Similarity: s.similar(b.at),
			Why: "ranked by " + strings.Join(why[b.at], ", ")}
	}
	m.mu.RUnlock()
	return m.fill(ctx, q, hits)
}

// fill loads the traces, and says what each has in common with the case.
func (m *Memory) fill(ctx context.Context, q Query, hits []Hit) ([]Hit, error) {
	out := hits[:0]
	for _, h := range hits {
		t, err := m.cfg.Load(ctx, h.Trace.ID)
		if err != nil {
			return nil, fmt.Errorf("retrieve trace %s: %w", h.Trace.ID, err)
		}
		h.Trace = t
		h.Why = explain(q, t) + fmt.Sprintf("; on %s (%.0f %% alike); %s", describeHost(t.Facts), 100*h.Similarity, h.Why)
		out = append(out, h)
	}
	return out, nil
}

func explain(q Query, t tune.Trace) string {
	var parts []string
	for _, s := range t.Symptoms {
		if slices.Contains(q.Symptoms, s) {
			parts = append(parts, "same symptom "+s)
		}
	}
	for _, c := range t.Changes {
		if slices.Contains(q.Tunables, c.Tunable) {
			parts = append(parts, "same tunable "+c.Tunable)
		}
	}
	if q.Workload != "" && q.Workload == t.Workload {
		parts = append(parts, "same workload "+q.Workload)
	}
	if len(parts) == 0 {
		return "a similar case"
	}
	return strings.Join(parts, ", ")
}

// selection weighs entries for one query.
type selection struct {
	m     *Memory
	alike []float64 // by host
	at    int64
}

func (m *Memory) selectFor(q Query) *selection {
	here := m.words.lookup(q.Facts)
	s := &selection{m: m, alike: make([]float64, len(m.hosts)), at: q.At.Unix()}
	for i, h := range m.hosts {
		s.alike[i] = alike(here, h)
	}
	return s
}

func (s *selection) similar(at int32) float64 { return s.alike[s.m.entries[at].host] }

// weight joins how alike the host is with how fresh the outcome; 0 for hosts too unlike.
func (s *selection) weight(at int32) float64 {
	similar := s.similar(at)
	if similar < LeastAlike {
		return 0
	}
	days := float64(s.at-s.m.entries[at].at) / 86400
	return similar * math.Pow(graph.DailyDecay, max(0, days))
}

package telemetry

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"sync"
	"time"

	"semantos/internal/tune"
	"semantos/telemetry/recognise"
)

// Config of a Sampler. Host is required; the rest has defaults.
type Config struct {
	Host   Machine
	Window time.Duration // default 60 s
	Now    func() time.Time
	Limits Limits
	// Sockets replaces the kernel's socket diagnostics (tests, another root); nil asks the kernel.
	Sockets SocketSource
	Aid     Aid // nil: this process looks for itself
	// Probes is the set every sampler of this process shares; nil reads none. It is not closed here.
	Probes Probes
}

// Limits bound what one tick may cost on a large machine; zero fields take the defaults.
type Limits struct {
	Namespaces  int // 16
	Connections int // 4096 for TCP_INFO
	Processes   int // 32
	Cgroups     int // 64
}

func (l Limits) orDefault() Limits {
	set := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	set(&l.Namespaces, 16)
	set(&l.Connections, 4096)
	set(&l.Processes, 32)
	set(&l.Cgroups, 64)
	return l
}

// Stat is how one collector fares: a collector without data counts as a success.
type Stat struct {
	Collector string        `json:"collector"`
	Duration  time.Duration `json:"duration_ns"` // of the newest tick
	Success   bool          `json:"success"`     // of the newest tick
	Failures  int           `json:"failures"`    // since the start
	Reason    string        `json:"reason,omitempty"`
}

// Sampler reads the machine tick by tick and keeps the frames of one window. It is safe for one
// ticking goroutine beside any number that take snapshots.
type Sampler struct {
	host       Machine
	window     time.Duration
	env        *env
	collectors []collector

	tickMu sync.Mutex // one tick at a time: collectors keep state
	size   frameSize
	sizes  []frameSize

	mu     sync.Mutex
	frames []*frame
	histAt time.Time // of the newest frame but the last that keeps its histograms
	stats  []Stat
	names  suffixes
	facts  tune.Facts
	bootID string
	kinds  *recognise.Recogniser
}

// New makes a sampler; it reads nothing yet.
func New(cfg Config) (*Sampler, error) {
	if cfg.Host == nil {
		return nil, fmt.Errorf("start telemetry: no host given: %w", tune.ErrUsage)
	}
	if cfg.Window <= 0 {
		cfg.Window = time.Minute
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	e := newEnv(cfg)
	cs := all(e)
	if cfg.Probes != nil {
		cs = append(cs, newProbes(cfg.Probes))
	}
	s := &Sampler{host: cfg.Host, window: cfg.Window, env: e, collectors: cs,
		stats: make([]Stat, len(cs)), sizes: make([]frameSize, len(cs)), names: make(suffixes),
		kinds: recognise.New()}
	for i, c := range cs {
		s.stats[i].Collector = c.Name()
	}
	return s, nil
}

// Tick reads the machine once. One collector's failure is recorded in Missing and Stats and does not
// disturb the others; the error is only that of ctx.
func (s *Sampler) Tick(ctx context.Context) error {
	s.tickMu.Lock()
	defer s.tickMu.Unlock()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("sample telemetry: %w", err)
	}
	s.learnHost()
	f := newFrame(s.env.begin(), s.size)
	s.env.reportLimits(f)
	for i, c := range s.collectors {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("sample telemetry: %w", err)
		}
		started := time.Now()
		part := newFrame(f.at, s.sizes[i])
		err := collect(ctx, c, part)
		s.sizes[i] = part.measure()
		s.record(i, time.Since(started), err)
		f.missing = append(f.missing, part.missing...)
		if err != nil {
			f.miss(c.Name(), err.Error())
			continue
		}
		f.merge(part)
	}
	s.size = f.measure()
	s.keep(f)
	return nil
}

// collect runs one collector. Text of a foreign kernel, parsed by a library, must not end the process,
// so a panic there is that collector's error.
func collect(ctx context.Context, c collector, f *frame) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("parser gave up (%v): %w", p, tune.ErrCorrupt)
		}
	}()
	return c.Collect(ctx, f)
}

func (s *Sampler) record(i int, d time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &s.stats[i]
	st.Duration, st.Reason = d, ""
	st.Success = err == nil || errors.Is(err, tune.ErrNoData)
	if err != nil {
		st.Reason = err.Error()
	}
	if !st.Success {
		st.Failures++
	}
}

func (s *Sampler) learnHost() {
	s.mu.Lock()
	known := s.bootID != ""
	s.mu.Unlock()
	if known {
		return
	}
	id, _ := s.host.BootID() // without it the snapshot has none, which says the same
	facts, _ := s.host.Facts()
	s.mu.Lock()
	s.bootID, s.facts = id, facts
	s.mu.Unlock()
}

// keep appends a frame and drops those that the window no longer needs: the oldest stays as long as
// without it the frames would span less than the window.
func (s *Sampler) keep(f *frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frames = append(s.frames, f)
	s.thin()
	drop := 0
	for drop+1 < len(s.frames) && f.at.Sub(s.frames[drop+1].at) >= s.window {
		drop++
	}
	s.frames = append(s.frames[:0:0], s.frames[drop:]...)
}

// Snapshot turns the window into signals.
func (s *Sampler) Snapshot() tune.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	snap := tune.Snapshot{BootID: s.bootID, Facts: s.facts, Signals: map[string]float64{},
		Entities: map[string][]tune.Entity{}, Missing: []tune.Missing{}, Workloads: []tune.Workload{}}
	if len(s.frames) == 0 {
		return snap
	}
	newest := s.frames[len(s.frames)-1]
	snap.Time, snap.Ticks = newest.at, len(s.frames)
	snap.Window = newest.at.Sub(s.frames[0].at).Seconds()
	snap.Missing = append(snap.Missing, newest.missing...)
	v := newView(s.frames, s.names)
	v.sumNamespaces(s.names)
	for _, c := range s.collectors {
		if d, ok := c.(deriver); ok {
			d.Derive(v)
		}
	}
	snap.Signals = v.host.values
	for kind, list := range v.entities {
		snap.Entities[kind] = entitiesOf(kind, list)
	}
	snap.Workloads = s.kinds.Look(snap)
	return snap
}

func entitiesOf(kind string, list []*signals) []tune.Entity {
	out := make([]tune.Entity, 0, len(list))
	for _, x := range list {
		if len(x.values) == 0 {
			continue
		}
		labels := make(map[string]string, len(x.labels))
		for k, v := range x.labels {
			labels[k] = v
		}
		out = append(out, tune.Entity{Kind: kind, ID: x.id, Labels: labels, Signals: x.values})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out
}

// Reset forgets the window: what follows is measured without what was before.
func (s *Sampler) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frames, s.histAt = nil, time.Time{}
}

// Stats tells how each collector fares.
func (s *Sampler) Stats() []Stat {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Stat(nil), s.stats...)
}

// Close gives back the files and sockets held open between ticks.
func (s *Sampler) Close() error {
	s.tickMu.Lock()
	defer s.tickMu.Unlock()
	s.env.close()
	return nil
}

package ebpf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"semantos/ebpf/probe"
	"semantos/internal/tune"
)

// The modes, as USE_EBPF spells them.
const (
	Auto = "auto" // what loads is used, and the rest says why not
	On   = "on"   // a default probe that does not load is an error
	Off  = "off"  // bpf(2) is never called
)

// The states of a probe.
const (
	StateOn     = "on"     // it counts all the time
	StatePaused = "paused" // it counts part of the time, so that the set stays within its budget
	StateAsked  = "asked"  // a costly probe that something asked for
	StateFailed = "failed" // it does not load here
	StateOff    = "off"    // a costly probe that nothing asks for, or USE_EBPF=off
)

// defaultBudget is the share of all CPUs the programs of the whole set may take.
const defaultBudget = 0.01

// Config of a set. The zero value is not a mode.
type Config struct {
	Mode   string
	Why    string  // the reason shown when the mode is off; "" names USE_EBPF
	Budget float64 // share of all CPUs, 0 is 0.01
	// Turn is how often a probe that counts part of the time has its slice, 0 is 3 s. Who looks only for
	// seconds takes a shorter one, which costs more.
	Turn  time.Duration
	Log   *slog.Logger
	Now   func() time.Time
	Specs []probe.Spec // nil is All
	// Stats switches the kernel's run-time statistics on until what it gives is closed; nil does it here,
	// which needs CAP_SYS_ADMIN.
	Stats func() (io.Closer, error)
}

// Set is the probes of one process: every sampler of it reads the same set. Its methods may be called
// from several goroutines. A nil Set is not usable.
type Set struct {
	cfg     Config
	members []*member
	cpus    float64
	stop    context.CancelFunc
	done    chan struct{}
	blind   sync.Once // says once that costs cannot be measured
}

// member is one probe of the set.
type member struct {
	spec probe.Spec

	mu     sync.Mutex
	p      *probe.Probe // nil unless it is loaded
	err    error        // why it is not
	loads  uint64       // how often it was loaded: counts of different loads do not continue each other
	loaded time.Time
	counts counts
	cost   estimate
	duty   float64     // share of the time it may count
	scope  probe.Scope // what a costly probe was asked to count
	until  time.Time
	whole  time.Time // until then it counts all the time
	why    string
	closed bool
}

// Open loads the default probes side by side and starts the keeper. In mode On the error names the first
// probe that did not load; in mode Auto there is none. The set has to be closed.
func Open(ctx context.Context, cfg Config) (*Set, error) {
	if cfg.Mode != Auto && cfg.Mode != On && cfg.Mode != Off {
		return nil, fmt.Errorf("open probes: mode %q: %w", cfg.Mode, tune.ErrUsage)
	}
	if cfg.Budget <= 0 {
		cfg.Budget = defaultBudget
	}
	if cfg.Turn <= 0 {
		cfg.Turn = defaultTurn
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Specs == nil {
		cfg.Specs = All()
	}
	if cfg.Stats == nil {
		cfg.Stats = func() (io.Closer, error) { return ebpf.EnableStats(unix.BPF_STATS_RUN_TIME) }
	}
	if cfg.Why == "" {
		cfg.Why = "USE_EBPF=off"
	}
	s := &Set{cfg: cfg, cpus: float64(runtime.NumCPU()), stop: func() {}, done: make(chan struct{})}
	for _, spec := range cfg.Specs {
		s.members = append(s.members, &member{spec: spec, duty: 1})
	}
	if cfg.Mode == Off {
		close(s.done)
		return s, nil
	}
	if err := s.load(ctx); err != nil {
		close(s.done)
		return nil, errors.Join(err, s.Close())
	}
	// What was read of the kernel's types is some megabytes that nothing needs any more.
	debug.FreeOSMemory()
	keeping, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	go func() {
		defer close(s.done)
		s.keep(keeping)
	}()
	return s, nil
}

// loaders is how many probes are loaded at a time: most of it is the kernel's verifier.
const loaders = 2

// load tries the first default probe alone: where bpf(2) is not permitted at all, the others are not
// tried.
func (s *Set) load(ctx context.Context) error {
	types := probe.NewTypes()
	var todo []*member
	for _, m := range s.members {
		if !m.spec.Costly {
			todo = append(todo, m)
		}
	}
	var refused error
	gate := make(chan struct{}, loaders)
	var wg sync.WaitGroup
	for i, m := range todo {
		if refused != nil || ctx.Err() != nil {
			m.err = errors.Join(refused, ctx.Err())
			continue
		}
		if i == 0 {
			if err := m.load(types); errors.Is(err, tune.ErrNotPermitted) {
				refused = err
			}
			continue
		}
		gate <- struct{}{}
		wg.Go(func() {
			defer func() { <-gate }()
			_ = m.load(types) // kept in m.err
		})
	}
	wg.Wait()
	var first error
	for _, m := range todo {
		if m.err == nil || ctx.Err() != nil { // told to end meanwhile
			continue
		}
		s.cfg.Log.Warn("probe not loaded", "probe", m.spec.Name, "reason", m.err)
		if first == nil {
			first = &tune.Error{Op: "load probe", Subject: m.spec.Name, Err: m.err,
				Hint: "semantos doctor --verbose says more; USE_EBPF=auto goes on without it"}
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("open probes: %w", err)
	}
	if s.cfg.Mode == On {
		return first
	}
	return nil
}

// load puts the probe to work. The caller of a running set holds the lock.
func (m *member) load(types *probe.Types) error {
	p, err := probe.Load(m.spec, probe.Options{Types: types, Scope: m.scope})
	m.err = err
	if err != nil {
		return err
	}
	m.p, m.loaded, m.counts, m.cost, m.duty = p, time.Now(), counts{}, estimate{}, 1
	m.loads++
	return nil
}

// Ask is somebody's need of a probe.
type Ask struct {
	Probe string
	Scope probe.Scope // what a costly probe is to count
	Until time.Time
	// Whole has it count all the time, whatever it costs: something is measured by it.
	Whole bool
	Why   string
}

// Want keeps a costly probe on until a time, and loads it when it is not. One that counts something else
// meanwhile is left to those who asked first: tune.ErrConflict. Errors wrap tune.ErrUnknown, or say why it
// does not load.
func (s *Set) Want(a Ask) error {
	name := a.Probe
	m := s.member(name)
	if m == nil {
		return fmt.Errorf("ask for probe %s: %w", name, tune.ErrUnknown)
	}
	if s.cfg.Mode == Off {
		return fmt.Errorf("ask for probe %s: %w: %s", name, tune.ErrUnsupported, s.cfg.Why)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return fmt.Errorf("ask for probe %s: %w", name, tune.ErrGone)
	}
	if m.err != nil { // what did not load once is not tried again and again
		return m.err
	}
	if a.Whole && a.Until.After(m.whole) {
		m.whole = a.Until
		if m.p != nil && m.duty < 1 {
			s.allot(m, 1)
		}
	}
	if !m.spec.Costly {
		return nil
	}
	if m.p != nil && m.scope != a.Scope {
		return fmt.Errorf("ask for probe %s: it counts something else until %s (%s): %w", name, m.until.Format(time.TimeOnly), m.why, tune.ErrConflict)
	}
	if m.p == nil {
		m.scope = a.Scope
		if err := m.load(nil); err != nil {
			if errors.Is(err, tune.ErrUsage) || errors.Is(err, tune.ErrGone) {
				m.err = nil // the fault is the question's
			}
			s.cfg.Log.Warn("probe not loaded", "probe", name, "reason", err)
			return err
		}
		m.until = time.Time{}
		s.cfg.Log.Info("probe on", "probe", name, "why", a.Why, "until", a.Until)
	}
	if a.Until.After(m.until) {
		m.until, m.why = a.Until, a.Why
	}
	return nil
}

func (s *Set) member(name string) *member {
	for _, m := range s.members {
		if m.spec.Name == name {
			return m
		}
	}
	return nil
}

// expire takes costly probes off again that nothing asks for any more.
func (s *Set) expire() {
	now := s.cfg.Now()
	for _, m := range s.members {
		m.mu.Lock()
		if m.spec.Costly && m.p != nil && now.After(m.until) {
			if err := m.p.Close(); err != nil {
				s.cfg.Log.Warn("probe not closed", "probe", m.spec.Name, "reason", err)
			}
			m.p, m.counts, m.cost = nil, counts{}, estimate{}
			s.cfg.Log.Info("probe off", "probe", m.spec.Name, "why", "nothing asks for it any more")
		}
		m.mu.Unlock()
	}
}

// Close takes every program out of the kernel. It may be called twice.
func (s *Set) Close() error {
	s.stop()
	<-s.done
	errs := make([]error, len(s.members))
	var wg sync.WaitGroup
	for i, m := range s.members {
		wg.Go(func() { // each waits for the kernel's grace period
			m.mu.Lock()
			defer m.mu.Unlock()
			m.closed = true
			if m.p != nil {
				errs[i] = m.p.Close()
				m.p = nil
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

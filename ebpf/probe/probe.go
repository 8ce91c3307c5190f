package probe

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"semantos/internal/tune"
)

// Spec describes one probe before anything is loaded. A probe's folder has a function New that gives it.
type Spec struct {
	Name    string // the folder's name
	Answers string // one sentence: the question it answers
	Signals []tune.Signal
	// Costly probes are off until a symptom or a person asks for them.
	Costly bool
	// Collection is bpf2go's load function.
	Collection func() (*ebpf.CollectionSpec, error)
	// Beside is what an event costs the kernel beyond the program's own run time, where that is much: a
	// tracepoint that sends everybody through a slow path. Statistics do not show it, Cost adds it.
	Beside time.Duration
	// Optional programs may be missing on a kernel without their tracepoint; a program that is not
	// listed here fails the probe. What is missing is told in Status.
	Optional []string
	// Dormant programs are loaded but not attached with the others; Read or a method of the probe's own
	// attaches them with Attach.
	Dormant []string
	// Prepare may change maps' sizes and variables before loading; nil does nothing.
	Prepare func(spec *ebpf.CollectionSpec, opts Options) error
	// Read hands over what was counted; cumulative. It runs at every tick, also while paused.
	Read func(p *Probe, out Sink) error
}

// Options of one loaded probe.
type Options struct {
	Scope Scope
	Types *Types // shared between probes loaded together; nil reads the kernel's types anew
}

// Probe is a loaded probe. Its methods may be called from several goroutines.
type Probe struct {
	Spec
	Missing []string // optional programs this kernel has no tracepoint for
	coll    *ebpf.Collection

	mu       sync.Mutex
	links    map[string]link.Link
	attached time.Time     // zero while paused
	active   time.Duration // how long the programs were attached before
	epoch    uint32
	closed   bool
}

// Load loads a probe's programs and maps and attaches them. Errors wrap tune.ErrUnsupported (no BTF, no
// such tracepoint, no such map type), tune.ErrNotPermitted (capability, lockdown) or the kernel's own;
// VerifierLog gives the verifier's message when it was the verifier's no.
func Load(s Spec, opts Options) (*Probe, error) {
	spec, err := s.Collection()
	if err != nil {
		return nil, fmt.Errorf("read object of %s: %w", s.Name, err)
	}
	p := &Probe{Spec: s, links: map[string]link.Link{}, epoch: 1}
	if opts.Types == nil {
		opts.Types = NewTypes()
	}
	if err := p.dropAbsent(opts.Types, spec); err != nil {
		return nil, fmt.Errorf("load %s: %w", s.Name, err)
	}
	if v := spec.Variables["scope"]; v != nil {
		raw, err := opts.Scope.raw()
		if err != nil {
			return nil, fmt.Errorf("load %s: %w", s.Name, err)
		}
		if err := v.Set(raw); err != nil {
			return nil, fmt.Errorf("set scope of %s: %w", s.Name, err)
		}
	} else if opts.Scope != (Scope{}) {
		return nil, fmt.Errorf("load %s: %w: it cannot be narrowed to a scope", s.Name, tune.ErrUnsupported)
	}
	if s.Prepare != nil {
		if err := s.Prepare(spec, opts); err != nil {
			return nil, fmt.Errorf("prepare %s: %w", s.Name, err)
		}
	}
	if p.coll, err = ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Cache: opts.Types.cache}); err != nil {
		return nil, fmt.Errorf("load %s: %w", s.Name, Explain(err))
	}
	if err := p.Resume(); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// dropAbsent takes out optional programs whose tracepoint this kernel does not have.
func (p *Probe) dropAbsent(types *Types, spec *ebpf.CollectionSpec) error {
	optional := map[string]bool{}
	for _, name := range p.Optional {
		optional[name] = true
	}
	for name, prog := range spec.Programs {
		ok, err := haveTracepoint(types.cache, prog.AttachTo)
		if err != nil {
			return err
		}
		if ok {
			continue
		}
		if !optional[name] {
			return fmt.Errorf("%w: this kernel has no tracepoint %s", tune.ErrUnsupported, prog.AttachTo)
		}
		delete(spec.Programs, name)
		p.Missing = append(p.Missing, prog.AttachTo)
	}
	return nil
}

// Resume attaches the programs; nothing when they are attached. Starts remembered before a pause are
// void: the epoch grows.
func (p *Probe) Resume() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || !p.attached.IsZero() {
		return nil
	}
	if v := p.coll.Variables["epoch"]; v != nil {
		p.epoch++
		if err := v.Set(p.epoch); err != nil {
			return fmt.Errorf("resume %s: %w", p.Name, err)
		}
	}
	dormant := map[string]bool{}
	for _, name := range p.Dormant {
		dormant[name] = true
	}
	for name := range p.coll.Programs {
		if dormant[name] {
			continue
		}
		if err := p.attach(name); err != nil {
			p.detach()
			return err
		}
	}
	p.attached = time.Now()
	return nil
}

// attach holds one program to its tracepoint. The caller holds the lock.
func (p *Probe) attach(name string) error {
	prog := p.coll.Programs[name]
	if prog == nil || p.links[name] != nil {
		return nil
	}
	l, err := link.AttachTracing(link.TracingOptions{Program: prog})
	if err != nil {
		return fmt.Errorf("attach %s of %s: %w", name, p.Name, Explain(err))
	}
	p.links[name] = l
	return nil
}

// Pause detaches the programs: they cost nothing until Resume. Maps keep what they hold.
func (p *Probe) Pause() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.detach()
}

func (p *Probe) detach() error {
	var first error
	for name, l := range p.links {
		if err := l.Close(); err != nil && first == nil {
			first = fmt.Errorf("detach %s of %s: %w", name, p.Name, err)
		}
		delete(p.links, name)
	}
	if !p.attached.IsZero() {
		p.active += time.Since(p.attached)
		p.attached = time.Time{}
	}
	return first
}

// Active is how long the programs have been attached since Load: what was counted was counted in it.
func (p *Probe) Active() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.attached.IsZero() {
		return p.active
	}
	return p.active + time.Since(p.attached)
}

// Map gives a map by its name in the C source, nil when there is none.
func (p *Probe) Map(name string) *ebpf.Map { return p.coll.Maps[name] }

// Set writes a variable of the C source.
func (p *Probe) Set(name string, v any) error {
	x := p.coll.Variables[name]
	if x == nil {
		return fmt.Errorf("set %s of %s: %w", name, p.Name, tune.ErrUnknown)
	}
	if err := x.Set(v); err != nil {
		return fmt.Errorf("set %s of %s: %w", name, p.Name, err)
	}
	return nil
}

// Get reads a variable of the C source.
func (p *Probe) Get(name string, v any) error {
	x := p.coll.Variables[name]
	if x == nil {
		return fmt.Errorf("read %s of %s: %w", name, p.Name, tune.ErrUnknown)
	}
	if err := x.Get(v); err != nil {
		return fmt.Errorf("read %s of %s: %w", name, p.Name, err)
	}
	return nil
}

// Lost is how many events could not be kept: what the programs say themselves, and runs the kernel left
// out because a program of this probe was at work on that CPU already.
func (p *Probe) Lost() uint64 {
	var n uint64
	if p.coll.Variables["lost"] == nil || p.Get("lost", &n) != nil {
		n = 0
	}
	for _, prog := range p.coll.Programs {
		if s, err := prog.Stats(); err == nil {
			n += s.RecursionMisses
		}
	}
	return n
}

// Whole is nil when an iteration has seen a map to its end. One that met too many changes is an error:
// what it did not see would look gone.
func Whole(it *ebpf.MapIterator) error { return it.Err() }

// Cost is what the programs' BPF run-time statistics say, and Spec.Beside for each run, cumulative since
// Load over the time the kernel kept them.
type Cost struct {
	Runs uint64
	Time time.Duration
}

// Cost adds up the programs' statistics; zero while nobody has enabled them (kernel.bpf_stats_enabled,
// or BPF_ENABLE_STATS).
func (p *Probe) Cost() (Cost, error) {
	var c Cost
	for name, prog := range p.coll.Programs {
		s, err := prog.Stats()
		if err != nil {
			return c, fmt.Errorf("read statistics of %s of %s: %w", name, p.Name, err)
		}
		c.Runs += s.RunCount
		c.Time += s.Runtime + time.Duration(s.RunCount)*p.Beside
	}
	return c, nil
}

// Close detaches and frees everything.
func (p *Probe) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	err := p.detach()
	if p.coll != nil {
		p.coll.Close()
	}
	return err
}

// VerifierLog gives the kernel verifier's message behind an error, "" when it was no verifier's.
func VerifierLog(err error) string {
	var v *ebpf.VerifierError
	if !errors.As(err, &v) {
		return ""
	}
	return fmt.Sprintf("%+v", v)
}

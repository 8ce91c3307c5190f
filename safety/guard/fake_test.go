package guard

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"semantos/internal/tune"
	"semantos/safety/journal"
	"semantos/safety/journal/journaltest"
)

// crash is what a test's hook panics with where the process is to die.
type crash struct{}

// fakeKernel is a map that behaves like the kernel where it matters: it rounds, zeroes counterparts,
// moves neighbours, refuses some values, and writes vectors element by element.
type fakeKernel struct {
	values map[string]tune.Value
	ids    map[string]string        // by target
	hook   func()                   // before and after every effect
	refuse map[string]error         // by tunable
	writes []string                 // name=value, in order
	vanish bool                     // m.side exists only while m.mode is off
	fault  func(restore bool) error // asked at every write
}

func newFakeKernel() *fakeKernel {
	return &fakeKernel{hook: func() {}, refuse: map[string]error{}, ids: map[string]string{"host": "h", "netns:1": "one", "netns:2": "two"},
		values: map[string]tune.Value{
			"q.low@host": "10", "q.high@host": "20", "q.plain@host": "5", "q.round@host": "4096",
			"p.bytes@host": "0", "p.ratio@host": "20", "m.mode@host": "off", "m.side@host": "67",
			"n.vec@netns:1": "1 2 3", "n.vec@netns:2": "1 2 3", "dev/lat@host": "none",
		}}
}

func (k *fakeKernel) Read(t *tune.Tunable, target string) (tune.Value, error) {
	if v, ok := k.values[t.Name+"@"+target]; ok {
		return v, nil
	}
	return "", fmt.Errorf("read %s on %q: %w", t.Name, target, tune.ErrGone)
}

func (k *fakeKernel) Write(t *tune.Tunable, target string, v tune.Value) (tune.Value, error) {
	if err := k.refuse[t.Name]; err != nil {
		return "", err
	}
	return k.faulty(false, t, target, v)
}

func (k *fakeKernel) Restore(t *tune.Tunable, target string, v tune.Value) (tune.Value, error) {
	if err := k.refuse["restore "+t.Name]; err != nil {
		return "", err
	}
	return k.faulty(true, t, target, v)
}

// faulty leaves half of a vector written when it fails, as the kernel does.
func (k *fakeKernel) faulty(restore bool, t *tune.Tunable, target string, v tune.Value) (tune.Value, error) {
	if k.fault == nil {
		return k.set(t, target, v)
	}
	err := k.fault(restore)
	if err == nil {
		return k.set(t, target, v)
	}
	if old := k.values[t.Name+"@"+target].Fields(); t.Kind == tune.KindVector && len(old) > 0 {
		old[0] = v.Fields()[0]
		k.hook()
		k.values[t.Name+"@"+target] = tune.Value(strings.Join(old, " "))
	}
	return "", fmt.Errorf("write %s: %w", t.Name, err)
}

func (k *fakeKernel) set(t *tune.Tunable, target string, v tune.Value) (tune.Value, error) {
	key := t.Name + "@" + target
	old, ok := k.values[key]
	if !ok {
		return "", fmt.Errorf("write %s: %w", t.Name, tune.ErrGone)
	}
	k.hook()
	k.writes = append(k.writes, t.Name+"="+string(v))
	switch t.Name {
	case "q.round":
		n, _ := strconv.Atoi(string(v))
		v = tune.Value(strconv.Itoa(n / 4096 * 4096))
	case "p.bytes", "p.ratio":
		if v == "0" && t.Name == "p.bytes" {
			return "", fmt.Errorf("write %s: %w", t.Name, tune.ErrOutOfRange)
		}
		k.values[t.Counterpart+"@"+target] = "0"
	case "m.mode":
		side := map[tune.Value]tune.Value{"off": "50", "on": "90"}[v] // never the original: the kernel recomputes it
		k.values["m.side@host"] = side
		if k.vanish && v == "on" {
			delete(k.values, "m.side@host")
		}
	case "n.vec":
		now := old.Fields()
		for i, f := range v.Fields() {
			k.hook()
			now[i] = f
			k.values[key] = tune.Value(strings.Join(now, " "))
		}
	}
	k.values[key] = v
	k.hook()
	return v, nil
}

func (k *fakeKernel) Identity(_ tune.Scope, target string) (tune.Identity, error) {
	id, ok := k.ids[target]
	if !ok {
		return nil, fmt.Errorf("identify %s: %w", target, tune.ErrGone)
	}
	return tune.Identity{"id": id}, nil
}

// fakeCatalogue knows the fake kernel's tunables and that q.low may not be above q.high.
type fakeCatalogue map[string]*tune.Tunable

func newFakeCatalogue() fakeCatalogue {
	c := fakeCatalogue{}
	for _, t := range []*tune.Tunable{
		{Name: "q.low", Scope: tune.ScopeHost, Method: tune.MethodSysctl, Path: "q/low", Kind: tune.KindInteger, Hard: []tune.Range{{Min: 0, Max: 1000}}},
		{Name: "q.high", Scope: tune.ScopeHost, Method: tune.MethodSysctl, Path: "q/high", Kind: tune.KindInteger},
		{Name: "q.plain", Scope: tune.ScopeHost, Method: tune.MethodSysfs, Path: "q/plain", Kind: tune.KindInteger},
		{Name: "q.round", Scope: tune.ScopeHost, Method: tune.MethodSysctl, Path: "q/round", Kind: tune.KindInteger},
		{Name: "q.secret", Scope: tune.ScopeHost, Method: tune.MethodSysctl, Path: "q/secret", Kind: tune.KindInteger, Protected: true},
		{Name: "p.bytes", Scope: tune.ScopeHost, Method: tune.MethodSysctl, Path: "p/bytes", Kind: tune.KindInteger, Counterpart: "p.ratio"},
		{Name: "p.ratio", Scope: tune.ScopeHost, Method: tune.MethodSysctl, Path: "p/ratio", Kind: tune.KindInteger, Counterpart: "p.bytes"},
		{Name: "m.mode", Scope: tune.ScopeHost, Method: tune.MethodChoice, Path: "m/mode", Kind: tune.KindEnum, Values: []string{"off", "on"}, AlsoChanges: []string{"m.side"}},
		{Name: "m.side", Scope: tune.ScopeHost, Method: tune.MethodSysctl, Path: "m/side", Kind: tune.KindInteger},
		{Name: "n.vec", Scope: tune.ScopeNetns, Method: tune.MethodSysctl, Path: "n/vec", Kind: tune.KindVector, Of: tune.KindInteger, Arity: 3},
		{Name: "dev/lat", Scope: tune.ScopeHost, Method: tune.MethodDMALatency, Kind: tune.KindInteger, Specials: []tune.Special{{Value: "none"}}},
	} {
		c[t.Name] = t
	}
	return c
}

func (c fakeCatalogue) Lookup(name string) (*tune.Tunable, string, error) {
	if t := c[name]; t != nil {
		return t, "", nil
	}
	return nil, "", &tune.Error{Op: "look up", Subject: name, Err: tune.ErrUnknown, Hint: "see 'semantos tunables'"}
}

func (c fakeCatalogue) Invariants(changed []tune.Change, current func(name, target string) (tune.Value, error)) []error {
	var n [2]float64
	touched := false
	for i, name := range []string{"q.low", "q.high"} {
		v, err := current(name, "host")
		for _, ch := range changed {
			if ch.Tunable == name {
				v, touched = ch.Proposed, true
			}
		}
		nums, numErr := v.Numbers()
		if err != nil || numErr != nil || len(nums) != 1 {
			return nil
		}
		n[i] = nums[0]
	}
	if touched && n[0] > n[1] {
		return []error{&tune.Error{Op: "check", Subject: "q.low", Err: tune.ErrInvariant, Hint: "raise q.high with it"}}
	}
	return nil
}

// bench is one fake machine on which guards come and go.
type bench struct {
	kernel *fakeKernel
	disk   *journaltest.Disk
	boot   string
	data   string
	guard  *engine
	found  Recovered
	err    error
	clock  func() time.Time // nil: it stands still
}

func newBench(t interface{ Helper() }) *bench {
	t.Helper()
	b := &bench{kernel: newFakeKernel(), disk: journaltest.New(), boot: "boot-1", data: "/data"}
	b.start()
	return b
}

// start is what a guard does before it serves.
func (b *bench) start() {
	copies, err := journal.ReadCopies(b.disk, "/run")
	bk, s := journal.OpenBook(b.disk, b.data, "/run")
	b.guard = &engine{act: b.kernel, cat: newFakeCatalogue(), log: bk, disk: b.disk, run: "/run", data: b.data, boot: b.boot, initNetns: "netns:1",
		now: func() time.Time { return time.Unix(1700000000, 0) }, state: journal.Load(s, copies, b.data)}
	if b.clock != nil {
		b.guard.now = b.clock
	}
	b.found, b.err = b.guard.recoverAll(copies, b.data, "/run")
	b.err = errors.Join(b.err, err)
}

func change(spec string) tune.Change {
	name, value, _ := strings.Cut(spec, "=")
	name, target, _ := strings.Cut(name, "@")
	return tune.Change{Tunable: name, Target: target, Proposed: tune.Value(value)}
}

func changes(specs ...string) []tune.Change {
	out := make([]tune.Change, len(specs))
	for i, s := range specs {
		out[i] = change(s)
	}
	return out
}

func (b *bench) apply(t *testing.T, rollout string, specs ...string) []Applied {
	t.Helper()
	got, err := b.guard.apply(t.Context(), rollout, changes(specs...), "uid 0")
	if err != nil {
		t.Fatalf("apply %v: %v", specs, err)
	}
	return got
}

// expect checks values by "name@target".
func (b *bench) expect(t *testing.T, want map[string]string) {
	t.Helper()
	for key, v := range want {
		if got := b.kernel.values[key]; string(got) != v {
			t.Errorf("%s is %q, want %q", key, got, v)
		}
	}
}

func (b *bench) untouched(t *testing.T) {
	t.Helper()
	for key, v := range newFakeKernel().values {
		if got := b.kernel.values[key]; got != v {
			t.Errorf("%s is %q, want its original %q", key, got, v)
		}
	}
}

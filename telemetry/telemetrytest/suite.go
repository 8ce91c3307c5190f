package telemetrytest

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"semantos/internal/tune"
	"semantos/telemetry"
)

// Case is one collector under the suite.
type Case struct {
	Name    string   // the collector's
	Fixture []string // directories that make up the tree
	Later   string   // what changed by the second tick
	Files   []string // what it reads; a trailing slash means everything below
	Beside  []string // other collectors that read the same files
	Sockets func() telemetry.SocketSource
	Core    []string // signals it must deliver from the fixture, "kind:name" for those of entities
}

// Run holds a tree, its sampler and a clock that stands still between ticks.
type Run struct {
	Tree    *Tree
	Sampler *telemetry.Sampler
	clock   time.Time
}

// NewRun makes a sampler over a tree, with a window of ten seconds.
func NewRun(t testing.TB, tree *Tree, sockets telemetry.SocketSource) *Run {
	t.Helper()
	r := &Run{Tree: tree, clock: time.Unix(1_700_000_000, 0)}
	s, err := telemetry.New(telemetry.Config{Host: tree, Window: 10 * time.Second,
		Now: func() time.Time { return r.clock }, Sockets: sockets})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	r.Sampler = s
	return r
}

// Tick lets time pass and ticks.
func (r *Run) Tick(t testing.TB, after time.Duration) {
	t.Helper()
	r.clock = r.clock.Add(after)
	if err := r.Sampler.Tick(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// Suite checks a collector on a full tree, an empty tree, and trees with each of its files absent,
// empty, cut short and turned to garbage: no panic, no zero for what is absent, no harm to the others.
func Suite(t *testing.T, c Case) {
	t.Run("delivers", func(t *testing.T) {
		snap := c.snapshot(t, func(*Tree) {})
		for _, want := range c.Core {
			if !Has(snap, want) {
				t.Errorf("no signal %s", want)
			}
		}
		for _, m := range snap.Missing {
			if m.Collector == c.Name {
				t.Errorf("missing on a full tree: %s", m.Reason)
			}
		}
	})
	t.Run("empty tree", c.emptyTree)
	t.Run("spoiled files", c.spoiled)
}

func (c Case) source() telemetry.SocketSource {
	if c.Sockets == nil {
		return &Sockets{}
	}
	return c.Sockets()
}

func (c Case) snapshot(t *testing.T, spoil func(*Tree)) tune.Snapshot {
	t.Helper()
	tree := NewTree(t, c.Fixture...)
	spoil(tree)
	r := NewRun(t, tree, c.source())
	r.Tick(t, 0)
	tree.Overlay(t, c.Later)
	spoil(tree)
	r.Tick(t, 10*time.Second)
	return r.Sampler.Snapshot()
}

func (c Case) emptyTree(t *testing.T) {
	r := NewRun(t, NewTree(t), &Sockets{Err: tune.ErrNoData})
	for range 2 {
		r.Tick(t, time.Second)
	}
	snap := r.Sampler.Snapshot()
	for _, core := range c.Core {
		if Has(snap, core) {
			t.Errorf("%s has a value on an empty tree", core)
		}
	}
	for _, s := range r.Sampler.Stats() {
		if s.Collector == c.Name && !s.Success {
			t.Errorf("absence is not a failure, yet: %s", s.Reason)
		}
	}
	for _, m := range snap.Missing {
		if m.Collector == c.Name {
			return
		}
	}
	t.Error("an empty tree is not named in Missing")
}

func (c Case) spoiled(t *testing.T) {
	damages := []struct {
		what   string
		damage func(b []byte) []byte
	}{
		{"cut to nothing", func([]byte) []byte { return nil }},
		{"cut in half", func(b []byte) []byte { return b[:len(b)/2] }},
		{"garbage", func([]byte) []byte { return []byte("\x00\xff(:) = \xfe/\n18446744073709551616 -\n") }},
	}
	tree := NewTree(t, c.Fixture...)
	for _, rel := range tree.Files(t) {
		if !c.reads(rel) {
			continue
		}
		whole := tree.Read(t, rel)
		for _, d := range damages {
			tree.Write(t, rel, d.damage(whole))
			before := fds(t)
			snap := c.twoTicks(t, tree)
			if after := fds(t); after > before {
				t.Errorf("%s %s: %d descriptors before, %d after", rel, d.what, before, after)
			}
			for _, m := range snap.Missing {
				if m.Collector != c.Name && !slices.Contains(c.Beside, m.Collector) {
					t.Errorf("%s %s: collector %s suffered too: %s", rel, d.what, m.Collector, m.Reason)
				}
			}
		}
		tree.Write(t, rel, whole)
	}
}

// twoTicks runs a sampler over the tree and closes it.
func (c Case) twoTicks(t *testing.T, tree *Tree) tune.Snapshot {
	t.Helper()
	r := NewRun(t, tree, c.source())
	r.Tick(t, time.Second)
	r.Tick(t, time.Second)
	if err := r.Sampler.Close(); err != nil {
		t.Error(err)
	}
	return r.Sampler.Snapshot()
}

func (c Case) reads(rel string) bool {
	for _, f := range c.Files {
		if rel == f || strings.HasSuffix(f, "/") && strings.HasPrefix(rel, f) {
			return true
		}
	}
	return false
}

// Has reports whether a snapshot has a signal: "name" of the host, "kind:name" of any entity.
func Has(snap tune.Snapshot, want string) bool {
	kind, name, ofEntity := strings.Cut(want, ":")
	if !ofEntity {
		_, ok := snap.Signals[want]
		return ok
	}
	for _, e := range snap.Entities[kind] {
		if _, ok := e.Signals[name]; ok {
			return true
		}
	}
	return false
}

func fds(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

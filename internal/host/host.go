package host

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"semantos/internal/tune"
)

// Config says which machine.
type Config struct {
	Root string // "" is the real machine; else every path lies below it
	Aid  Aid    // nil: this process looks for itself
}

// Aid looks at what this process has no right to look at. It takes names alone: a catalogued tunable, a
// target in full.
type Aid interface {
	Read(name, target string) (tune.Value, error)
	Probe(name, target string) tune.Capability
	Kills() ([]Kill, error)
	NetAid
}

// NetAid is its part that knows namespaces and sockets. DiagSocket gives a fresh sock_diag socket of a
// namespace, which its caller closes.
type NetAid interface {
	Namespaces() ([]Netns, error)
	Owners(inodes []uint64) (map[uint64]Owner, error)
	DiagSocket(netns string) (int, error)
}

// Host reads and writes one machine. It is safe for concurrent use.
type Host struct {
	root string
	aid  Aid

	mu     sync.Mutex
	dma    int                 // descriptor that holds our latency request, -1 without one
	spaces map[uint64]string   // network namespace inode -> path that opened it last
	owners map[uint64]Owner    // socket inode -> who holds it, checked at each use
	alone  map[uint64]struct{} // socket inodes that no visible process holds
}

// ErrRestoreCounterpart says that a member of a pair was the inactive one (zero) and that the kernel
// takes it back only when its counterpart is restored.
var ErrRestoreCounterpart = errors.New("restore the counterpart instead")

// New gives the host; it touches nothing yet.
func New(c Config) *Host {
	root := c.Root
	if root != "" {
		root = filepath.Clean(root)
	}
	if root == "/" {
		root = ""
	}
	return &Host{
		root:   root,
		aid:    c.Aid,
		dma:    -1,
		spaces: map[uint64]string{},
		owners: map[uint64]Owner{},
		alone:  map[uint64]struct{}{},
	}
}

// Path joins parts below the root: Path("proc", "stat") or Path("/proc/stat").
func (h *Host) Path(parts ...string) string {
	below := filepath.Join(append([]string{"/"}, parts...)...) // rooted, so that ".." ends at the root
	return filepath.Join(h.root+"/", below)
}

// Close drops the held latency request.
func (h *Host) Close() error { return h.dropLatency() }

// real reports whether there is a kernel behind the files.
func (h *Host) real() bool { return h.root == "" }

// access is one opened way to a tunable on a target.
type access interface {
	read() (tune.Value, error)
	write(v tune.Value) error
	probe() error // opens for writing, writes nothing
}

// with opens the way to t on target and calls fn with it, on a thread of the right namespace.
// Errors are *tune.Error, whatever fn gives.
func (h *Host) with(t *tune.Tunable, target string, fn func(access) error) error {
	target, err := h.Resolve(t, target)
	if err != nil {
		return err
	}
	switch t.Method {
	case tune.MethodSysctl, tune.MethodSysfs, tune.MethodChoice, tune.MethodDebugfs, tune.MethodCgroup, tune.MethodProcess:
		return h.withFile(t, target, fn)
	case tune.MethodDMALatency:
		return h.withLatency(t, fn)
	case tune.MethodBacklog, tune.MethodRcvbuf, tune.MethodSndbuf:
		return h.withSocket(t, target, fn)
	}
	return &tune.Error{Op: "reach", Subject: t.Name, Err: fmt.Errorf("method %q: %w", t.Method, tune.ErrUnsupported)}
}

func (h *Host) withFile(t *tune.Tunable, target string, fn func(access) error) error {
	p, err := h.placeOf(t, target)
	if err != nil {
		return subject("reach", t, target, err)
	}
	f := &fileAccess{t: t, target: target, place: p}
	if t.Method != tune.MethodSysctl || t.Scope != tune.ScopeNetns {
		return fn(f)
	}
	return h.InNetns(target, func() error { return fn(f) })
}

package telemetrytest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"semantos/internal/host"
	"semantos/internal/tune"
	"semantos/telemetry"
)

// Tree is a copy of a fixture that a test may spoil; it is a [telemetry.Machine].
type Tree struct{ root string }

// NewTree copies the fixtures, later ones over earlier ones, into a fresh directory.
func NewTree(t testing.TB, fixtures ...string) *Tree {
	t.Helper()
	tree := &Tree{root: t.TempDir()}
	for _, f := range fixtures {
		tree.Overlay(t, f)
	}
	return tree
}

// Overlay copies one more fixture over the tree.
func (r *Tree) Overlay(t testing.TB, fixture string) {
	t.Helper()
	err := filepath.WalkDir(fixture, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(fixture, path)
		if err != nil {
			return err
		}
		to := filepath.Join(r.root, rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(to, 0o755)
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(target, to)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(to, b, 0o644)
	})
	if err != nil {
		t.Fatalf("copy fixture %s: %v", fixture, err)
	}
}

// Files lists the regular files below the tree, relative to it, in order.
func (r *Tree) Files(t testing.TB) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(r.root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			rel, relErr := filepath.Rel(r.root, path)
			if relErr != nil {
				return relErr
			}
			out = append(out, rel)
		}
		return err
	})
	if err != nil {
		t.Fatalf("list tree: %v", err)
	}
	return out
}

// Read gives a file of the tree.
func (r *Tree) Read(t testing.TB, rel string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(r.root, rel))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Write puts a file into the tree.
func (r *Tree) Write(t testing.TB, rel string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(r.root, rel), b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Remove takes a file or directory out of the tree.
func (r *Tree) Remove(t testing.TB, rel string) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(r.root, rel)); err != nil {
		t.Fatal(err)
	}
}

// Path implements telemetry.Machine.
func (r *Tree) Path(parts ...string) string {
	return filepath.Join(append([]string{r.root}, parts...)...)
}

// BootID implements telemetry.Machine.
func (r *Tree) BootID() (string, error) { return "7e1c0f5e-0000-4000-8000-000000000001", nil }

// Facts implements telemetry.Machine.
func (r *Tree) Facts() (tune.Facts, error) {
	return tune.Facts{Num: map[string]float64{"cpus": 2}, Text: map[string]string{"kernel": "6.18.0"}}, nil
}

// Namespaces implements telemetry.Machine: the tree shows one.
func (r *Tree) Namespaces() ([]host.Netns, error) {
	return []host.Netns{{Target: "netns:4026531840", Inode: 4026531840, Pid: 1, Name: "host"}}, nil
}

// InNetns implements telemetry.Machine.
func (r *Tree) InNetns(target string, _ func() error) error {
	return fmt.Errorf("enter %s: %w", target, tune.ErrUnsupported)
}

// Owners implements telemetry.Machine.
func (r *Tree) Owners(inodes []uint64) map[uint64]host.Owner {
	out := make(map[uint64]host.Owner)
	for _, i := range inodes {
		out[i] = host.Owner{Pids: []int{900}, FD: 6, Comm: "nginx"}
	}
	return out
}

// Sockets answers every query from lists: by protocol and state as the kernel would.
type Sockets struct {
	TCP, UDP []telemetry.DiagSocket
	Err      error
}

// Dump implements telemetry.SocketSource.
func (s *Sockets) Dump(q telemetry.DiagQuery, visit func(*telemetry.DiagSocket)) (bool, error) {
	if s.Err != nil {
		return false, s.Err
	}
	list := s.TCP
	if q.Proto == 17 {
		list = s.UDP
	}
	seen := 0
	for i := range list {
		d := list[i]
		v4 := d.Local.Addr().Is4()
		if v4 != (q.Family == 2) || q.States&(1<<d.State) == 0 {
			continue
		}
		if q.Max > 0 && seen >= q.Max {
			return true, nil
		}
		seen++
		visit(&d)
	}
	return false, nil
}

// DumpUnix implements telemetry.UnixSource: as many datagram sockets as there are UDP ones, one with a
// message waiting, and a stream.
func (s *Sockets) DumpUnix(_ int, visit func(telemetry.UnixSocket)) error {
	if s.Err != nil {
		return s.Err
	}
	visit(telemetry.UnixSocket{Type: 1, Waiting: 100})
	for i := range s.UDP {
		u := telemetry.UnixSocket{Type: 2}
		if i == 0 {
			u.Waiting = 200
		}
		visit(u)
	}
	return nil
}

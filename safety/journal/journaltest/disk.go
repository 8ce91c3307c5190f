// Package journaltest has a disk in memory that can crash or fail at any effect, and sample records. It serves
// tests only, and must never be imported by anything else.
package journaltest

import (
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"semantos/internal/tune"
	"semantos/safety/journal"
)

// Disk keeps files in a map and can crash or fail at any effect. A crash keeps what was written, as
// the kernel does for a killed process. Its methods may be called from several goroutines; Files only while none
// is.
type Disk struct {
	Files map[string][]byte
	Hook  func()
	Full  string // appends below this folder fail half-way, as on a full disk
	Dead  string // syncs below this folder fail
	Stuck string // this file cannot be removed

	mu sync.Mutex // guards Files, never while Hook runs
}

// New is an empty disk on which nothing fails.
func New() *Disk { return &Disk{Files: map[string][]byte{}, Hook: func() {}} }

func (d *Disk) ReadFile(path string) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	data, ok := d.Files[path]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return slices.Clone(data), nil
}

func (d *Disk) Append(path string) (journal.DiskFile, error) {
	d.Hook()
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.Files[path]; !ok {
		d.Files[path] = nil
	}
	return &memFile{d: d, path: path}, nil
}

func (d *Disk) Replace(path string, data []byte, _ fs.FileMode) error {
	d.Hook()
	if d.Full != "" && strings.HasPrefix(path, d.Full) {
		return syscall.ENOSPC
	}
	d.change(func() { d.Files[path] = slices.Clone(data) })
	d.Hook()
	return nil
}

func (d *Disk) Remove(path string) error {
	d.Hook()
	if path == d.Stuck {
		return syscall.EPERM
	}
	d.change(func() { delete(d.Files, path) })
	return nil
}

// Copy is what a guard killed now leaves.
func (d *Disk) Copy() map[string][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	files := map[string][]byte{}
	for path, data := range d.Files {
		files[path] = slices.Clone(data)
	}
	return files
}

func (d *Disk) change(what func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	what()
}

func (d *Disk) List(dir string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	for _, path := range slices.Sorted(maps.Keys(d.Files)) {
		if filepath.Dir(path) == dir {
			out = append(out, filepath.Base(path))
		}
	}
	return out, nil
}

type memFile struct {
	d    *Disk
	path string
}

func (f *memFile) Write(p []byte) (int, error) {
	f.d.Hook()
	half := len(p) / 2
	f.d.change(func() { f.d.Files[f.path] = append(f.d.Files[f.path], p[:half]...) })
	if f.d.Full != "" && strings.HasPrefix(f.path, f.d.Full) {
		return half, syscall.ENOSPC
	}
	f.d.Hook()
	f.d.change(func() { f.d.Files[f.path] = append(f.d.Files[f.path], p[half:]...) })
	f.d.Hook()
	return len(p), nil
}

func (f *memFile) Sync() error {
	if f.d.Dead != "" && strings.HasPrefix(f.path, f.d.Dead) {
		return syscall.EIO
	}
	f.d.Hook()
	return nil
}

func (f *memFile) Truncate(size int64) error {
	f.d.change(func() { f.d.Files[f.path] = f.d.Files[f.path][:size] })
	return nil
}

func (f *memFile) Close() error { return nil }

// Records are a small rollout: an intent, its read-back, the commit.
func Records() []journal.Record {
	h := journal.How{Name: "q.plain", Scope: tune.ScopeHost, Method: tune.MethodSysctl, Path: "q/plain", Kind: tune.KindInteger}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return []journal.Record{
		{Kind: journal.Intent, Time: at, Rollout: "r1", Tunable: "q.plain", Target: "host", How: &h, Old: "5", New: "50", Boot: "b",
			Identity: tune.Identity{"cookie": "7"}, Pair: &journal.Beside{Tunable: "q.pair", Target: "host", How: h, Value: "0"}},
		{Kind: journal.Done, Time: at, Rollout: "r1", Tunable: "q.plain", Target: "host", New: "50", ReadBack: "48"},
		{Kind: journal.Committed, Time: at, Rollout: "r1"},
	}
}

// Bytes is a journal of records, and where each ends.
func Bytes(t interface{ Fatal(...any) }, recs []journal.Record) (data []byte, ends []int) {
	for i, r := range recs {
		r.Seq = uint64(i + 1)
		line, err := journal.Encode(r)
		if err != nil {
			t.Fatal(err)
		}
		data = append(data, line...)
		ends = append(ends, len(data))
	}
	return data, ends
}

package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"semantos/internal/tune"
	"semantos/kb/kbtest"
)

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	t.Parallel()
	kbtest.Run(t, func(t *testing.T) (kbtest.Store, func() kbtest.Store) {
		dir := filepath.Join(t.TempDir(), "odd ?name#with%20signs")
		return open(t, dir), func() kbtest.Store { return open(t, dir) }
	})
}

// fill makes a closed store with enough rollouts to span many pages.
func fill(t *testing.T, dir string) {
	t.Helper()
	s := open(t, dir)
	for i := range 60 {
		r := kbtest.Rollout(kbtest.Recommendation("accept_queue", fmt.Sprint(i)), testTime(i), tune.Committed, tune.ReasonBetter)
		if err := s.SaveRollout(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestModes(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new")
	s := open(t, dir)
	defer s.Close()
	if err := s.SaveRollout(t.Context(), kbtest.Rollout(kbtest.Recommendation("a", "1"), testTime(0), tune.Committed, "")); err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(dir); info.Mode().Perm() != 0o700 {
		t.Errorf("directory has mode %v", info.Mode())
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) < 3 {
		t.Errorf("only %v", entries)
	}
	for _, e := range entries {
		if info, _ := e.Info(); info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
	}
}

func TestDamage(t *testing.T) {
	t.Parallel()
	damage := map[string]func(t *testing.T, path string, good []byte) []byte{
		"empty":           func(*testing.T, string, []byte) []byte { return nil },
		"half a page":     func(_ *testing.T, _ string, b []byte) []byte { return b[:2048] },
		"truncated":       func(_ *testing.T, _ string, b []byte) []byte { return b[:len(b)/2/4096*4096] },
		"cut mid page":    func(_ *testing.T, _ string, b []byte) []byte { return b[:len(b)-1000] },
		"not a database":  func(*testing.T, string, []byte) []byte { return bytes.Repeat([]byte("journal line\n"), 400) },
		"zeroed header":   func(_ *testing.T, _ string, b []byte) []byte { return append(make([]byte, 100), b[100:]...) },
		"zeroed pages":    func(_ *testing.T, _ string, b []byte) []byte { clear(b[4096 : len(b)-4096]); return b },
		"wal without db":  func(t *testing.T, p string, b []byte) []byte { writeFile(t, p+"-wal", b); os.Remove(p); return nil },
		"another program": func(t *testing.T, p string, _ []byte) []byte { return foreign(t) },
	}
	for name, spoil := range damage {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			fill(t, dir)
			path := filepath.Join(dir, File)
			good, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			bad := spoil(t, path, good)
			if name != "wal without db" {
				writeFile(t, path, bad)
			}
			_, err = Open(t.Context(), dir)
			if !errors.Is(err, tune.ErrCorrupt) || !strings.Contains(err.Error(), path) || !strings.Contains(tune.Hint(err), "move") {
				t.Errorf("got %v (hint %q)", err, tune.Hint(err))
			}
			if now, _ := os.ReadFile(path); !bytes.Equal(now, bad) {
				t.Error("the damaged file was altered")
			}
		})
	}
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func foreign(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "other.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("CREATE TABLE thing (x)"); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestNewerSchemaIsRefusedAndKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := s.db.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	s.Close()
	_, err := Open(t.Context(), dir)
	if !errors.Is(err, tune.ErrStorage) || !strings.Contains(err.Error(), "version 99") {
		t.Errorf("got %v", err)
	}
}

func TestUnusableDirectory(t *testing.T) {
	t.Parallel()
	occupied := filepath.Join(t.TempDir(), "file")
	writeFile(t, occupied, []byte("x"))
	linked := t.TempDir()
	if err := os.Symlink("/etc/passwd", filepath.Join(linked, File)); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{occupied, filepath.Join(occupied, "below"), "/proc/semantos", linked} {
		_, err := Open(t.Context(), dir)
		if !errors.Is(err, tune.ErrStorage) || tune.Hint(err) == "" {
			t.Errorf("%s: got %v", dir, err)
		}
	}
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	defer s.Close()
	s.db.SetMaxOpenConns(1) // the limit below holds for one connection
	if _, err := s.db.Exec("PRAGMA max_page_count = 24"); err != nil {
		t.Fatal(err)
	}
	saved := 0
	var err error
	for err == nil && saved < 1000 {
		r := kbtest.Rollout(kbtest.Recommendation("a", fmt.Sprint(saved)), testTime(saved), tune.Committed, "")
		if err = s.SaveRollout(t.Context(), r); err == nil {
			saved++
		}
	}
	if !errors.Is(err, tune.ErrStorage) || !strings.Contains(tune.Hint(err), "full") {
		t.Fatalf("got %v after %d", err, saved)
	}
	all, err := s.Rollouts(t.Context(), 0)
	if err != nil || len(all) != saved {
		t.Errorf("%d rollouts of %d readable: %v", len(all), saved, err)
	}
}

func TestConcurrentCreation(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			s, err := Open(context.Background(), dir)
			if err != nil {
				t.Errorf("opener %d: %v", i, err)
				return
			}
			defer s.Close()
			r := kbtest.Rollout(kbtest.Recommendation("a", fmt.Sprint(i)), testTime(i), tune.Committed, "")
			if err := s.SaveRollout(context.Background(), r); err != nil {
				t.Errorf("writer %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	s := open(t, dir)
	defer s.Close()
	all, err := s.Rollouts(t.Context(), 0)
	if err != nil || len(all) != 8 {
		t.Errorf("%d rollouts of 8: %v", len(all), err)
	}
}

package alert

import (
	"context"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestSpoolOfAnotherUser: what root leaves there the user serve runs as can deliver, and nothing that user put
// in the way is overwritten or given to it.
func TestSpoolOfAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root: to give files away")
	}
	const user = 61100
	top := t.TempDir()
	dir := filepath.Join(top, "store")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, user, user); err != nil {
		t.Fatal(err)
	}
	leave := func() {
		s := New(Config{URL: "http://127.0.0.1:1/", Dir: in(dir), Host: "h", Now: time.Now, Rand: rand.New(rand.NewPCG(1, 1))})
		s.Post(alertOf(1))
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		s.Close(ctx)
	}
	leave()
	n := 0
	if err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err == nil && info.Sys().(*syscall.Stat_t).Uid != user {
			t.Errorf("%s is of uid %d", path, info.Sys().(*syscall.Stat_t).Uid)
		}
		n++
		return err
	}); err != nil || n != 4 { // the folder, the spool, its lock, the alert
		t.Errorf("%d files: %v", n, err)
	}
	// Another's file under the lock's name stays another's.
	mine := filepath.Join(top, "of root")
	if err := os.WriteFile(mine, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	lock := filepath.Join(dir, spoolLock)
	if err := os.Remove(lock); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(mine, lock); err != nil {
		t.Fatal(err)
	}
	leave()
	info, err := os.Stat(mine)
	if data, _ := os.ReadFile(mine); err != nil || info.Sys().(*syscall.Stat_t).Uid != 0 || string(data) != "x" {
		t.Errorf("root's file was given away or written: %v, %q", err, data)
	}
}

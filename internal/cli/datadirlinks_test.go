package cli

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"semantos/internal/config"
	"semantos/internal/privilege"
	"semantos/internal/tune"
	"semantos/kb/sqlite"
)

var ordinary = privilege.User{UID: privilege.FixedID, GID: privilege.FixedID}

// sharedDataDir gives a DATA_DIR that an ordinary user can reach and has the store of.
func sharedDataDir(t *testing.T) *app {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: files change owner")
	}
	a := &app{cfg: config.Config{DataDir: openFolder(t)}}
	if err := a.shareDataDir(ordinary); err != nil {
		t.Fatal(err)
	}
	return a
}

func openFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	reachable(t, dir)
	return dir
}

// use opens the store, writes and closes it, as a command of root's does.
func (a *app) use(ctx context.Context) error {
	return a.withStore(ctx, func(s store) error { return s.SaveRollout(ctx, tune.Rollout{ID: "r-1", State: tune.Committed}) })
}

// TestRootOpensTheStoreAsItsOwner: the user that serve runs as may put anything into its own folder, also between
// root's look and SQLite's open. Root's commands reach with it only what that user can: nothing of root's is read,
// written or given away, under whatever name it stands there.
func TestRootOpensTheStoreAsItsOwner(t *testing.T) {
	t.Parallel()
	names := append(storeFiles(), sqlite.File+"-journal", sqlite.File+".new")
	ways := map[string]func(secret, at string) error{"symbolic": os.Symlink, "hard": os.Link}
	for way, link := range ways {
		for _, name := range names {
			for _, there := range []bool{true, false} {
				t.Run(way+" "+name, func(t *testing.T) {
					t.Parallel()
					a := sharedDataDir(t)
					if there {
						if err := a.use(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
					secret := filepath.Join(a.cfg.DataDir, "secret") // on the same file system
					if err := os.WriteFile(secret, []byte("root's"), 0o600); err != nil {
						t.Fatal(err)
					}
					at := filepath.Join(a.cfg.OwnStoreDir(), name)
					if err := os.RemoveAll(at); err != nil {
						t.Fatal(err)
					}
					if err := link(secret, at); err != nil {
						t.Fatal(err)
					}
					err := a.use(t.Context())
					t.Logf("the store: %v", err)
					if err := a.shareDataDir(ordinary); err != nil {
						t.Error(err)
					}
					info, err := os.Lstat(secret)
					if err != nil {
						t.Fatal(err)
					}
					if data, err := os.ReadFile(secret); ownerOf(info) != 0 || info.Mode() != 0o600 || string(data) != "root's" || err != nil {
						t.Errorf("uid %d, %s, %q, %v", ownerOf(info), info.Mode(), data, err)
					}
				})
			}
		}
	}
}

// TestTheStoreStaysItsOwners: what root's commands make in the folder of serve's user is that user's.
func TestTheStoreStaysItsOwners(t *testing.T) {
	t.Parallel()
	a := sharedDataDir(t)
	s, err := a.newStore(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SaveRollout(t.Context(), tune.Rollout{ID: "r-1", State: tune.Committed}); err != nil {
		t.Fatal(err)
	}
	found, err := os.ReadDir(a.cfg.OwnStoreDir())
	if err != nil || len(found) < 4 { // with log, index and lock
		t.Errorf("%v, %v", found, err)
	}
	for _, f := range found {
		if info, err := f.Info(); err != nil || ownerOf(info) != ordinary.UID {
			t.Errorf("%s is uid %d's (%v)", f.Name(), ownerOf(info), err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestStoreMovesInWithItsOwner: what root's commands kept in DATA_DIR itself moves to serve's user once, folders with
// what is in them; a link there is refused and given to nobody.
func TestStoreMovesInWithItsOwner(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root: files change owner")
	}
	a := &app{cfg: config.Config{DataDir: openFolder(t)}}
	for _, dir := range []string{a.cfg.DataDir, filepath.Join(a.cfg.DataDir, spoolDir)} {
		s, err := sqlite.Open(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.shareDataDir(ordinary); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{sqlite.File, spoolDir, spoolDir + "/" + sqlite.File} {
		if info, err := os.Lstat(filepath.Join(a.cfg.OwnStoreDir(), name)); err != nil || ownerOf(info) != ordinary.UID {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := a.use(t.Context()); err != nil {
		t.Error(err)
	}
	for _, name := range storeFiles() {
		b := &app{cfg: config.Config{DataDir: openFolder(t)}}
		secret := filepath.Join(b.cfg.DataDir, "secret")
		if err := os.WriteFile(secret, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Link(secret, filepath.Join(b.cfg.DataDir, name)); err != nil {
			t.Fatal(err)
		}
		if err := b.shareDataDir(ordinary); err == nil {
			t.Errorf("%s: a file with a second name was moved in", name)
		}
		if info, err := os.Lstat(secret); err != nil || ownerOf(info) != 0 {
			t.Errorf("%s: what the link led to belongs to uid %d now (%v)", name, info.Sys().(*syscall.Stat_t).Uid, err)
		}
	}
}

// TestAnothersStoreIsNotTaken: a folder that RUN_AS of another day left is not given to the user of today.
func TestAnothersStoreIsNotTaken(t *testing.T) {
	t.Parallel()
	a := sharedDataDir(t)
	if err := a.shareDataDir(privilege.User{UID: ordinary.UID + 1, GID: ordinary.GID + 1}); err == nil {
		t.Error("it was taken")
	}
	var st unix.Stat_t
	if err := unix.Lstat(a.cfg.OwnStoreDir(), &st); err != nil || int(st.Uid) != ordinary.UID {
		t.Errorf("uid %d, %v", st.Uid, err)
	}
}

package cli

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"semantos/internal/config"
	"semantos/internal/privilege"
)

// TestStoreGivesAwayNothingBehindALink: the user that serve runs as may put links into its own folder. Root
// never gives that user what they lead to, neither when serve starts nor after a command of root's.
func TestStoreGivesAwayNothingBehindALink(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root: files change owner")
	}
	u := privilege.User{UID: 61100, GID: 61100}
	for _, name := range storeFiles() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			secret := filepath.Join(t.TempDir(), "secret")
			if err := os.WriteFile(secret, []byte("root's"), 0o600); err != nil {
				t.Fatal(err)
			}
			a := &app{cfg: config.Config{DataDir: t.TempDir()}}
			if err := a.shareDataDir(u); err != nil {
				t.Fatal(err)
			}
			link := filepath.Join(a.cfg.OwnStoreDir(), name)
			if err := os.Symlink(filepath.Dir(secret), link); err != nil {
				t.Fatal(err)
			}
			if err := os.Lchown(link, u.UID, u.GID); err != nil {
				t.Fatal(err)
			}
			if err := a.shareDataDir(u); err == nil {
				t.Error("a link in the store's place was taken for the store's")
			}
			if err := a.settleStore(); err == nil {
				t.Error("settled over a link")
			}
			if info, err := os.Stat(secret); err != nil || ownerOf(info) != 0 {
				t.Errorf("what the link led to belongs to uid %d now (%v)", info.Sys().(*syscall.Stat_t).Uid, err)
			}
		})
	}
}

// TestStoreFilesInAFolderAreChecked: what lies in a folder of the store is refused as what lies beside it.
func TestStoreFilesInAFolderAreChecked(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root: files change owner")
	}
	u := privilege.User{UID: 61100, GID: 61100}
	a := &app{cfg: config.Config{DataDir: t.TempDir()}}
	if err := a.shareDataDir(u); err != nil {
		t.Fatal(err)
	}
	spool := filepath.Join(a.cfg.OwnStoreDir(), spoolDir)
	if err := os.Mkdir(spool, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := a.settleStore(); err != nil {
		t.Fatal(err)
	}
	if err := a.checkStoreFiles(); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(spool, "semantos.db")
	if err := os.Symlink("/etc/passwd", link); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(link, u.UID, u.GID); err != nil {
		t.Fatal(err)
	}
	if err := a.checkStoreFiles(); err == nil {
		t.Error("a link in a folder of the store was not refused")
	}
}

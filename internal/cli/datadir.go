package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"semantos/internal/privilege"
	"semantos/internal/tune"
	"semantos/kb/sqlite"
)

// DATA_DIR as serve leaves it when it changes to another user: the folder and its journal stay root's, for
// whoever could write a journal could have the next guard write anything; history and knowledge lie in a
// folder of that user.

// storeFiles are what the store keeps, by name: nothing else below DATA_DIR is ever given away.
func storeFiles() []string {
	return []string{sqlite.File, sqlite.File + "-wal", sqlite.File + "-shm", sqlite.File + ".lock", spoolDir}
}

// shareDataDir prepares DATA_DIR for u; running it again changes nothing.
func (a *app) shareDataDir(u privilege.User) error {
	dir, err := os.Stat(a.cfg.DataDir)
	if err != nil {
		return err
	}
	if uid := ownerOf(dir); uid != 0 && uid != u.UID {
		return fmt.Errorf("DATA_DIR belongs to uid %d: %w", uid, tune.ErrNotPermitted)
	}
	mode := dir.Mode().Perm()&^0o022 | 0o710
	if err := errors.Join(os.Chown(a.cfg.DataDir, 0, u.GID), os.Chmod(a.cfg.DataDir, mode)); err != nil {
		return err
	}
	own := a.cfg.OwnStoreDir()
	if err := os.Mkdir(own, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(own)
	if err != nil || !info.IsDir() {
		return errors.Join(fmt.Errorf("%s is no folder: %w", own, tune.ErrStorage), err)
	}
	if uid := ownerOf(info); uid != 0 && uid != u.UID {
		return fmt.Errorf("%s belongs to uid %d: %w", own, uid, tune.ErrNotPermitted)
	}
	if err := errors.Join(os.Lchown(own, u.UID, u.GID), os.Chmod(own, 0o700)); err != nil {
		return err
	}
	// Where others could write, root's own files may be there under a second name.
	alone := ownerOf(dir) == 0 && dir.Mode().Perm()&0o022 == 0
	return a.moveIn(u, alone)
}

// moveIn moves into the folder of u what root's commands kept in DATA_DIR itself until now. It changes owner before
// it moves, in a folder where nobody but root can put something else in its place; nothing in u's own folder ever
// changes owner. Root's files become u's only if nobody else could have put them there (alone).
func (a *app) moveIn(u privilege.User, alone bool) error {
	dir, err := unix.Open(a.cfg.DataDir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", a.cfg.DataDir, err)
	}
	defer unix.Close(dir)
	for _, name := range storeFiles() {
		from, to := filepath.Join(a.cfg.DataDir, name), filepath.Join(a.cfg.OwnStoreDir(), name)
		if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := (giving{u, alone}).file(dir, from, name, true); err != nil {
			return err
		}
		if err := os.Rename(from, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// giving gives what only root can have made to a user.
type giving struct {
	to    privilege.User
	roots bool // root's files too
}

// file gives one away, and first what lies in it: the user can enter a folder from then on. No link is followed.
func (g giving) file(dir int, path, name string, enter bool) error {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("look at %s: %w", path, err)
	}
	if !plain(&st) || int(st.Uid) != g.to.UID && (st.Uid != 0 || !g.roots) {
		return &tune.Error{Op: "use", Subject: path, Err: fmt.Errorf("%w: it is a link, has a second name, or belongs to somebody else", tune.ErrStorage),
			Hint: "find out who put it there; move it away to start with an empty history"}
	}
	if enter && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if err := g.within(fd, path); err != nil {
			return err
		}
	}
	if err := unix.Fchownat(fd, "", g.to.UID, g.to.GID, unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("give %s to %s: %w", path, g.to, err)
	}
	return nil
}

func (g giving) within(dir int, path string) error {
	listed, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	f := os.NewFile(uintptr(listed), path)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("list %s: %w", path, err)
	}
	for _, name := range names {
		if err := g.file(dir, filepath.Join(path, name), name, false); err != nil {
			return err
		}
	}
	return nil
}

// storeRights has root open the store with the rights of the user in whose folder it lies: what that user puts
// there, also in the moment between a look and an open, leads to nothing but the user's own. nil: our own rights.
func (a *app) storeRights() sqlite.Rights {
	info, err := os.Lstat(a.cfg.OwnStoreDir())
	if a.uid != 0 || os.Geteuid() != 0 || err != nil || !info.IsDir() || ownerOf(info) == 0 {
		return nil
	}
	uid, gid := ids(info)
	u := privilege.User{UID: uid, GID: gid}
	return func(open func() error) error {
		if err := privilege.As(u, open); err != nil {
			return fmt.Errorf("with the rights of %s: %w", u, err)
		}
		return nil
	}
}

// plain reports whether a file is nobody else's under another name.
func plain(st *unix.Stat_t) bool {
	kind := st.Mode & unix.S_IFMT
	return kind == unix.S_IFDIR || kind == unix.S_IFREG && st.Nlink == 1
}

func ownerOf(info fs.FileInfo) int {
	uid, _ := ids(info)
	return uid
}

// ids are owner and group; -1 where the file system tells none.
func ids(info fs.FileInfo) (uid, gid int) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return -1, -1
	}
	return int(st.Uid), int(st.Gid)
}

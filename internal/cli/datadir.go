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
	if info, err := os.Lstat(own); err != nil || !info.IsDir() {
		return errors.Join(fmt.Errorf("%s is no folder: %w", own, tune.ErrStorage), err)
	}
	if err := errors.Join(os.Lchown(own, u.UID, u.GID), os.Chmod(own, 0o700)); err != nil {
		return err
	}
	for _, name := range storeFiles() { // what root's commands kept in DATA_DIR itself until now
		from, to := filepath.Join(a.cfg.DataDir, name), filepath.Join(own, name)
		if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.Rename(from, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return a.settleStore()
}

// settleStore gives files that root made in the folder of serve's user to that user.
func (a *app) settleStore() error {
	uid, gid, ok := a.storeOwner()
	if !ok {
		return nil
	}
	return a.eachStoreFile(func(path string, fd int, st *unix.Stat_t) error {
		switch {
		case !plain(st) || st.Uid != 0 && int(st.Uid) != uid:
			return notPlain(path)
		case int(st.Uid) == uid:
			return nil
		}
		if err := unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
			return fmt.Errorf("give %s to uid %d: %w", path, uid, err)
		}
		return nil
	})
}

// eachStoreFile calls do with what the store keeps, and with what lies in folders of it. Each is opened below
// the folder that holds it and no link is followed: the folder is another user's, who may put there whatever
// leads elsewhere, also while we look.
func (a *app) eachStoreFile(do func(path string, fd int, st *unix.Stat_t) error) error {
	own := a.cfg.OwnStoreDir()
	dir, err := unix.Open(own, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", own, err)
	}
	defer unix.Close(dir)
	return eachFile(dir, own, storeFiles(), true, do)
}

func eachFile(dir int, path string, names []string, inside bool, do func(string, int, *unix.Stat_t) error) error {
	for _, name := range names {
		if err := oneFile(dir, filepath.Join(path, name), name, inside, do); err != nil {
			return err
		}
	}
	return nil
}

func oneFile(dir int, path, name string, inside bool, do func(string, int, *unix.Stat_t) error) error {
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
	if st.Nlink == 0 {
		return nil // removed meanwhile
	}
	if err := do(path, fd, &st); err != nil || !inside || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return err
	}
	listed, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	f := os.NewFile(uintptr(listed), path)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("list %s: %w", path, err)
	}
	return eachFile(fd, path, names, false, do)
}

// storeOwner is the user whose folder the store lies in, where root must mind it.
func (a *app) storeOwner() (uid, gid int, ok bool) {
	info, err := os.Lstat(a.cfg.OwnStoreDir())
	if a.uid != 0 || os.Geteuid() != 0 || err != nil || !info.IsDir() || ownerOf(info) == 0 {
		return 0, 0, false
	}
	uid, gid = ids(info)
	return uid, gid, true
}

// plain reports whether a file is nobody else's under another name.
func plain(st *unix.Stat_t) bool {
	kind := st.Mode & unix.S_IFMT
	return kind == unix.S_IFDIR || kind == unix.S_IFREG && st.Nlink == 1
}

func notPlain(path string) error {
	return &tune.Error{Op: "use", Subject: path, Err: fmt.Errorf("%w: it is a link, has a second name, or belongs to somebody else", tune.ErrStorage),
		Hint: "find out who put it there; move it away to start with an empty history"}
}

// checkStoreFiles refuses, before root opens them, files in another user's folder that lead elsewhere.
func (a *app) checkStoreFiles() error {
	uid, _, ok := a.storeOwner()
	if !ok {
		return nil
	}
	return a.eachStoreFile(func(path string, _ int, st *unix.Stat_t) error {
		if !plain(st) || st.Uid != 0 && int(st.Uid) != uid {
			return notPlain(path)
		}
		return nil
	})
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

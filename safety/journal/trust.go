package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"semantos/internal/tune"
)

// trust refuses a journal that somebody with fewer rights than ours could have written: it says which
// values to write where, and a restore asks no range. The folder above the journal's, its own and the file
// must belong to us or to root and be writable by nobody else; what is absent is made by us.
func (HostDisk) trust(journal string) error {
	folder := filepath.Dir(journal)
	above, aboveErr := os.Stat(filepath.Dir(folder)) // DATA_DIR may be a link
	own, ownErr := os.Lstat(folder)
	file, fileErr := os.Lstat(journal)
	for _, err := range []error{aboveErr, ownErr, fileErr} {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return storageError(journal, err)
		}
	}
	why := distrust(above, fs.ModeDir)
	why = errors.Join(why, distrust(own, fs.ModeDir), distrust(file, 0))
	if why == nil {
		return nil
	}
	return &tune.Error{Op: "trust journal", Subject: journal,
		Err:  fmt.Errorf("%w: somebody else could have written it: %w", tune.ErrCorrupt, why),
		Hint: fmt.Sprintf("look at what it says; then move it away, or give it to uid %d (chown, chmod go-w)", os.Geteuid())}
}

// distrust says why a file of some type could be somebody else's; nil for an absent one.
func distrust(info fs.FileInfo, want fs.FileMode) error {
	if info == nil {
		return nil
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	writable := info.Mode().Perm()&0o022 != 0
	sticky := want == fs.ModeDir && info.Mode()&fs.ModeSticky != 0
	switch {
	case info.Mode().Type() != want:
		return fmt.Errorf("%s is %s", info.Name(), info.Mode())
	case !ok || int(st.Uid) != os.Geteuid() && st.Uid != 0:
		return fmt.Errorf("%s belongs to uid %d", info.Name(), st.Uid)
	case writable && !sticky:
		return fmt.Errorf("%s has mode %04o", info.Name(), info.Mode().Perm())
	}
	return nil
}

// truster is a disk that knows who could have written a file; a test's knows not.
type truster interface{ trust(path string) error }

// read gives a journal's bytes, if they are believed.
func ReadTrusted(d Disk, path string) ([]byte, error) {
	if t, ok := d.(truster); ok {
		if err := t.trust(path); err != nil {
			return nil, err
		}
	}
	return d.ReadFile(path)
}

package sqlite

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"modernc.org/sqlite"

	"semantos/internal/tune"
)

// File is the store's name in DATA_DIR; -wal and -shm stand beside it while it is open.
const File = "semantos.db"

// busyWait is how long a statement waits for another process (a command beside a running serve).
const busyWait = 10 * time.Second

// Store is safe for concurrent use, also by several processes on the same directory.
type Store struct {
	db    *sql.DB
	path  string
	queue bool // each write is also queued for a remote store; see Spool
}

// Open opens the store in dir, creating directory (0700) and file (0600) when absent, and brings its
// schema up to date. Errors wrap tune.ErrStorage (cannot be used) or tune.ErrCorrupt (is damaged).
func Open(ctx context.Context, dir string) (*Store, error) { return OpenWith(ctx, dir, nil) }

// OpenWith opens every file with other rights than our own; nil are our own.
func OpenWith(ctx context.Context, dir string, rights Rights) (*Store, error) {
	path := filepath.Join(dir, File)
	unlock := func() {}
	defer func() { unlock() }()
	err := rights.with(func() error {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return storage(path, err)
		}
		held, err := lock(dir)
		if err != nil {
			return storage(path, err)
		}
		unlock = held
		return ensureFile(ctx, dir, path, rights)
	})
	if err != nil {
		return nil, err
	}
	s := &Store{path: path}
	if s.db, err = connect(path, rights); err != nil {
		return nil, s.explain("open store", err)
	}
	if err := s.prepare(ctx); err != nil {
		s.db.Close()
		return nil, err
	}
	return s, nil
}

// Close ends the use of the store.
func (s *Store) Close() error {
	if err := s.db.Close(); err != nil {
		return s.explain("close store", err)
	}
	return nil
}

// lock serialises creation and migration between processes; it is not held while the store is used.
func lock(dir string) (func(), error) {
	f, err := os.OpenFile(filepath.Join(dir, File+".lock"), os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// ensureFile makes a complete database aside and renames it into place, so that an empty or short
// semantos.db is always damage and never a creation that was interrupted.
func ensureFile(ctx context.Context, dir, path string, rights Rights) error {
	info, err := os.Lstat(path)
	if err == nil {
		return checkFile(path, info)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return storage(path, err)
	}
	if _, err := os.Lstat(path + "-wal"); err == nil {
		return &tune.Error{
			Op: "open store", Subject: path,
			Err:  fmt.Errorf("%w: its write-ahead log is there, the file itself is not", tune.ErrCorrupt),
			Hint: "put the file back, or move " + path + "-wal and -shm away to start with an empty history",
		}
	}
	aside, err := asideDir(dir)
	if err != nil {
		return storage(path, err)
	}
	defer os.RemoveAll(aside)
	s := &Store{path: filepath.Join(aside, File)}
	f, err := os.OpenFile(s.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return storage(path, err)
	}
	f.Close()
	if s.db, err = connect(s.path, rights); err != nil {
		return s.explain("create store", err)
	}
	err = s.migrate(ctx)
	if closed := s.db.Close(); err == nil && closed != nil {
		err = s.explain("create store", closed)
	}
	if err != nil {
		return err
	}
	if err := os.Rename(s.path, path); err != nil {
		return storage(path, err)
	}
	return syncDir(dir)
}

// asideDir gives an empty directory for the creation; one that a killed process left is emptied. The
// lock makes the fixed name safe.
func asideDir(dir string) (string, error) {
	aside := filepath.Join(dir, File+".new")
	if err := os.RemoveAll(aside); err != nil {
		return "", err
	}
	return aside, os.Mkdir(aside, 0o700)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return storage(dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return storage(dir, err)
	}
	return nil
}

func checkFile(path string, info fs.FileInfo) error {
	switch {
	case !info.Mode().IsRegular():
		return storage(path, fmt.Errorf("it is not a regular file but %s", info.Mode().Type()))
	case info.Size() == 0:
		return corrupt(path, errors.New("the file is empty"))
	case info.Mode().Perm()&0o077 != 0:
		// History names processes and addresses; it is nobody else's to read.
		if err := os.Chmod(path, 0o600); err != nil {
			return storage(path, err)
		}
	}
	return checkHeader(path)
}

// checkHeader looks before SQLite does, because opening in WAL mode would already alter a file that is
// not ours. Offsets are those of the SQLite file format: magic at 0, application id at 68.
func checkHeader(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return storage(path, err)
	}
	defer f.Close()
	head := make([]byte, 100)
	if _, err := io.ReadFull(f, head); err != nil {
		return corrupt(path, errors.New("the file is shorter than its header"))
	}
	if string(head[:16]) != "SQLite format 3\x00" {
		return corrupt(path, errors.New("it is not a database"))
	}
	if id := binary.BigEndian.Uint32(head[68:]); id != applicationID {
		return corrupt(path, fmt.Errorf("it is a database of another program (application id %#x)", id))
	}
	return nil
}

func connect(path string, rights Rights) (*sql.DB, error) {
	q := url.Values{"mode": {"rw"}, "_txlock": {"immediate"}, "_pragma": {
		fmt.Sprintf("busy_timeout(%d)", busyWait.Milliseconds()),
		"foreign_keys(1)", "journal_mode(WAL)", "synchronous(FULL)",
	}}
	name := strings.ReplaceAll(url.PathEscape(path), "%2F", "/")
	base, err := sqlite.NewConnector("file:" + name + "?" + q.Encode())
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(base)
	if rights != nil {
		db = sql.OpenDB(opener{base, rights})
	}
	db.SetMaxOpenConns(4)
	return db, nil
}

// quickCheckLimit bounds the work of a start: above it, damage is found by the reads that meet it.
const quickCheckLimit = 64 << 20

func (s *Store) prepare(ctx context.Context) error {
	if info, err := os.Stat(s.path); err == nil && info.Size() <= quickCheckLimit {
		var verdict string
		if err := s.db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
			return s.explain("open store", err)
		}
		if verdict != "ok" {
			return corrupt(s.path, errors.New(verdict))
		}
	}
	return s.migrate(ctx)
}

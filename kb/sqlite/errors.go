package sqlite

import (
	"context"
	"errors"
	"fmt"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"semantos/internal/tune"
)

func storage(path string, err error) error {
	return &tune.Error{
		Op: "use store", Subject: path, Err: fmt.Errorf("%w: %w", tune.ErrStorage, err),
		Hint: "check space and rights of the directory, or name another one with --data-dir",
	}
}

func corrupt(path string, err error) error {
	return &tune.Error{
		Op: "open store", Subject: path, Err: fmt.Errorf("%w: %w", tune.ErrCorrupt, err),
		Hint: fmt.Sprintf("move %s and, if there, %s-wal and %s-shm away; history starts empty, and the journal "+
			"that restores tunables is a separate file and unaffected", path, path, path),
	}
}

// explain turns what SQLite says into what an operator can act on.
func (s *Store) explain(op string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", op, err)
	}
	var known *tune.Error
	if errors.As(err, &known) {
		return err
	}
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return fmt.Errorf("%s %s: %w", op, s.path, err)
	}
	switch e.Code() & 0xff {
	case lib.SQLITE_CORRUPT, lib.SQLITE_NOTADB:
		return corrupt(s.path, err)
	case lib.SQLITE_FULL:
		return &tune.Error{Op: op, Subject: s.path, Err: fmt.Errorf("%w: %w", tune.ErrStorage, err),
			Hint: "the disk is full: free some space, or name another directory with --data-dir"}
	case lib.SQLITE_BUSY, lib.SQLITE_LOCKED:
		return &tune.Error{Op: op, Subject: s.path, Err: fmt.Errorf("%w: %w", tune.ErrStorage, err),
			Hint: fmt.Sprintf("another process held the store for %v: try again, or find it with fuser", busyWait)}
	case lib.SQLITE_IOERR, lib.SQLITE_CANTOPEN, lib.SQLITE_READONLY, lib.SQLITE_PERM, lib.SQLITE_AUTH:
		return storage(s.path, err)
	}
	return fmt.Errorf("%s %s: %w", op, s.path, err)
}

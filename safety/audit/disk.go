package audit

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// File is what the log needs of an open segment.
type File interface {
	Write(p []byte) (int, error)
	Sync() error
	Truncate(size int64) error
	Close() error
}

// Disk is what the log writes through; tests put faults into it.
type Disk interface {
	Append(path string) (File, error)       // opens for appending, 0600; a new one is on disk with its name
	Replace(path string, data []byte) error // all or nothing, 0600; for the run folder, so it is not synced
	Remove(path string) error               // absent is fine; on disk when it returns
}

// OS is the real file system.
type OS struct{}

// Append makes the folder too, for root only.
func (OS) Append(path string) (File, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	_, statErr := os.Lstat(path)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if errors.Is(statErr, fs.ErrNotExist) {
		if err := errors.Join(f.Sync(), syncDir(dir), syncDir(filepath.Dir(dir))); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return f, nil
}

// Replace writes beside and renames.
func (OS) Replace(path string, data []byte) error {
	tmp := path + ".new" // one guard per host, one writer per guard
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// Remove deletes a file.
func (OS) Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

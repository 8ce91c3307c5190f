package journal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Disk is the part of the file system that the journal and persist use; tests put faults into it.
type Disk interface {
	ReadFile(path string) ([]byte, error)
	Append(path string) (DiskFile, error)                     // opens for appending, makes it 0600 and syncs its folder
	Replace(path string, data []byte, perm fs.FileMode) error // all or nothing, on disk when it returns
	Remove(path string) error                                 // absent is fine; on disk when it returns
	List(dir string) ([]string, error)                        // names; an absent folder is empty
}

// DiskFile is what the journal needs of an open file. Only Write, Sync and Truncate can fail.
type DiskFile interface {
	Write(p []byte) (int, error)
	Sync() error
	Truncate(size int64) error
	Close() error
}

// HostDisk is the real file system.
type HostDisk struct{}

type osFile struct{ *os.File }

func (HostDisk) ReadFile(path string) ([]byte, error) { return os.ReadFile(path) }

func (HostDisk) Append(path string) (DiskFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	_, statErr := os.Stat(path)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if errors.Is(statErr, fs.ErrNotExist) {
		if err := errors.Join(f.Sync(), syncDir(filepath.Dir(path)), syncDir(filepath.Dir(filepath.Dir(path)))); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return osFile{f}, nil
}

func (HostDisk) Replace(path string, data []byte, perm fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".semantos-*.tmp")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone already when the rename succeeded
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Chmod(perm))
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func (HostDisk) Remove(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func (HostDisk) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

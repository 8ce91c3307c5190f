package guard

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"semantos/internal/tune"
)

// journalFile is what the journal needs of an open file. Only Write, Sync and Truncate can fail.
type journalFile interface {
	Write(p []byte) (int, error)
	Sync() error
	Truncate(size int64) error
	Close() error
}

// disk is the part of the file system that the journal and persist use; tests put faults into it.
type disk interface {
	ReadFile(path string) ([]byte, error)
	Append(path string) (journalFile, error)                  // opens for appending, makes it 0600 and syncs its folder
	Replace(path string, data []byte, perm fs.FileMode) error // all or nothing, on disk when it returns
	Remove(path string) error                                 // absent is fine; on disk when it returns
	List(dir string) ([]string, error)                        // names; an absent folder is empty
}

// compactAbove is the size from which closed rollouts are dropped at the next start.
const compactAbove = 4 << 20

// journal is one append-only file. Its zero position is after the last good record: a torn tail is cut
// before the first append, and a failed append is cut off again so that no later record follows half a line.
type journal struct {
	disk    disk
	path    string
	file    journalFile
	size    int64
	seq     uint64
	torn    bool  // half a record stands behind size
	broken  error // an append or sync failed and could not be taken back
	corrupt error // what stands in the file is damaged: restore only
}

// openJournal reads path; it is opened for writing by the first append, for what opening writes may wait for
// the disk, and what was read is to be put back first. A journal that cannot be written refuses every append
// with its reason.
func openJournal(d disk, path, runDir string) (*journal, scanned) {
	j := &journal{disk: d, path: path}
	data, err := readTrusted(d, path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		if j.broken = err; !errors.Is(err, tune.ErrCorrupt) {
			j.broken = storageError(path, err)
		}
		return j, scanned{badAt: -1}
	}
	s := scanJournal(data)
	j.size = s.good
	for _, r := range s.records {
		j.seq = max(j.seq, r.Seq)
	}
	if s.badAt >= 0 {
		j.corrupt = corruptError(path, s, runDir)
	}
	j.torn = s.torn > 0
	return j, s
}

// open makes the file ready for appending.
func (j *journal) open() error {
	if j.broken != nil || j.file != nil {
		return j.broken
	}
	file, err := j.disk.Append(j.path)
	if err != nil {
		j.broken = storageError(j.path, err)
		return j.broken
	}
	j.file = file
	if j.torn {
		if err := file.Truncate(j.size); err != nil {
			j.broken = storageError(j.path, err)
		}
	}
	return j.broken
}

// usable says whether a new change may be journaled.
func (j *journal) usable() error {
	if j.corrupt != nil {
		return j.corrupt
	}
	return j.broken
}

// append writes records, and waits for the disk when sync is set. After a failed sync the kernel may
// have dropped the pages it could not write, so nothing more is trusted to this file.
func (j *journal) append(sync bool, recs ...record) error {
	if err := j.open(); err != nil {
		return err
	}
	var lines []byte
	for i := range recs {
		recs[i].Seq = j.seq + uint64(i) + 1
		line, err := encodeRecord(recs[i])
		if err != nil {
			return err
		}
		lines = append(lines, line...)
	}
	if _, err := j.file.Write(lines); err != nil {
		return j.takeBack(err)
	}
	if sync {
		if err := j.file.Sync(); err != nil {
			err = j.takeBack(err)
			j.broken = err
			return err
		}
	}
	j.size += int64(len(lines))
	j.seq += uint64(len(recs))
	return nil
}

// takeBack cuts a half-written line off again.
func (j *journal) takeBack(cause error) error {
	err := storageError(j.path, cause)
	if cut := j.file.Truncate(j.size); cut != nil {
		j.broken = err
	}
	return err
}

func (j *journal) close() {
	if j.file != nil {
		_ = j.file.Close() // everything that matters was synced
	}
}

// compact rewrites the journal with the records of open rollouts only, all or nothing.
func (j *journal) compact(s *journalState) error {
	if j.usable() != nil || j.size < compactAbove {
		return nil
	}
	data, err := j.disk.ReadFile(j.path)
	if err != nil {
		return storageError(j.path, err)
	}
	var lines []byte
	seq := j.seq
	recs := scanJournal(data).records
	anchor := lastAnchor(recs)
	for i, r := range recs {
		if ro := s.rollouts[r.Rollout]; i != anchor && (ro == nil || ro.Closed) {
			continue
		}
		seq++
		r.Seq = seq
		line, err := encodeRecord(r)
		if err != nil {
			return err
		}
		lines = append(lines, line...)
	}
	if err := j.disk.Replace(j.path, lines, 0o600); err != nil {
		return storageError(j.path, err)
	}
	j.close()
	file, err := j.disk.Append(j.path)
	if err != nil {
		j.broken = storageError(j.path, err)
		return j.broken
	}
	j.file, j.size, j.seq, j.torn = file, int64(len(lines)), seq, false
	return nil
}

func storageError(path string, err error) error {
	hint := "free some space or give another folder with --data-dir; what is held now can still be put back"
	if errors.Is(err, fs.ErrPermission) {
		hint = "run as root, or give a folder you may write with --data-dir"
	}
	return &tune.Error{Op: "write journal", Subject: path, Err: fmt.Errorf("%w: %w", tune.ErrStorage, err), Hint: hint}
}

func corruptError(path string, s scanned, runDir string) error {
	return &tune.Error{Op: "read journal", Subject: path,
		Err: fmt.Errorf("%w at byte %d: %w", tune.ErrCorrupt, s.badAt, s.bad),
		Hint: fmt.Sprintf("'semantos rollback --all' restores from its good records and from %s; then move the file away",
			filepath.Join(runDir, "open"))}
}

// journalPath is where a data folder keeps its journal.
func journalPath(dataDir string) string { return filepath.Join(dataDir, "journal", "journal.log") }

// osDisk is the real file system.
type osDisk struct{}

type osFile struct{ *os.File }

func (osDisk) ReadFile(path string) ([]byte, error) { return os.ReadFile(path) }

func (osDisk) Append(path string) (journalFile, error) {
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

func (osDisk) Replace(path string, data []byte, perm fs.FileMode) error {
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

func (osDisk) Remove(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func (osDisk) List(dir string) ([]string, error) {
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

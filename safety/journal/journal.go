package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"semantos/internal/tune"
)

// compactAbove is the size from which closed rollouts are dropped at the next start.
const compactAbove = 4 << 20

// Journal is one append-only file. Its zero position is after the last good record: a torn tail is cut
// before the first append, and a failed append is cut off again so that no later record follows half a line.
type Journal struct {
	disk    Disk
	path    string
	file    DiskFile
	size    int64
	seq     uint64
	torn    bool  // half a record stands behind size
	broken  error // an append or sync failed and could not be taken back
	corrupt error // what stands in the file is damaged: restore only
}

// Open reads path; it is opened for writing by the first append, for what opening writes may wait for
// the disk, and what was read is to be put back first. A journal that cannot be written refuses every append
// with its reason.
func Open(d Disk, path, runDir string) (*Journal, Scanned) {
	j := &Journal{disk: d, path: path}
	data, err := readInTime(d, path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		if j.broken = err; !errors.Is(err, tune.ErrCorrupt) {
			j.broken = storageError(path, err)
		}
		return j, Scanned{BadAt: -1}
	}
	s := Scan(data)
	j.size = s.Good
	for _, r := range s.Records {
		j.seq = max(j.seq, r.Seq)
	}
	if s.BadAt >= 0 {
		j.corrupt = CorruptError(path, s, runDir)
	}
	j.torn = s.Torn > 0
	return j, s
}

// readWait is what the disk of a journal has to give it: far more than one in order takes. The copies in the run
// folder then tell what is to be put back, and nothing new is written.
const readWait = 5 * time.Second

// readInTime reads a journal; a disk that does not answer is an error.
func readInTime(d Disk, path string) ([]byte, error) {
	if _, real := d.(truster); !real {
		return ReadTrusted(d, path) // a test's disk answers, or ends the goroutine that asks it
	}
	type answer struct {
		data []byte
		err  error
	}
	read := make(chan answer, 1)
	go func() {
		data, err := ReadTrusted(d, path)
		read <- answer{data, err}
	}()
	select {
	case a := <-read:
		return a.data, a.err
	case <-time.After(readWait):
		return nil, fmt.Errorf("read %s: its disk did not answer within %s", path, readWait)
	}
}

// open makes the file ready for appending.
func (j *Journal) open() error {
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

// Usable says whether a new change may be journaled.
func (j *Journal) Usable() error {
	if j.corrupt != nil {
		return j.corrupt
	}
	return j.broken
}

// Append writes records, and waits for the disk when sync is set. After a failed sync the kernel may
// have dropped the pages it could not write, so nothing more is trusted to this file.
func (j *Journal) Append(sync bool, recs ...Record) error {
	if err := j.open(); err != nil {
		return err
	}
	var lines []byte
	for i := range recs {
		recs[i].Seq = j.seq + uint64(i) + 1
		line, err := Encode(recs[i])
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
func (j *Journal) takeBack(cause error) error {
	err := storageError(j.path, cause)
	if cut := j.file.Truncate(j.size); cut != nil {
		j.broken = err
	}
	return err
}

// Close ends it; everything that matters was synced.
func (j *Journal) Close() {
	if j.file != nil {
		_ = j.file.Close() // everything that matters was synced
	}
}

// compact rewrites the journal with the records of open rollouts only, all or nothing.
func (j *Journal) compact(s *State) error {
	if j.Usable() != nil || j.size < compactAbove {
		return nil
	}
	data, err := j.disk.ReadFile(j.path)
	if err != nil {
		return storageError(j.path, err)
	}
	var lines []byte
	seq := j.seq
	recs := Scan(data).Records
	anchor := lastAnchor(recs)
	for i, r := range recs {
		if ro := s.Rollouts[r.Rollout]; i != anchor && (ro == nil || ro.Closed) {
			continue
		}
		seq++
		r.Seq = seq
		line, err := Encode(r)
		if err != nil {
			return err
		}
		lines = append(lines, line...)
	}
	if err := j.disk.Replace(j.path, lines, 0o600); err != nil {
		return storageError(j.path, err)
	}
	j.Close()
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

// CorruptError says where a journal is damaged, and what still restores.
func CorruptError(path string, s Scanned, runDir string) error {
	return &tune.Error{Op: "read journal", Subject: path,
		Err: fmt.Errorf("%w at byte %d: %w", tune.ErrCorrupt, s.BadAt, s.Bad),
		Hint: fmt.Sprintf("'semantos rollback --all' restores from its good records and from %s; then move the file away",
			filepath.Join(runDir, "open"))}
}

// Path is where a data folder keeps its journal.
func Path(dataDir string) string { return filepath.Join(dataDir, "journal", "journal.log") }

// lastAnchor finds the newest record of an ended rollout that knows the log's head; -1 when none does.
func lastAnchor(recs []Record) int {
	for i := len(recs) - 1; i >= 0; i-- {
		if recs[i].Kind == Closed && recs[i].Log != nil {
			return i
		}
	}
	return -1
}

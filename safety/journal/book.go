package journal

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"semantos/internal/tune"
)

// Book is the journal of one data folder with its copies in the run folder: one small journal per
// rollout, which a later command with another data folder finds.
type Book struct {
	main    *Journal
	disk    Disk
	dataDir string
	runDir  string
	copies  map[string]*Journal
}

// OpenBook reads the journal of a data folder; a file that cannot be written is still scanned.
func OpenBook(d Disk, dataDir, runDir string) (*Book, Scanned) {
	main, s := Open(d, Path(dataDir), runDir)
	return &Book{main: main, disk: d, dataDir: dataDir, runDir: runDir, copies: map[string]*Journal{}}, s
}

// Usable says whether a new change may be journaled, and else why not.
func (b *Book) Usable() error { return b.main.Usable() }

// Record appends to the journal, then to the copies. A change needs both; a restore has already
// happened, so it is told to the copies even when the journal cannot be written, and the copy of a
// closed rollout is dropped only when the journal knows.
func (b *Book) Record(_ context.Context, sync bool, recs ...Record) error {
	for i := range recs {
		recs[i].DataDir = b.dataDir
	}
	// Whoever asked before may have met the queue at work, which has no answer then.
	if slices.ContainsFunc(recs, func(r Record) bool { return r.Kind == Intent }) {
		if err := b.Usable(); err != nil {
			return err
		}
	}
	mainErr := b.main.Append(sync, recs...)
	var copyErr error
	for _, r := range recs {
		if mainErr != nil && !r.Kind.afterwards() {
			continue
		}
		if mainErr == nil && r.Kind == Closed {
			copyErr = errors.Join(copyErr, b.dropCopy(r.Rollout))
			continue
		}
		copyErr = errors.Join(copyErr, b.toCopy(r))
	}
	return errors.Join(mainErr, copyErr)
}

// Later is record where nothing runs beside: what cannot be written is found out by the next start.
func (b *Book) Later(sync bool, recs ...Record) { _ = b.Record(context.Background(), sync, recs...) }

func (b *Book) toCopy(r Record) error {
	j := b.copies[r.Rollout]
	if j == nil {
		path := CopyPath(b.runDir, b.dataDir, r.Rollout)
		if r.Kind != Intent {
			if _, err := b.disk.ReadFile(path); err != nil {
				return nil // nothing of this rollout was copied: nothing to say about it
			}
		}
		j, _ = Open(b.disk, path, b.runDir)
		b.copies[r.Rollout] = j
	}
	return j.Append(false, r)
}

func (b *Book) dropCopy(rollout string) error {
	if j := b.copies[rollout]; j != nil {
		j.Close()
		delete(b.copies, rollout)
	}
	return b.disk.Remove(CopyPath(b.runDir, b.dataDir, rollout))
}

// Close ends it; everything that matters was synced.
func (b *Book) Close() {
	b.main.Close()
	for _, j := range b.copies {
		j.Close()
	}
}

// CopyPath names a rollout's copy: rollouts of two data folders never meet in one file.
func CopyPath(runDir, dataDir, rollout string) string {
	return filepath.Join(runDir, "open", fmt.Sprintf("%s.%08x.log", rollout, crc32.ChecksumIEEE([]byte(dataDir))))
}

// Copy is one copy as found in the run folder.
type Copy struct {
	Path    string
	DataDir string
	Records []Record
}

// ReadCopies finds every copy. A damaged one still gives its good records.
func ReadCopies(d Disk, runDir string) ([]Copy, error) {
	dir := filepath.Join(runDir, "open")
	names, err := d.List(dir)
	if err != nil {
		return nil, RunDirError(dir, err)
	}
	var out []Copy
	for _, name := range names {
		if !strings.HasSuffix(name, ".log") {
			continue
		}
		data, err := ReadTrusted(d, filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // its rollout ended meanwhile: the journal's queue drops copies as the disk takes the records
		}
		if err != nil {
			return nil, RunDirError(filepath.Join(dir, name), err)
		}
		c := Copy{Path: filepath.Join(dir, name), Records: Scan(data).Records}
		for _, r := range c.Records {
			c.DataDir = r.DataDir
		}
		out = append(out, c)
	}
	return out, nil
}

// RunDirError says that a run folder cannot be used, and what to try.
func RunDirError(runDir string, err error) error {
	sentinel, hint := tune.ErrStorage, "check that the folder can be written"
	if errors.Is(err, os.ErrPermission) {
		sentinel, hint = tune.ErrNotPermitted, "run as root: changing tunables needs it"
	}
	return &tune.Error{Op: "use run folder", Subject: runDir, Err: fmt.Errorf("%w: %w", sentinel, err), Hint: hint}
}

// Path is where the journal lies.
func (b *Book) Path() string { return b.main.path }

// Prepare opens the journal for writing and drops what is closed, when it has grown. That it cannot be
// written is what usable says.
func (b *Book) Prepare(s *State) error {
	if b.main.open() != nil {
		return nil
	}
	return b.main.compact(s)
}

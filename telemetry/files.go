package telemetry

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// maxFile bounds what is read of one file: nothing this package reads is longer on a sane machine.
const maxFile = 4 << 20

// files reads below the host's root. Files read every tick stay open and are read again from their
// start (the kernel makes their content anew), which halves the cost of a tick; all share one buffer.
type files struct {
	root string // with a slash at its end
	open map[string]int
	buf  []byte
}

func newFiles(path func(parts ...string) string) *files {
	return &files{root: strings.TrimSuffix(path("proc"), "proc"), open: make(map[string]int), buf: make([]byte, 64<<10)}
}

// read gives the content of a file that stays open. The bytes are valid until the next read.
func (r *files) read(rel string) ([]byte, error) {
	fd, ok := r.open[rel]
	if !ok {
		var err error
		if fd, err = openFile(r.root + rel); err != nil {
			return nil, fileError(rel, err)
		}
		r.open[rel] = fd
	}
	b, err := r.slurp(fd)
	if err != nil {
		r.forget(rel) // the thing behind it is gone; the next tick opens its successor
		return nil, fileError(rel, err)
	}
	return b, nil
}

// once opens, reads and closes. The bytes are valid until the next read.
func (r *files) once(rel string) ([]byte, error) {
	fd, err := openFile(r.root + rel)
	if err != nil {
		return nil, fileError(rel, err)
	}
	b, err := r.slurp(fd)
	unix.Close(fd)
	if err != nil {
		return nil, fileError(rel, err)
	}
	return b, nil
}

func openFile(path string) (int, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func (r *files) slurp(fd int) ([]byte, error) {
	n := 0
	for {
		if n == len(r.buf) {
			if n >= maxFile {
				return nil, fmt.Errorf("longer than %d bytes: %w", maxFile, tune.ErrCorrupt)
			}
			r.buf = append(r.buf, make([]byte, len(r.buf))...)
		}
		m, err := unix.Pread(fd, r.buf[n:], int64(n))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if m == 0 {
			return r.buf[:n], nil
		}
		n += m
	}
}

func (r *files) forget(rel string) {
	if fd, ok := r.open[rel]; ok {
		unix.Close(fd)
		delete(r.open, rel)
	}
}

func (r *files) close() {
	for rel := range r.open {
		r.forget(rel)
	}
}

var errNotExist = fs.ErrNotExist

// absentErrors are the ways a kernel says that it has no such thing here: no file, the process or
// device gone, the accounting switched off.
var absentErrors = [...]error{fs.ErrNotExist, unix.ENOTDIR, unix.ESRCH, unix.ENODEV, unix.ENXIO, unix.EOPNOTSUPP}

func fileError(rel string, err error) error {
	for _, absent := range absentErrors {
		if errors.Is(err, absent) {
			return fmt.Errorf("%s is not here: %w", rel, tune.ErrNoData)
		}
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%s: %w", rel, tune.ErrNotPermitted)
	}
	return fmt.Errorf("read %s: %w", rel, err)
}

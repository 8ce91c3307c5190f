package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// maxFile bounds what is read of one file; the longest tunables are masks of some hundred bytes.
const maxFile = 64 << 10

// fileAccess reaches a tunable that is a file.
type fileAccess struct {
	t      *tune.Tunable
	target string
	place  place
}

func (f *fileAccess) read() (tune.Value, error) {
	fd, err := f.place.open(unix.O_RDONLY)
	if err != nil {
		return "", f.explain("read", opening, "", err)
	}
	defer unix.Close(fd)
	text, err := readAll(fd)
	if err != nil {
		return "", f.explain("read", reading, "", err)
	}
	return f.value(text), nil
}

func readAll(fd int) (string, error) {
	buf := make([]byte, 4096)
	var out []byte
	for len(out) < maxFile {
		n, err := unix.Read(fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return "", err
		}
		if n == 0 {
			break
		}
		out = append(out, buf[:n]...)
	}
	return string(out), nil
}

// value folds what the file shows.
func (f *fileAccess) value(text string) tune.Value {
	if f.t.Method == tune.MethodChoice || f.t.Kind == tune.KindEnum {
		if word, ok := chosen(text); ok {
			return tune.Value(word)
		}
	}
	if f.t.Method == tune.MethodCgroup && f.t.Kind != tune.KindText && f.t.Kind != tune.KindVector {
		// io.weight and its like: the first line is "default N", lines for single devices follow.
		first, _, _ := strings.Cut(text, "\n")
		return tune.Canonical(strings.TrimPrefix(first, "default "))
	}
	return tune.Canonical(text)
}

// chosen finds the active word of "always [madvise] never", or of "none (full) lazy" as the scheduler's
// preempt file marks it. A file with a single word has it chosen.
func chosen(text string) (string, bool) {
	for _, pair := range []string{"[]", "()"} {
		_, rest, found := strings.Cut(text, pair[:1])
		if !found {
			continue
		}
		word, _, closed := strings.Cut(rest, pair[1:])
		if words := strings.Fields(word); closed && len(words) == 1 && !strings.ContainsAny(words[0], "[]()") {
			return words[0], true
		}
	}
	if words := strings.Fields(text); len(words) == 1 && !strings.ContainsAny(words[0], "[]()") {
		return words[0], true
	}
	return "", false
}

// write hands v to the kernel in one call: a vector in two would be seen half written.
func (f *fileAccess) write(v tune.Value) error {
	fd, err := f.openWrite(unix.O_TRUNC)
	if err != nil {
		return f.explain("write", openingToWrite, v, err)
	}
	defer unix.Close(fd)
	text := []byte(string(v) + "\n")
	n, err := unix.Write(fd, text)
	if err == nil && n != len(text) {
		err = fmt.Errorf("%d of %d bytes taken: %w", n, len(text), unix.EINVAL)
	}
	if err != nil {
		return f.explain("write", writing, v, err)
	}
	return nil
}

// openWrite refuses files without any write permission by itself: root would pass that check in a
// tree of plain files, while the kernel's own files refuse it to root too.
func (f *fileAccess) openWrite(flags int) (int, error) {
	if err := f.place.check(); err != nil {
		return -1, err
	}
	st, err := os.Stat(f.place.String())
	if err == nil && st.Mode().Perm()&0o222 == 0 {
		return -1, fmt.Errorf("the kernel offers %s for reading only: %w", f.place, tune.ErrReadOnly)
	}
	return f.place.open(unix.O_WRONLY | flags)
}

func (f *fileAccess) probe() error {
	fd, err := f.openWrite(0)
	if err != nil {
		return f.explain("write", openingToWrite, "", err)
	}
	return unix.Close(fd)
}

// explain names the instance and says in words what the kernel meant.
func (f *fileAccess) explain(op string, ph phase, v tune.Value, err error) error {
	if errors.Is(err, unix.ENOENT) && ph != writing && ph != reading {
		return subject(op, f.t, f.target, f.absent())
	}
	if f.t.Method == tune.MethodDebugfs && errors.Is(err, unix.EPERM) {
		return subjectHint(op, f.t, f.target,
			fmt.Errorf("%w: kernel lockdown restricts debugfs (%w)", tune.ErrNotPermitted, unix.EPERM),
			"boot without lockdown=integrity or confidentiality to tune the scheduler's debugfs files")
	}
	if f.t.Name == "net.ipv4.tcp_congestion_control" && ph == writing && errors.Is(err, unix.EPERM) {
		return subjectHint(op, f.t, f.target,
			fmt.Errorf("%w: this namespace may not choose %q (%w)", tune.ErrNotPermitted, string(v), unix.EPERM),
			"add it to net.ipv4.tcp_allowed_congestion_control of the initial namespace first")
	}
	cause, hint := explain(ph, v, err)
	return subjectHint(op, f.t, f.target, cause, hint)
}

// absent tells a vanished device or cgroup from a file this kernel does not have.
func (f *fileAccess) absent() error {
	dir := f.place.root
	switch {
	case f.t.Method == tune.MethodCgroup:
		dir = filepath.Dir(f.place.String())
	case f.t.Templated():
		var segs []string
		for i, s := range strings.Split(f.t.Path, "/") {
			if strings.HasPrefix(s, "{") {
				segs = strings.Split(f.place.rel, "/")[:i+1]
			}
		}
		dir = filepath.Join(f.place.root, filepath.Join(segs...))
	}
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s: %w", f.target, tune.ErrGone)
	}
	return fmt.Errorf("%s is absent: %w", f.place, tune.ErrUnsupported)
}

package console

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// ListenUnix makes the control socket, mode 0600 from its first moment: it is bound in a private
// directory and renamed into place. A socket nobody answers on is a leftover and replaced; one that
// answers is tune.ErrBusy.
func ListenUnix(path string) (net.Listener, error) {
	bad := func(err error, hint string) error {
		return &tune.Error{Op: "listen on", Subject: path, Err: err, Hint: hint}
	}
	conn, err := DialUnix(context.Background(), path)
	if err == nil {
		conn.Close()
		return nil, bad(tune.ErrBusy, "a serve already runs on this DATA_DIR: stop it, or name another directory with --data-dir")
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != fs.ModeSocket {
		return nil, bad(fmt.Errorf("%w: it is there and not a socket", tune.ErrStorage), "move it away")
	}
	private, err := os.MkdirTemp(filepath.Dir(path), ".sock-")
	if err != nil {
		return nil, bad(fmt.Errorf("%w: %w", tune.ErrStorage, err), "make DATA_DIR writable")
	}
	defer os.RemoveAll(private)
	l, err := bind(private)
	if err != nil {
		return nil, bad(fmt.Errorf("%w: %w", tune.ErrStorage, err), "name another directory with --data-dir")
	}
	inside := filepath.Join(private, "s")
	if err := errors.Join(os.Chmod(inside, 0o600), os.Rename(inside, path)); err != nil {
		l.Close()
		return nil, bad(fmt.Errorf("%w: %w", tune.ErrStorage, err), "make DATA_DIR writable")
	}
	return &unixListener{UnixListener: l, path: path}, nil
}

// unixListener removes its own path at the end, wherever it was bound.
type unixListener struct {
	*net.UnixListener
	path string
}

// Close ends listening and removes the socket.
func (l *unixListener) Close() error {
	err := l.UnixListener.Close()
	if gone := os.Remove(l.path); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return err
}

// short gives a name for an entry of dir that fits the 108 bytes of a socket address.
func short(dir, base string) (string, func(), error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", fd, base), func() { unix.Close(fd) }, nil
}

func bind(dir string) (*net.UnixListener, error) {
	name, done, err := short(dir, "s")
	if err != nil {
		return nil, err
	}
	defer done()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	return l, nil
}

// DialUnix connects to the control socket of a running serve; the error is fs.ErrNotExist or a refused
// connection when none runs.
func DialUnix(ctx context.Context, path string) (net.Conn, error) {
	name, done, err := short(filepath.Dir(path), filepath.Base(path))
	if err != nil {
		return nil, err
	}
	defer done()
	d := net.Dialer{Timeout: 5 * time.Second}
	return d.DialContext(ctx, "unix", name)
}

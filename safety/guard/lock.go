package guard

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
	"semantos/safety/journal"
)

// hostLock is the one-writer lock in the run folder, whatever the data folder. The kernel drops it with
// the process, so a killed guard leaves none behind.
type hostLock struct{ file *os.File }

// lockHost takes the lock, waiting a little: the guard of a parent that just died holds it while it
// restores.
func lockHost(runDir string, wait time.Duration) (*hostLock, error) {
	if err := os.MkdirAll(runDir, 0o700); err != nil {
		return nil, journal.RunDirError(runDir, err)
	}
	f, err := os.OpenFile(filepath.Join(runDir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, journal.RunDirError(runDir, err)
	}
	for deadline := time.Now().Add(wait); ; time.Sleep(20 * time.Millisecond) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) {
			return nil, errors.Join(busyError(f.Name()), f.Close())
		}
	}
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0) // only to name the holder
	}
	return &hostLock{file: f}, nil
}

func (l *hostLock) release() { _ = l.file.Close() }

func busyError(path string) error {
	who := "another process"
	if data, err := os.ReadFile(path); err == nil {
		if pid, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil {
			who = fmt.Sprintf("pid %d", pid)
		}
	}
	return &tune.Error{Op: "lock", Subject: path, Err: fmt.Errorf("%w (%s)", tune.ErrBusy, who),
		Hint: "use that semantos (a running serve is reached through its socket), or stop it first: " + who}
}

// guardAlive reports whether a guard holds the lock now, without keeping it.
func guardAlive(runDir string) bool {
	f, err := os.Open(filepath.Join(runDir, "lock"))
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }() // also drops the shared lock
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

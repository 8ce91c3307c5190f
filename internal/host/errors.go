package host

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// phase is what was tried when the kernel refused: the same errno means something else in each.
type phase int

const (
	opening phase = iota
	openingToWrite
	reading
	writing
)

// explain maps an errno to the sentinel it means, keeps the errno in the chain, and says what to try.
func explain(ph phase, v tune.Value, err error) (error, string) {
	var errno unix.Errno
	if !errors.As(err, &errno) || errors.Is(err, tune.ErrDenied) {
		return err, tune.Hint(err)
	}
	switch errno {
	case unix.EINVAL, unix.ERANGE, unix.EDOM, unix.E2BIG, unix.EOVERFLOW, unix.ENOENT, unix.EFBIG, unix.ENOSPC:
		if ph != writing {
			return fmt.Errorf("%w: nothing to read (%w)", tune.ErrUnsupported, errno), ""
		}
		return fmt.Errorf("%w: the kernel refused %q (%w)", tune.ErrOutOfRange, string(v), errno),
			"choose a value inside the range that `semantos tunables` shows"
	case unix.EROFS:
		return fmt.Errorf("%w: mounted read-only (%w)", tune.ErrReadOnly, errno),
			"run semantos on the host, or give the container a writable /proc/sys and /sys"
	case unix.EACCES, unix.EPERM:
		return permission(ph, v, errno)
	case unix.ENODEV, unix.ENXIO, unix.ESRCH, unix.EBADF:
		return fmt.Errorf("%w (%w)", tune.ErrGone, errno), ""
	case unix.EOPNOTSUPP, unix.ENOSYS, unix.ENODATA, unix.ENOPROTOOPT:
		return fmt.Errorf("%w (%w)", tune.ErrUnsupported, errno), ""
	}
	return errno, "" // EBUSY, EIO and what else may pass by: the errno itself says it best
}

func permission(ph phase, v tune.Value, errno unix.Errno) (error, string) {
	const asRoot = "run semantos as root on the host itself"
	switch {
	case ph == writing:
		return fmt.Errorf("%w: the kernel refused %q (%w)", tune.ErrNotPermitted, string(v), errno), asRoot
	case ph == openingToWrite && errno == unix.EACCES && os.Geteuid() == 0:
		return fmt.Errorf("%w: the kernel refuses writes even to root (%w)", tune.ErrReadOnly, errno), ""
	}
	return fmt.Errorf("%w (%w)", tune.ErrNotPermitted, errno), asRoot
}

// subject names instance and target in an operator's error and keeps a hint further in.
func subject(op string, t *tune.Tunable, target string, err error) error {
	return subjectHint(op, t, target, err, tune.Hint(err))
}

func subjectHint(op string, t *tune.Tunable, target string, err error, hint string) error {
	return &tune.Error{Op: op, Subject: naming(t, target), Err: err, Hint: hint}
}

// naming gives instance and, where the name does not hold it, the target.
func naming(t *tune.Tunable, target string) string {
	name := t.Instance(target)
	if !t.Templated() && target != "" && target != "host" {
		name += " on " + target
	}
	return name
}

package tune

import (
	"errors"
	"fmt"
)

// Sentinel errors. One table in internal/cli maps them to exit status and HTTP problem.
var (
	ErrNoData       = errors.New("no data")
	ErrStarting     = errors.New("serve is starting") // nothing was done: ask again
	ErrUnsupported  = errors.New("not supported on this host")
	ErrNotPermitted = errors.New("not permitted here")
	ErrReadOnly     = errors.New("read-only here")
	ErrUnknown      = errors.New("unknown name")
	ErrType         = errors.New("wrong type")
	ErrOutOfRange   = errors.New("out of range")
	ErrInvariant    = errors.New("breaks an invariant")
	ErrConflict     = errors.New("conflicts with a live change")
	ErrDrifted      = errors.New("changed by something else")
	ErrStale        = errors.New("stale recommendation")
	ErrDenied       = errors.New("denied path")
	ErrVetoed       = errors.New("vetoed")
	ErrFrozen       = errors.New("frozen")
	ErrBusy         = errors.New("another semantos writes on this host")
	ErrCorrupt      = errors.New("corrupt data")
	ErrGone         = errors.New("target is gone")
	ErrUsage        = errors.New("wrong usage")
	ErrStorage      = errors.New("storage unusable")
)

// Error is an operator's error: what failed on which thing, and what to try.
// Subject names the thing (a tunable, a file, a key); Hint is one sentence without "Try:".
type Error struct {
	Op      string
	Subject string
	Err     error
	Hint    string
}

// Error gives "op subject: cause"; the hint is printed apart.
func (e *Error) Error() string {
	if e.Subject == "" {
		return fmt.Sprintf("%s: %v", e.Op, e.Err)
	}
	return fmt.Sprintf("%s %s: %v", e.Op, e.Subject, e.Err)
}

// Unwrap lets errors.Is see the sentinel.
func (e *Error) Unwrap() error { return e.Err }

// Hint finds the innermost-first hint in err's chain, or "".
func Hint(err error) string {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return ""
		}
		if e.Hint != "" {
			return e.Hint
		}
		err = e.Err
	}
	return ""
}

package guard

import (
	"context"
	"errors"

	"semantos/internal/tune"
)

// wireError carries an error over the socket so that errors.Is and the hint work on the other side.
type wireError struct {
	Kinds   []string `json:"kinds"` // names of the sentinels in its chain
	Op      string   `json:"op,omitempty"`
	Subject string   `json:"subject,omitempty"`
	Text    string   `json:"text"`
	Hint    string   `json:"hint,omitempty"`
}

// sentinelNames gives each error that keeps its identity over the wire a name of its own.
func sentinelNames() map[string]error {
	return map[string]error{
		"no_data": tune.ErrNoData, "unsupported": tune.ErrUnsupported, "not_permitted": tune.ErrNotPermitted,
		"read_only": tune.ErrReadOnly, "unknown": tune.ErrUnknown, "type": tune.ErrType,
		"out_of_range": tune.ErrOutOfRange, "invariant": tune.ErrInvariant, "conflict": tune.ErrConflict,
		"drifted": tune.ErrDrifted, "stale": tune.ErrStale, "denied": tune.ErrDenied, "vetoed": tune.ErrVetoed, "frozen": tune.ErrFrozen,
		"busy": tune.ErrBusy, "corrupt": tune.ErrCorrupt, "gone": tune.ErrGone, "usage": tune.ErrUsage,
		"storage": tune.ErrStorage, "ended": ErrEnded, "canceled": context.Canceled,
	}
}

func toWire(err error) *wireError {
	if err == nil {
		return nil
	}
	w := &wireError{Text: err.Error(), Hint: tune.Hint(err), Kinds: []string{}}
	for name, sentinel := range sentinelNames() {
		if errors.Is(err, sentinel) {
			w.Kinds = append(w.Kinds, name)
		}
	}
	var op *tune.Error
	if errors.As(err, &op) {
		w.Op, w.Subject = op.Op, op.Subject
	}
	return w
}

// guardError is an error the guard reported: its text, with the sentinels and the hint behind it.
type guardError struct {
	text   string
	behind []error
}

func (e *guardError) Error() string   { return e.text }
func (e *guardError) Unwrap() []error { return e.behind }

func (w *wireError) error() error {
	if w == nil {
		return nil
	}
	names := sentinelNames()
	var kinds []error
	for _, k := range w.Kinds {
		if s := names[k]; s != nil {
			kinds = append(kinds, s)
		}
	}
	return &guardError{text: w.Text, behind: []error{
		&tune.Error{Op: w.Op, Subject: w.Subject, Err: errors.Join(kinds...), Hint: w.Hint}}}
}

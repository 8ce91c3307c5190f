package console

import (
	"errors"
	"fmt"
	"net/http"

	"semantos/internal/tune"
)

// Problem is an error as RFC 9457 says it. Type is problemBase and a word that names the sentinel, so
// that a client can tell causes apart and give the exit status it would give by itself.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`
}

const problemBase = "urn:semantos:problem:"

// problemType ties a sentinel to its word and HTTP status.
type problemType struct {
	word   string
	err    error
	status int
}

func problemTypes() []problemType {
	return []problemType{
		{"wrong-usage", tune.ErrUsage, http.StatusBadRequest},
		{"wrong-type", tune.ErrType, http.StatusBadRequest},
		{"out-of-range", tune.ErrOutOfRange, http.StatusBadRequest},
		{"breaks-invariant", tune.ErrInvariant, http.StatusBadRequest},
		{"denied-path", tune.ErrDenied, http.StatusForbidden},
		{"not-permitted", tune.ErrNotPermitted, http.StatusForbidden},
		{"read-only", tune.ErrReadOnly, http.StatusForbidden},
		{"unknown-name", tune.ErrUnknown, http.StatusNotFound},
		{"not-supported", tune.ErrUnsupported, http.StatusNotFound},
		{"target-gone", tune.ErrGone, http.StatusGone},
		{"stale", tune.ErrStale, http.StatusConflict},
		{"conflict", tune.ErrConflict, http.StatusConflict},
		{"drifted", tune.ErrDrifted, http.StatusConflict},
		{"busy", tune.ErrBusy, http.StatusConflict},
		{"vetoed", tune.ErrVetoed, http.StatusConflict},
		{"frozen", tune.ErrFrozen, http.StatusConflict},
		{"starting", tune.ErrStarting, http.StatusServiceUnavailable},
		{"no-data", tune.ErrNoData, http.StatusServiceUnavailable},
		{"storage", tune.ErrStorage, http.StatusInternalServerError},
		{"corrupt", tune.ErrCorrupt, http.StatusInternalServerError},
	}
}

// problemOf says an error as a problem. What is none of the sentinels is ours: 500.
func problemOf(err error) Problem {
	var refused *refusal
	if errors.As(err, &refused) {
		return Problem{Type: "about:blank", Title: http.StatusText(refused.status), Status: refused.status,
			Detail: refused.detail, Hint: refused.hint}
	}
	for _, t := range problemTypes() {
		if errors.Is(err, t.err) {
			return Problem{Type: problemBase + t.word, Title: t.err.Error(), Status: t.status,
				Detail: err.Error(), Hint: tune.Hint(err)}
		}
	}
	return Problem{Type: "about:blank", Title: http.StatusText(http.StatusInternalServerError),
		Status: http.StatusInternalServerError, Detail: err.Error(), Hint: tune.Hint(err)}
}

// AsError gives a client the error that the server had: same sentinel, same text, same hint.
func (p Problem) AsError() error {
	cause := error(&said{text: p.Detail})
	for _, t := range problemTypes() {
		if p.Type == problemBase+t.word {
			cause = &said{text: p.Detail, err: t.err}
		}
	}
	if p.Status == http.StatusBadRequest || p.Status == http.StatusUnsupportedMediaType || p.Status == http.StatusRequestEntityTooLarge {
		if !errors.Is(cause, tune.ErrUsage) && p.Type == "about:blank" {
			cause = &said{text: p.Detail, err: tune.ErrUsage}
		}
	}
	if p.Status == http.StatusForbidden && p.Type == "about:blank" {
		cause = &said{text: p.Detail, err: tune.ErrNotPermitted}
	}
	return &tune.Error{Op: "serve answered", Err: cause, Hint: p.Hint}
}

// said is a text from the server that still is its sentinel.
type said struct {
	text string
	err  error
}

func (s *said) Error() string { return s.text }
func (s *said) Unwrap() error { return s.err }

// refusal is an answer of HTTP itself: wrong path, method, body, caller.
type refusal struct {
	status int
	detail string
	hint   string
}

func (r *refusal) Error() string { return r.detail }

func refuse(status int, hint, format string, args ...any) error {
	return &refusal{status: status, detail: fmt.Sprintf(format, args...), hint: hint}
}

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"semantos/internal/tune"
)

// The exit statuses of every command.
const (
	exitDone         = 0
	exitFailed       = 1
	exitUsage        = 2
	exitVetoed       = 3
	exitNotPermitted = 4
)

// outcome says what an error means outside. The same sentinels as HTTP problems are in console.
type outcome struct {
	err  error
	exit int
	hint string // when the error brings none of its own
}

// outcomes is the one table from sentinel to exit status. The first match counts, so what wraps two
// sentinels is judged by the more telling one.
func outcomes() []outcome {
	return []outcome{
		{tune.ErrFrozen, exitVetoed, "semantos freeze --off lets changes be made again"},
		{tune.ErrVetoed, exitVetoed, "read the reason; --yes goes past a veto, never past a hard limit"},
		{tune.ErrConflict, exitVetoed, "semantos status shows the live change; roll it back first"},
		{tune.ErrUnknown, exitUsage, "semantos tunables lists the names, semantos history the ids"},
		{tune.ErrType, exitUsage, "semantos tunables NAME shows type and range"},
		{tune.ErrOutOfRange, exitUsage, "semantos tunables NAME shows type and range"},
		{tune.ErrInvariant, exitUsage, "set the related tunable in the same command, with another --set"},
		{tune.ErrStale, exitUsage, "run semantos recommend again and apply the new id"},
		{tune.ErrUsage, exitUsage, "add --help to see how the command is used"},
		{tune.ErrDenied, exitUsage, "this path is never written, whatever the catalogue says"},
		{tune.ErrNotPermitted, exitNotPermitted, "run it as root, or see semantos doctor for what is missing"},
		{tune.ErrReadOnly, exitNotPermitted, "semantos tunables NAME says why it cannot be written here"},
		{tune.ErrUnsupported, exitNotPermitted, "semantos tunables NAME says what this host lacks"},
		{tune.ErrBusy, exitFailed, "wait for the other one to end, or stop it"},
		{tune.ErrStorage, exitFailed, "check DATA_DIR (semantos doctor), or name another with --data-dir"},
		{tune.ErrCorrupt, exitFailed, "semantos doctor names the file; move it away to start afresh"},
		{tune.ErrGone, exitFailed, "run semantos recommend again"},
		{tune.ErrDrifted, exitFailed, "something else writes this tunable; semantos verify shows what stands"},
		{tune.ErrStarting, exitFailed, ""},
		{tune.ErrNoData, exitFailed, ""},
		{context.DeadlineExceeded, exitFailed, ""},
	}
}

// judge finds the row for an error; what is in no row is a plain failure.
func judge(err error) outcome {
	for _, o := range outcomes() {
		if errors.Is(err, o.err) {
			return o
		}
	}
	return outcome{err: err, exit: exitFailed}
}

// exitOf is the exit status of an error.
func exitOf(err error) int {
	var s statusError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &s):
		return s.exit
	}
	return judge(err).exit
}

// statusError ends a command whose document is already printed: the status carries the news.
type statusError struct{ exit int }

func (s statusError) Error() string { return fmt.Sprintf("exit status %d", s.exit) }

// usage is the operator's own mistake, with what to try instead.
func usage(op, subject, hint string, format string, args ...any) error {
	return &tune.Error{Op: op, Subject: subject, Err: wrapf(tune.ErrUsage, format, args...), Hint: hint}
}

// wrapf says something about a sentinel without printing the sentinel's own words after it.
func wrapf(sentinel error, format string, args ...any) error {
	return said{text: fmt.Sprintf(format, args...), err: sentinel}
}

type said struct {
	text string
	err  error
}

func (s said) Error() string { return s.text }
func (s said) Unwrap() error { return s.err }

// errorDocument is what --json prints where a command failed before it had a document of its own.
type errorDocument struct {
	Error errorBody `json:"error"`
}

type errorBody struct {
	Message string `json:"message"`
	Subject string `json:"subject,omitempty"`
	Hint    string `json:"hint,omitempty"`
	Exit    int    `json:"exit"`
}

func describe(err error) errorBody {
	body := errorBody{Message: err.Error(), Hint: tune.Hint(err), Exit: exitOf(err)}
	var e *tune.Error
	if errors.As(err, &e) {
		body.Subject = e.Subject
	}
	var path *fs.PathError
	if body.Subject == "" && errors.As(err, &path) {
		body.Subject = path.Path
	}
	if body.Hint == "" {
		body.Hint = judge(err).hint
	}
	return body
}

// report prints an error once: a sentence and what to try on stderr, the document on stdout.
func report(stdout, stderr io.Writer, asJSON bool, err error) int {
	var s statusError
	if errors.As(err, &s) {
		return s.exit
	}
	body := describe(err)
	fmt.Fprintf(stderr, "semantos: %s\n", oneLine(body.Message)) // names come from outside
	if body.Hint != "" {
		fmt.Fprintf(stderr, "Try: %s\n", oneLine(body.Hint))
	}
	if asJSON {
		printJSON(stdout, errorDocument{Error: body})
	}
	return body.Exit
}

// printJSON writes one indented document.
func printJSON(w io.Writer, doc any) {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(doc); err != nil {
		fmt.Fprintf(w, "{\"error\":{\"message\":%q,\"exit\":1}}\n", err.Error())
	}
}

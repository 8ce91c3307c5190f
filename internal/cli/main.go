package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"semantos/internal/tune"
)

// Main runs one command line and gives its exit status.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return run(ctx, &app{
		args: args, stdin: stdin, stdout: stdout, stderr: stderr,
		env: os.Environ(), now: time.Now, uid: os.Geteuid(),
	})
}

// run is Main without the process: what tests call.
func run(ctx context.Context, a *app) int {
	a.stderr = shared(a.stderr)
	root := a.rootCommand()
	root.SetArgs(a.args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	err := root.ExecuteContext(ctx)
	if closeErr := a.close(); err == nil {
		err = closeErr
	}
	if err == nil {
		return exitDone
	}
	if !a.started && !isOurs(err) {
		err = &tune.Error{Op: "read command line", Err: wrapf(tune.ErrUsage, "%s", firstLine(err.Error())),
			Hint: "semantos --help lists the commands, semantos COMMAND --help the flags"}
	}
	return report(a.stdout, a.stderr, a.wantsJSON(), err)
}

// isOurs tells an operator's error with a hint from one of cobra's own.
func isOurs(err error) bool {
	var e *tune.Error
	var s statusError
	return errors.As(err, &e) || errors.As(err, &s)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// wantsJSON also answers when the flags could not be parsed at all.
func (a *app) wantsJSON() bool {
	return a.json || slices.Contains(a.args, "--json") || slices.Contains(a.args, "--json=true")
}

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
	tell, env := childOf(os.Environ())
	if tell == nil && mustEnd(args) {
		if exit, ok := fromChild(stdin, stdout, stderr); ok {
			return exit
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	a := &app{
		args: args, stdin: stdin, stdout: stdout, stderr: stderr,
		env: env, now: time.Now, uid: os.Geteuid(),
	}
	exit := run(ctx, a)
	// Where a hung disk keeps this process, a guard's too, whoever reads what it printed is not kept.
	for _, stream := range []io.Writer{stdout, stderr} {
		if c, ok := stream.(io.Closer); ok {
			_ = c.Close() // nothing is buffered
		}
	}
	if tell != nil {
		tell(exit)
		stop() // from now on a signal ends it
		a.late.Wait()
	}
	return exit
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

package cli

import (
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// A process with a thread that waits for a hung disk cannot end, not even by kill -9, and whoever started it
// waits on. So the commands that put things back work in a child, which tells its exit status before it ends:
// the process that was started ends with that, whatever the disk of DATA_DIR does to the child.

// endEnv names the descriptor by which such a child tells its exit status. It is no setting, so it has not the
// prefix of one.
const endEnv = "_SEMANTOS_END"

// mustEnd reports whether a command line is of a command that has to come back also when a disk does not.
func mustEnd(args []string) bool {
	cmd, _, err := (&app{}).rootCommand().Find(args)
	return err == nil && slices.Contains([]string{"rollback", "undo", "freeze"}, cmd.Name())
}

// fromChild has a child run the command line and gives the exit status it tells, or has if it ends without a
// word. false: no child can be started, and the command does its work itself.
func fromChild(stdin io.Reader, stdout, stderr io.Writer) (int, bool) {
	files := []*os.File{}
	for _, stream := range []any{stdin, stdout, stderr} {
		f, ok := stream.(*os.File)
		if !ok {
			return 0, false
		}
		files = append(files, f)
	}
	exe, err := os.Executable()
	if err != nil {
		return 0, false
	}
	word, theirs, err := os.Pipe()
	if err != nil {
		return 0, false
	}
	defer word.Close()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	child, err := os.StartProcess(exe, os.Args, &os.ProcAttr{
		Env: append(os.Environ(), endEnv+"="+strconv.Itoa(len(files))), Files: append(files, theirs)})
	_ = theirs.Close() // the child has its copy
	if err != nil {
		return 0, false
	}
	go func() {
		for s := range signals {
			_ = child.Signal(s) // one that has ended needs none
		}
	}()
	told := []byte{0}
	if _, err := io.ReadFull(word, told); err == nil {
		return int(told[0]), true
	}
	state, err := child.Wait()
	if err != nil || state.ExitCode() < 0 {
		return exitFailed, true // it was killed
	}
	return state.ExitCode(), true
}

// childOf gives the way to tell the exit status if this process is such a child, else nil, and the environment
// without the word of it.
func childOf(env []string) (func(exit int), []string) {
	at := slices.IndexFunc(env, func(e string) bool { return strings.HasPrefix(e, endEnv+"=") })
	if at < 0 {
		return nil, env
	}
	fd, err := strconv.Atoi(strings.TrimPrefix(env[at], endEnv+"="))
	env = slices.Delete(slices.Clone(env), at, at+1)
	var st syscall.Stat_t
	if err != nil || fd < 3 || syscall.Fstat(fd, &st) != nil || st.Mode&syscall.S_IFMT != syscall.S_IFIFO {
		return func(int) {}, env // somebody else's word: there is nobody to tell
	}
	syscall.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "end")
	return func(exit int) {
		_, _ = f.Write([]byte{byte(exit)}) // whoever started us may have gone
		_ = f.Close()
	}, env
}

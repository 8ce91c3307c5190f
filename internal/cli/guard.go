package cli

import (
	"context"
	"errors"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"semantos/internal/host"
	"semantos/internal/tune"
	"semantos/safety/guard"
	"semantos/safety/lookout"
)

// guardSocket is the descriptor the parent hands to its guard.
const guardSocket = 3

// lookSocket is the one by which a parent without root's rights sees.
const lookSocket = 4

func (a *app) guardCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "guard",
		Short:  "the process that alone writes tunables; started by serve and apply",
		Hidden: true,
		Args:   noArgs,
		RunE:   func(cmd *cobra.Command, _ []string) error { return a.runGuard(cmd.Context()) },
	}
}

// runGuard runs the guard. What its parent was told is not said twice: both share one stderr.
func (a *app) runGuard(ctx context.Context) error {
	socket := inheritedSocket(guardSocket)
	cfg, err := a.guardConfig(socket)
	if err != nil {
		err = guard.Refuse(socket, err)
		if socket != nil {
			return statusError{exit: exitOf(err)}
		}
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if eyes := inheritedSocket(lookSocket); eyes != nil && madeBy(eyes, unix.SOCK_SEQPACKET, os.Getppid()) {
		defer a.lookFor(ctx, eyes, cfg.Catalogue)()
	}
	// A guard ends with its parent or by a signal of its own, not by the terminal's: see guard.Run.
	err = guard.Run(ctx, cfg)
	if errors.Is(err, tune.ErrBusy) || errors.Is(err, tune.ErrStorage) || errors.Is(err, tune.ErrNotPermitted) {
		return statusError{exit: exitOf(err)}
	}
	return err
}

// guardConfig loads the catalogue itself: the guard trusts its parent with names and values, not with
// their meaning.
func (a *app) guardConfig(socket *os.File) (guard.Config, error) {
	r, err := a.openRooms()
	if err != nil {
		return guard.Config{}, err
	}
	boot, err := a.bootID(r)
	if err != nil {
		return guard.Config{}, err
	}
	// The guard locks its memory: what loading used goes back before that, for locked pages never do.
	r.rules = nil
	debug.FreeOSMemory()
	return guard.Config{
		Socket: socket, Actuator: r.host, Catalogue: r.cat, DataDir: a.cfg.DataDir, RunDir: a.runDir(),
		Root: a.cfg.Root, BootID: boot, LockWait: guard.DefaultLockWait, Now: a.now, Witness: a.newWitness(r.host),
		AuditKeep: a.cfg.AuditKeep, AuditBytes: a.cfg.AuditBytes,
	}, nil
}

// inheritedSocket is nil when nothing was handed over: somebody started the guard by hand.
func inheritedSocket(fd int) *os.File {
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil || st.Mode&syscall.S_IFMT != syscall.S_IFSOCK {
		return nil
	}
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "parent")
}

// madeBy reports whether a process made the pair that a socket is one end of. A descriptor of this number may as
// well be one that whoever started semantos left open, and who is at its other end is not to be answered.
func madeBy(f *os.File, kind, pid int) bool {
	is, err := unix.GetsockoptInt(int(f.Fd()), unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || is != kind {
		return false
	}
	peer, err := unix.GetsockoptUcred(int(f.Fd()), unix.SOL_SOCKET, unix.SO_PEERCRED)
	return err == nil && int(peer.Pid) == pid
}

// lookFor answers a parent that gave up its rights, beside the guard's own work, until the function it gives
// is called. That one also removes the control socket, which such a parent may not.
func (a *app) lookFor(ctx context.Context, socket *os.File, cat lookout.Catalogue) (end func()) {
	control, _ := os.Lstat(a.cfg.Socket()) // absent: nothing to remove
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		h := host.New(host.Config{Root: a.cfg.Root})
		err := lookout.Serve(ctx, lookout.Config{Socket: socket, Machine: h, Catalogue: cat, Now: a.now})
		if err = errors.Join(err, h.Close()); err != nil {
			a.say("the guard looks no more: %v", err)
		}
	}()
	return func() {
		cancel()
		<-done
		if now, err := os.Lstat(a.cfg.Socket()); err == nil && control != nil && os.SameFile(now, control) && now.Mode().Type() == os.ModeSocket {
			_ = os.Remove(a.cfg.Socket()) // a leftover is replaced by the next serve
		}
	}
}

// startGuard starts the guard, which takes the host's lock and first restores what a killed semantos
// left uncommitted; what it did is said. It starts on an unusable DATA_DIR too: it then restores from the
// copies in the run folder, and refuses changes.
func (a *app) startGuard(ctx context.Context, extra ...*os.File) (*guard.Client, error) {
	if a.over != nil { // it runs already
		a.onClose(a.closeGuard(a.over.client))
		a.alertThrough(a.over.client)
		return a.over.client, nil
	}
	client, err := guard.Start(ctx, guard.StartConfig{Args: a.guardArgs(), Env: a.env, Stderr: a.stderr, Exe: a.exe, Extra: extra})
	if err != nil {
		return nil, err
	}
	a.onClose(a.closeGuard(client))
	for _, note := range client.Notes() {
		a.say("%s", note)
	}
	if len(extra) > 0 { // what this process has to tell it leaves to the one that it becomes
		a.leaveAlert(client)
		return client, nil
	}
	a.alertThrough(client)
	a.alerts.recovered(client.Notes())
	return client, nil
}

func (a *app) closeGuard(client *guard.Client) func() error {
	return func() error {
		select {
		case <-client.Done():
			return nil // it is gone, which was reported where it mattered
		default:
		}
		return client.Close()
	}
}

// guardArgs gives the guard the same folders, root and catalogue as its parent has.
func (a *app) guardArgs() []string {
	args := []string{"guard", "--data-dir", a.cfg.DataDir,
		"--audit-keep-days", strconv.FormatInt(int64(a.cfg.AuditKeep/(24*time.Hour)), 10),
		"--audit-max-mb", strconv.FormatInt(a.cfg.AuditBytes>>20, 10)}
	if a.cfg.Root != "" {
		args = append(args, "--root", a.cfg.Root)
	}
	if a.cfg.CatalogDir != "" {
		args = append(args, "--catalog-dir", a.cfg.CatalogDir)
	}
	// What the file or the environment says, the guard reads itself.
	for _, key := range []string{"PROTECTED", "LIMITS", "USE_EBPF"} {
		if value, ok := a.cfg.Flag(key); ok {
			args = append(args, "--"+strings.ReplaceAll(strings.ToLower(key), "_", "-"), value)
		}
	}
	if a.configFile != "" {
		args = append(args, "--config", a.configFile)
	}
	return args
}

// recoverLeftovers lets a command with rights that would not start a guard itself restore what a killed
// semantos left. Without rights, or while another one works, it only reports.
func (a *app) recoverLeftovers(ctx context.Context) {
	managed, err := a.inspect()
	if err != nil && !errors.Is(err, tune.ErrStorage) { // an unusable DATA_DIR is the command's own error
		a.say("the journal cannot be read: %v", err)
	}
	left := leftovers(managed)
	if len(left) == 0 {
		return
	}
	if a.uid == 0 {
		guard, err := a.startGuard(ctx)
		if err == nil {
			err = guard.Close()
		}
		if err == nil || errors.Is(err, tune.ErrBusy) {
			return // restored, or still under another one's guard
		}
		a.say("leftovers of a killed semantos could not be restored: %v", err)
	}
	a.sayLeftovers(left)
}

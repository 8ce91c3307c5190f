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

	"semantos/internal/tune"
	"semantos/safety/guard"
)

// guardSocket is the descriptor the parent hands to its guard.
const guardSocket = 3

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
	socket := inheritedSocket()
	cfg, err := a.guardConfig(socket)
	if err != nil {
		err = guard.Refuse(socket, err)
		if socket != nil {
			return statusError{exit: exitOf(err)}
		}
		return err
	}
	// A guard ends with its parent or by a signal of its own, not by the terminal's: see guard.Run.
	err = guard.Run(context.WithoutCancel(ctx), cfg)
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
		Root: a.cfg.Root, BootID: boot, LockWait: guard.DefaultLockWait, Now: a.now,
		AuditKeep: a.cfg.AuditKeep, AuditBytes: a.cfg.AuditBytes,
	}, nil
}

// inheritedSocket is nil when somebody started the guard by hand.
func inheritedSocket() *os.File {
	var st syscall.Stat_t
	if err := syscall.Fstat(guardSocket, &st); err != nil || st.Mode&syscall.S_IFMT != syscall.S_IFSOCK {
		return nil
	}
	return os.NewFile(guardSocket, "parent")
}

// startGuard starts the guard, which takes the host's lock and first restores what a killed semantos
// left uncommitted; what it did is said. It starts on an unusable DATA_DIR too: it then restores from the
// copies in the run folder, and refuses changes.
func (a *app) startGuard(ctx context.Context) (*guard.Client, error) {
	client, err := guard.Start(ctx, guard.StartConfig{Args: a.guardArgs(), Env: a.env, Stderr: a.stderr, Exe: a.exe})
	if err != nil {
		return nil, err
	}
	a.onClose(func() error {
		select {
		case <-client.Done():
			return nil // it is gone, which was reported where it mattered
		default:
		}
		return client.Close()
	})
	for _, note := range client.Notes() {
		a.say("%s", note)
	}
	return client, nil
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
	for _, key := range []string{"PROTECTED", "LIMITS"} {
		if value, ok := a.cfg.Flag(key); ok {
			args = append(args, "--"+strings.ToLower(key), value)
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

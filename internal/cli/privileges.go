package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"semantos/console"
	"semantos/internal/privilege"
	"semantos/internal/tune"
	"semantos/safety/lookout"
)

// sealed are kernel files of which serve proves after the change of user that it cannot write them: one
// that root owns, and one that CAP_NET_ADMIN would open.
func sealed() []string {
	return []string{"/proc/sys/vm/swappiness", "/proc/sys/net/core/somaxconn", "/sys/kernel/mm/transparent_hugepage/enabled"}
}

// whyStay says why serve cannot become another user; "" when it can.
func (a *app) whyStay() (privilege.User, string, error) {
	var none privilege.User
	switch {
	case a.uid != 0:
		return none, fmt.Sprintf("started by uid %d, which has no more than its own", a.uid), nil
	case a.cfg.Root != "":
		return none, "it writes below " + a.cfg.Root + " only", nil
	case a.cfg.RunAs == privilege.Root:
		return none, "RUN_AS=root", nil
	case os.Geteuid() != 0:
		return none, "the process is not root's", nil
	}
	u, err := privilege.Find(a.cfg.RunAs)
	if err != nil {
		return none, "", err
	}
	if err := privilege.Possible(); err != nil {
		return none, err.Error(), nil
	}
	for _, dir := range []string{filepath.Dir(a.cfg.DataDir), a.cfg.CatalogDir} {
		if dir == "" {
			continue
		}
		reach := func() error {
			fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.Faccessat(fd, ".", unix.X_OK, unix.AT_EACCESS)
		}
		if err := privilege.As(u, reach); err != nil {
			return none, fmt.Sprintf("%s cannot reach %s: %v", u, dir, err), nil
		}
	}
	return u, "", nil
}

// becomeOrdinary opens what takes root, starts the guard and starts this program again as an ordinary
// user. It returns nil when serve is to go on as it is, with the reason in a.stays.
func (a *app) becomeOrdinary(ctx context.Context) error {
	u, why, err := a.whyStay()
	if err != nil {
		return err
	}
	if why == "" {
		if err := a.shareDataDir(u); err != nil {
			why = "DATA_DIR cannot be shared: " + err.Error()
		}
	}
	if a.stays = why; why != "" {
		return nil
	}
	control, err := console.ListenUnix(a.cfg.Socket())
	if err != nil {
		return err
	}
	web, err := listen(a.cfg.Listen)
	if err != nil {
		return errors.Join(err, control.Close())
	}
	fail := func(err error) error { return errors.Join(err, control.Close(), web.Close()) }
	h, err := a.pack(ctx, u, control, web)
	if errors.Is(err, tune.ErrNotPermitted) {
		a.stays = "no guard can be started: " + err.Error()
		return errors.Join(control.Close(), web.Close())
	}
	if err != nil {
		return fail(err)
	}
	note, err := h.leave()
	if err != nil {
		return fail(err)
	}
	env := append([]string{fmt.Sprintf("%s=%d", handoverEnv, note)}, a.env...)
	return fail(privilege.Become(u, a.keeps(), append([]string{os.Args[0]}, os.Args[1:]...), env))
}

// pack starts the guard with its lookout and gathers what goes over the exec.
func (a *app) pack(ctx context.Context, u privilege.User, control, web any) (*handover, error) {
	ours, theirs, err := lookout.Pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close() // the guard has its copy
	client, err := a.startGuard(ctx, theirs)
	if err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	guardEnd, err := client.HandOver()
	if err != nil {
		return nil, err
	}
	h := &handover{Guard: int(guardEnd.Fd()), GuardPid: client.Pid(), Look: int(ours.Fd()), UID: u.UID}
	for _, l := range []struct {
		from any
		into *int
	}{{control, &h.Control}, {web, &h.Web}} {
		withFile, ok := l.from.(interface{ File() (*os.File, error) })
		if !ok {
			return nil, fmt.Errorf("hand over listener %T: %w", l.from, tune.ErrUnsupported)
		}
		f, err := withFile.File()
		if err != nil {
			return nil, fmt.Errorf("hand over listener: %w", err)
		}
		*l.into = int(f.Fd())
		a.handed = append(a.handed, f) // not to be collected before exec
	}
	a.handed = append(a.handed, guardEnd, ours)
	h.Config, err = a.configText()
	return h, err
}

// configText reads the configuration file once more, for a user who may not.
func (a *app) configText() (*string, error) {
	data, err := os.ReadFile(a.configPath())
	if errors.Is(err, os.ErrNotExist) && a.configFile == "" {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	text := string(data)
	return &text, nil
}

// confine proves that root's rights are gone, and has the kernel deny what serve never needs.
func (a *app) confine() error {
	// Started again through /proc/self/exe the process would be called "exe".
	_ = os.WriteFile("/proc/self/comm", []byte(filepath.Base(os.Args[0])), 0) // a name helps people only
	s, err := privilege.Check(a.keeps(), sealed())
	if err != nil {
		return err
	}
	a.rights = fmt.Sprintf("uid %d, %s; writes and what it may not see go through the guard", s.UID, keptText(s))
	if err := privilege.Confine(); err != nil {
		a.rights += "; no filter of system calls: " + err.Error()
		a.say("note: %v", err)
	}
	return nil
}

// keptText names a process's capabilities.
func keptText(s privilege.State) string {
	if names := s.Capabilities(); len(names) > 0 {
		return strings.Join(names, " and ")
	}
	return "no capability"
}

// rightsText says what serve runs with.
func (a *app) rightsText() string {
	if a.rights != "" {
		return a.rights
	}
	return "those it was started with: " + a.stays
}

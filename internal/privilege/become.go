package privilege

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// Become turns the process into the user's: same pid, the same binary started again with args and env,
// no groups, no capability but those of keep that it has, and never again more than that. It returns only
// when it did not happen; the process is then as before.
func Become(u User, keep []Capability, args, env []string) error {
	return apart(func() error {
		has, err := permitted()
		if err != nil {
			return err
		}
		var set uint64
		for _, c := range keep {
			set |= has & (1 << c)
		}
		if err := giveUp(u, set); err != nil {
			return fmt.Errorf("become %s: %w: %w", u, tune.ErrNotPermitted, err)
		}
		// The link leads to our own file, whatever the path to it has become or whoever may walk it.
		return fmt.Errorf("start again as %s: %w", u, syscall.Exec("/proc/self/exe", args, env))
	})
}

// giveUp changes the calling thread alone; exec makes it the whole process.
func giveUp(u User, keep uint64) error {
	for c := range uintptr(64) {
		if keep&(1<<c) != 0 {
			continue
		}
		if err := call(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c); errors.Is(err, unix.EINVAL) {
			break // beyond the last one this kernel knows
		} else if err != nil {
			return fmt.Errorf("narrow the bounding set: %w", err)
		}
	}
	if err := call(unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	if err := groups(); err != nil {
		return fmt.Errorf("leave groups: %w", err)
	}
	gid, uid := uintptr(u.GID), uintptr(u.UID)
	if err := call(unix.SYS_SETRESGID, gid, gid, gid); err != nil {
		return fmt.Errorf("change gid: %w", err)
	}
	if err := call(unix.SYS_SETRESUID, uid, uid, uid); err != nil {
		return fmt.Errorf("change uid: %w", err)
	}
	if err := setCaps(keep); err != nil {
		return fmt.Errorf("give up capabilities: %w", err)
	}
	for c := range uintptr(64) {
		if keep&(1<<c) != 0 {
			if err := call(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, c); err != nil {
				return fmt.Errorf("keep %s: %w", Capability(c), err)
			}
		}
	}
	if err := call(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	return nil
}

// setCaps and permitted concern the calling thread alone.
func setCaps(keep uint64) error {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	for i := range data {
		word := uint32(keep >> (32 * i))
		data[i] = unix.CapUserData{Effective: word, Permitted: word, Inheritable: word}
	}
	return unix.Capset(&head, &data[0])
}

func permitted() (uint64, error) {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return 0, fmt.Errorf("read capabilities: %w", err)
	}
	return uint64(data[0].Permitted) | uint64(data[1].Permitted)<<32, nil
}

// Possible says why this process cannot become another user's, nil when it can.
func Possible() error {
	has, err := permitted()
	if err != nil {
		return err
	}
	for _, c := range []Capability{unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_SETPCAP} {
		if has&(1<<c) == 0 {
			return fmt.Errorf("%w: it takes %s, which this process lacks", tune.ErrNotPermitted, c)
		}
	}
	return nil
}

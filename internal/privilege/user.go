package privilege

import (
	"errors"
	"fmt"
	"os/user"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// User is whom a process becomes.
type User struct {
	Name     string // "" where the host has no name for it
	UID, GID int
}

// AccountName is the user taken when it exists.
const AccountName = "semantos"

// FixedID is the uid and gid taken where no account exists: above what distributions hand out to people
// and packages, below systemd's dynamic range (61184 to 65519).
const FixedID = 61100

// Root is what RUN_AS calls the choice to keep root's rights.
const Root = "root"

// Find reads RUN_AS: "" is the account semantos or the fixed id, else a user's name, UID or UID:GID.
func Find(runAs string) (User, error) {
	if runAs == "" {
		if u, err := named(AccountName); err == nil {
			return u, nil
		}
		return User{UID: FixedID, GID: FixedID}, nil
	}
	first, second, both := strings.Cut(runAs, ":")
	if uid, err := strconv.ParseUint(first, 10, 31); err == nil {
		gid := uid
		if both {
			if gid, err = strconv.ParseUint(second, 10, 31); err != nil {
				return User{}, unknownUser(runAs, err)
			}
		}
		return ordinary(runAs, User{UID: int(uid), GID: int(gid)})
	}
	u, err := named(runAs)
	if err != nil {
		return User{}, unknownUser(runAs, err)
	}
	return ordinary(runAs, u)
}

func named(name string) (User, error) {
	found, err := user.Lookup(name)
	if err != nil {
		return User{}, err
	}
	uid, uidErr := strconv.Atoi(found.Uid)
	gid, gidErr := strconv.Atoi(found.Gid)
	return User{Name: name, UID: uid, GID: gid}, errors.Join(uidErr, gidErr)
}

// ordinary refuses a user or group that has root's files.
func ordinary(runAs string, u User) (User, error) {
	if u.UID <= 0 || u.GID <= 0 {
		return User{}, unknownUser(runAs, fmt.Errorf("uid %d with gid %d has root's rights over files", u.UID, u.GID))
	}
	return u, nil
}

func unknownUser(runAs string, err error) error {
	return &tune.Error{Op: "read configuration", Subject: fmt.Sprintf("RUN_AS=%q", runAs), Err: fmt.Errorf("%w: %w", tune.ErrUsage, err),
		Hint: "give a user's name, UID or UID:GID; root keeps every right; unset takes the account semantos or uid 61100"}
}

// String names the user for people.
func (u User) String() string {
	if u.Name != "" {
		return fmt.Sprintf("%s (uid %d)", u.Name, u.UID)
	}
	return fmt.Sprintf("uid %d", u.UID)
}

// As calls fn with the user's rights over files, on a thread of its own that ends with fn. The rights
// hold for system calls that fn makes itself.
func As(u User, fn func() error) error {
	return apart(func() error {
		if err := errors.Join(groups(), call(unix.SYS_SETFSGID, uintptr(u.GID)), call(unix.SYS_SETFSUID, uintptr(u.UID))); err != nil {
			return err
		}
		// Neither call says whether it worked; asking with an impossible id tells who we are.
		if now, _, _ := syscall.RawSyscall(unix.SYS_SETFSUID, ^uintptr(0), 0, 0); int(now) != u.UID {
			return fmt.Errorf("take the rights of %s: %w", u, tune.ErrNotPermitted)
		}
		return fn()
	})
}

// apart runs fn on a thread that is never used again; the main thread cannot be that one.
func apart(fn func() error) error {
	done := make(chan error, 1)
	var start func()
	start = func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			finished := make(chan struct{})
			go func() { defer close(finished); start() }()
			<-finished
			runtime.UnlockOSThread()
			return
		}
		done <- fn() // never unlocked: the thread ends with the goroutine
	}
	go start()
	return <-done
}

// groups takes all supplementary groups away from the calling thread alone.
func groups() error { return call(unix.SYS_SETGROUPS, 0) }

// call makes one system call for the calling thread alone: Go's own wrappers change every thread.
func call(nr uintptr, args ...uintptr) error {
	var a [5]uintptr
	copy(a[:], args)
	if _, _, errno := syscall.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], 0); errno != 0 {
		return errno
	}
	return nil
}

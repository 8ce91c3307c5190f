package privilege

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// Capability is a number of linux/capability.h.
type Capability uint

// The ones the serving process may keep: to load its probes, and for nothing else.
const (
	BPF     Capability = unix.CAP_BPF
	Perfmon Capability = unix.CAP_PERFMON
)

// String spells those that matter here.
func (c Capability) String() string {
	switch c {
	case BPF:
		return "CAP_BPF"
	case Perfmon:
		return "CAP_PERFMON"
	case unix.CAP_SETUID:
		return "CAP_SETUID"
	case unix.CAP_SETGID:
		return "CAP_SETGID"
	case unix.CAP_SETPCAP:
		return "CAP_SETPCAP"
	}
	return "capability " + strconv.Itoa(int(c))
}

// State is what a process may do, as the kernel tells in /proc/<pid>/status.
type State struct {
	UID        int
	Effective  uint64
	Permitted  uint64
	Bounding   uint64
	NoNewPrivs bool
	Filtered   bool // a seccomp filter holds
}

// Of reads the state of a process; "self" is the caller's.
func Of(pid string) (State, error) {
	b, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return State{}, fmt.Errorf("read state of process %s: %w", pid, err)
	}
	return parseStatus(string(b))
}

func parseStatus(text string) (State, error) {
	s := State{UID: -1}
	found := 0
	for line := range strings.Lines(text) {
		key, rest, _ := strings.Cut(line, ":")
		f := strings.Fields(rest)
		if len(f) == 0 {
			continue
		}
		var err error
		switch key {
		case "Uid":
			if len(f) < 2 {
				return s, fmt.Errorf("process state %q: %w", line, tune.ErrCorrupt)
			}
			s.UID, err = strconv.Atoi(f[1])
		case "CapEff":
			s.Effective, err = strconv.ParseUint(f[0], 16, 64)
		case "CapPrm":
			s.Permitted, err = strconv.ParseUint(f[0], 16, 64)
		case "CapBnd":
			s.Bounding, err = strconv.ParseUint(f[0], 16, 64)
		case "NoNewPrivs":
			s.NoNewPrivs = f[0] == "1"
		case "Seccomp":
			s.Filtered = f[0] == "2"
		default:
			continue
		}
		if err != nil {
			return s, fmt.Errorf("process state %q: %w", line, tune.ErrCorrupt)
		}
		found++
	}
	if s.UID < 0 || found < 4 {
		return s, fmt.Errorf("process state: %w", tune.ErrCorrupt)
	}
	return s, nil
}

// Capabilities names what is effective.
func (s State) Capabilities() []string {
	out := []string{}
	for c := range Capability(64) {
		if s.Effective&(1<<c) != 0 {
			out = append(out, c.String())
		}
	}
	return out
}

// Check proves that the process is what Become makes: another uid than root's, nothing but what may be
// kept, and a kernel that refuses to open its tunables for writing. Nothing is written.
func Check(keep []Capability, tunables []string) (State, error) {
	s, err := Of("self")
	if err != nil {
		return s, err
	}
	var allowed uint64
	for _, c := range keep {
		allowed |= 1 << c
	}
	bad := func(format string, args ...any) error {
		return &tune.Error{Op: "give up rights", Err: fmt.Errorf(format, args...), Hint: "report it; RUN_AS=root goes on with every right"}
	}
	switch {
	case s.UID == 0 || os.Getuid() == 0:
		return s, bad("the process still is root's")
	case (s.Effective|s.Permitted|s.Bounding)&^allowed != 0:
		return s, bad("the process still has capabilities %x", (s.Effective|s.Permitted|s.Bounding)&^allowed)
	case !s.NoNewPrivs:
		return s, bad("no_new_privs is not set")
	}
	for _, path := range tunables {
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			unix.Close(fd)
			return s, bad("the kernel lets uid %d open %s for writing", s.UID, path)
		}
		if !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EROFS) && !errors.Is(err, unix.ENOENT) {
			return s, bad("open %s for writing: %w", path, err)
		}
	}
	return s, nil
}

package host

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// ProcessUse is what only who may look into a process sees of it. What was not asked for, or cannot be
// read, is empty or -1.
type ProcessUse struct {
	IO    string `json:"io,omitempty"`    // /proc/<pid>/io
	Smaps string `json:"smaps,omitempty"` // of smaps_rollup the lines Anonymous and AnonHugePages: no address
	FDs   int    `json:"fds"`             // open descriptors
	Maps  int    `json:"maps"`            // memory mappings
}

// UseWanted says which parts of a ProcessUse are worth their cost: the kernel walks page tables for Smaps.
type UseWanted struct {
	IO, Smaps, Maps bool
}

// maxUseFile bounds what is read of one file of a process.
const maxUseFile = 4 << 20

// ProcessUse looks into the process with this pid and start time (clock ticks after boot). Everything is
// read below one descriptor, which follows the process and not the number: a later process of the same
// pid is tune.ErrGone.
func (h *Host) ProcessUse(pid int, start uint64, want UseWanted) (ProcessUse, error) {
	use := ProcessUse{FDs: -1, Maps: -1}
	name := fmt.Sprintf("pid:%d", pid)
	gone := &tune.Error{Op: "look into", Subject: name, Err: tune.ErrGone}
	if pid <= 0 {
		return use, &tune.Error{Op: "look into", Subject: name, Err: tune.ErrUsage}
	}
	dir, err := unix.Open(h.Path("/proc", strconv.Itoa(pid)), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return use, gone
	}
	defer unix.Close(dir)
	stat, err := readBelow(dir, "stat")
	if err != nil {
		return use, gone
	}
	if now, err := startTime(string(stat)); err != nil || now != strconv.FormatUint(start, 10) {
		return use, gone
	}
	if want.IO {
		if b, err := readBelow(dir, "io"); err == nil {
			use.IO = string(b)
		}
		use.FDs = countEntries(dir, "fd")
	}
	if want.Smaps {
		if b, err := readBelow(dir, "smaps_rollup"); err == nil {
			use.Smaps = anonymousLines(string(b))
		}
	}
	if want.Maps {
		if b, err := readBelow(dir, "maps"); err == nil {
			use.Maps = bytes.Count(b, []byte{'\n'})
		}
	}
	return use, nil
}

func readBelow(dir int, name string) ([]byte, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var out []byte
	buf := make([]byte, 32<<10)
	for len(out) < maxUseFile {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		out = append(out, buf[:n]...)
	}
	return out, nil
}

// countEntries gives the number of entries of a folder, -1 when it cannot be read. Linux 6.2 and later
// tell the number of descriptors as the folder's size.
func countEntries(dir int, name string) int {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err == nil && st.Size > 0 {
		return int(st.Size)
	}
	names, err := f.Readdirnames(4096)
	if err != nil && len(names) == 0 {
		return -1
	}
	return len(names)
}

func anonymousLines(smaps string) string {
	var out strings.Builder
	for line := range strings.Lines(smaps) {
		if strings.HasPrefix(line, "Anonymous:") || strings.HasPrefix(line, "AnonHugePages:") {
			out.WriteString(line)
		}
	}
	return out.String()
}

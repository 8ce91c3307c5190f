package host

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Owner is who holds a socket.
type Owner struct {
	Pids []int  // sorted
	FD   int    // descriptor number in the first
	Comm string // of the first
}

// Owners finds who holds the sockets with these inodes, in one walk over /proc/*/fd. What was found
// before is only checked again, so the walk happens when there are new sockets; those nobody visible
// holds (the kernel's own, other users') are absent.
func (h *Host) Owners(inodes []uint64) map[uint64]Owner {
	if h.aid != nil {
		owners, err := h.aid.Owners(inodes)
		if err == nil {
			return owners
		}
	}
	out := map[uint64]Owner{}
	missing := map[uint64]bool{}
	h.mu.Lock()
	for _, ino := range inodes {
		o, known := h.owners[ino]
		_, alone := h.alone[ino]
		switch {
		case known:
			out[ino] = o
		case !alone && ino != 0:
			missing[ino] = true
		}
	}
	h.mu.Unlock()
	for ino, o := range out {
		if !h.holds(o.Pids[0], o.FD, ino) {
			delete(out, ino)
			missing[ino] = true
		}
	}
	if len(missing) == 0 {
		return out
	}
	for _, ino := range inodes { // the walk costs the same with those nobody held the last time
		if _, known := out[ino]; !known && ino != 0 {
			missing[ino] = true
		}
	}
	found := h.walkOwners(missing)
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.owners)+len(h.alone) > 8*(len(inodes)+512) { // sockets that are long gone
		clear(h.owners)
		clear(h.alone)
	}
	for ino := range missing {
		if o, ok := found[ino]; ok {
			h.owners[ino], out[ino] = o, o
			delete(h.alone, ino)
		} else {
			delete(h.owners, ino)
			h.alone[ino] = struct{}{}
		}
	}
	return out
}

func (h *Host) holds(pid, fd int, ino uint64) bool {
	link, err := os.Readlink(h.Path("/proc", strconv.Itoa(pid), "fd", strconv.Itoa(fd)))
	return err == nil && link == fmt.Sprintf("socket:[%d]", ino)
}

// walkOwners looks through the descriptors of every process it may look into.
func (h *Host) walkOwners(want map[uint64]bool) map[uint64]Owner {
	out := map[uint64]Owner{}
	proc := h.Path("/proc")
	for _, pid := range pids(proc) {
		dir := filepath.Join(proc, strconv.Itoa(pid), "fd")
		for _, fd := range pids(dir) { // descriptors are numbers too
			link, err := os.Readlink(filepath.Join(dir, strconv.Itoa(fd)))
			if err != nil {
				continue
			}
			ino, ok := socketInode(link)
			if !ok || !want[ino] {
				continue
			}
			o, seen := out[ino]
			if !seen {
				o = Owner{FD: fd, Comm: comm(proc, pid)}
			}
			if !slices.Contains(o.Pids, pid) {
				o.Pids = append(o.Pids, pid)
			}
			out[ino] = o
		}
	}
	return out
}

func socketInode(link string) (uint64, bool) {
	text, ok := strings.CutPrefix(link, "socket:[")
	if !ok {
		return 0, false
	}
	ino, err := strconv.ParseUint(strings.TrimSuffix(text, "]"), 10, 64)
	return ino, err == nil
}

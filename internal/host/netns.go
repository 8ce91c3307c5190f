package host

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// Netns is one network namespace.
type Netns struct {
	Target string // "netns:4026531840"
	Inode  uint64
	Cookie uint64 // 0 before Linux 5.14
	Pid    int    // the smallest process inside, 0 when only a mount holds it
	Name   string // its name in /run/netns, else the process's command; "host" for the one of process 1
}

// NetnsTarget spells the target of a namespace's inode.
func NetnsTarget(inode uint64) string { return fmt.Sprintf("netns:%d", inode) }

func parseNetns(target string) (uint64, error) {
	text, ok := strings.CutPrefix(target, "netns:")
	ino, err := strconv.ParseUint(text, 10, 64)
	if !ok || err != nil {
		return 0, &tune.Error{Op: "find", Subject: fmt.Sprintf("network namespace %q", target), Err: tune.ErrUsage,
			Hint: "name it as netns:<inode>, self, pid:<n>, or its name in /run/netns"}
	}
	return ino, nil
}

// ownNetns gives the inode of the calling thread's namespace: a goroutine that locked its thread and
// unshared has its own. A re-rooted tree says it in its link proc/self/ns/net, or has number 0.
func (h *Host) ownNetns() (uint64, error) {
	if h.real() {
		return netnsInode("/proc/thread-self/ns/net")
	}
	ino, err := netnsInode(h.Path("/proc/self/ns/net"))
	if err != nil {
		return 0, nil
	}
	return ino, nil
}

func netnsInode(link string) (uint64, error) {
	text, err := os.Readlink(link)
	if err != nil {
		return 0, fmt.Errorf("read namespace: %w", err)
	}
	num, ok := strings.CutPrefix(text, "net:[")
	ino, err := strconv.ParseUint(strings.TrimSuffix(num, "]"), 10, 64)
	if !ok || err != nil {
		return 0, fmt.Errorf("read namespace %s: %q: %w", link, text, tune.ErrCorrupt)
	}
	return ino, nil
}

// InNetns calls fn on a thread inside the namespace: here when it is the caller's own, else on a
// locked thread that ends with fn. Inside fn, /proc/sys/net is the namespace's; of /proc/net only
// /proc/thread-self/net is (/proc/net follows the main thread).
func (h *Host) InNetns(target string, fn func() error) error {
	ino, err := parseNetns(target)
	if err != nil {
		return err
	}
	own, err := h.ownNetns()
	if err != nil {
		return err
	}
	if ino == own {
		return fn()
	}
	if !h.real() {
		return &tune.Error{Op: "enter", Subject: target, Err: tune.ErrUnsupported}
	}
	fd, err := h.openNetns(ino)
	if err != nil {
		return &tune.Error{Op: "enter", Subject: target, Err: err, Hint: tune.Hint(err)}
	}
	defer unix.Close(fd)
	done := make(chan error, 1)
	go discarded(func() {
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			cause, hint := explain(opening, "", err)
			done <- &tune.Error{Op: "enter", Subject: target, Err: cause, Hint: hint}
			return
		}
		done <- fn()
	})
	return <-done
}

// discarded runs fn on a thread that is never used again. It must not be the main thread: the runtime
// cannot end that one, and /proc/self would show its changed namespace for ever. So while this
// goroutine sits on the main thread, another one, which cannot be on it too, does the work.
func discarded(fn func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		fn() // never unlocked: the thread ends with the goroutine
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		discarded(fn)
	}()
	<-done
	runtime.UnlockOSThread()
}

// openNetns opens the namespace with this inode wherever something holds it.
func (h *Host) openNetns(ino uint64) (int, error) {
	h.mu.Lock()
	last := h.spaces[ino]
	h.mu.Unlock()
	if last != "" {
		if fd, ok := openIfNetns(last, ino); ok {
			return fd, nil
		}
	}
	denied := false
	for _, path := range netnsHolders() {
		got, err := linkOrStat(path)
		if errors.Is(err, os.ErrPermission) {
			denied = true
		}
		if err != nil || got != ino {
			continue
		}
		if fd, ok := openIfNetns(path, ino); ok {
			h.mu.Lock()
			h.spaces[ino] = path
			h.mu.Unlock()
			return fd, nil
		}
	}
	if denied && os.Geteuid() != 0 { // root is refused only where nobody can look: at ending processes
		return -1, &tune.Error{Op: "look", Subject: "into other processes", Err: tune.ErrNotPermitted, Hint: "run semantos as root"}
	}
	return -1, tune.ErrGone
}

// netnsHolders lists what may hold a namespace: processes, mounts in /run/netns, and the threads of
// this process, since a program may keep namespaces by threads alone.
func netnsHolders() []string {
	var out []string
	for _, pid := range pids("/proc") {
		out = append(out, fmt.Sprintf("/proc/%d/ns/net", pid))
	}
	for _, dir := range []string{"/run/netns/*", "/run/docker/netns/*", "/proc/self/task/*/ns/net"} {
		found, err := filepath.Glob(dir)
		if err == nil { // only a malformed pattern is an error
			out = append(out, found...)
		}
	}
	return out
}

func linkOrStat(path string) (uint64, error) {
	if strings.HasPrefix(path, "/proc/") {
		return netnsInode(path)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, err
	}
	return st.Ino, nil
}

func openIfNetns(path string, ino uint64) (int, bool) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, false
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err == nil && st.Ino == ino {
		if kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE); err == nil && kind == unix.CLONE_NEWNET {
			return fd, true
		}
	}
	unix.Close(fd)
	return -1, false
}

// netnsCookie asks a socket of the calling thread's namespace; 0 when the kernel has no cookies.
func netnsCookie() uint64 {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0
	}
	return cookie
}

// maxNamespaces bounds how many namespaces are looked into.
const maxNamespaces = 256

// Namespaces lists the namespaces that hold a TCP or UDP socket, and our own, sorted by inode.
// One that cannot be entered is left out.
func (h *Host) Namespaces() ([]Netns, error) {
	if h.aid != nil {
		return h.aid.Namespaces()
	}
	own, err := h.ownNetns()
	if err != nil {
		return nil, err
	}
	if !h.real() {
		return []Netns{{Target: NetnsTarget(own), Inode: own, Name: "host"}}, nil
	}
	found := map[uint64]int{own: 0}
	for _, pid := range pids("/proc") {
		ino, err := netnsInode(fmt.Sprintf("/proc/%d/ns/net", pid))
		if first, seen := found[ino]; err == nil && (!seen || first == 0) && len(found) < maxNamespaces {
			found[ino] = pid
		}
	}
	names := netnsNames()
	for _, ino := range append(slices.Collect(maps.Keys(names)), ownThreads()...) {
		if _, seen := found[ino]; !seen && len(found) < maxNamespaces {
			found[ino] = 0
		}
	}
	var out []Netns
	for ino, pid := range found {
		n := Netns{Target: NetnsTarget(ino), Inode: ino, Pid: pid, Name: names[ino]}
		if n.Name == "" && pid > 0 {
			n.Name = comm("/proc", pid)
		}
		used := false
		err := h.InNetns(n.Target, func() error {
			n.Cookie = netnsCookie()
			used = hasSockets()
			return nil
		})
		if err == nil && (used || ino == own) {
			out = append(out, n)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Inode < out[j].Inode })
	return out, nil
}

// ownThreads gives the namespaces that threads of this process are in: it may hold some by them alone.
func ownThreads() []uint64 {
	var out []uint64
	for _, tid := range pids("/proc/self/task") {
		if ino, err := netnsInode(fmt.Sprintf("/proc/self/task/%d/ns/net", tid)); err == nil {
			out = append(out, ino)
		}
	}
	return out
}

// namedSpaces is netnsNames, through the aid where there is one.
func (h *Host) namedSpaces() map[uint64]string {
	out := netnsNames()
	if h.aid == nil {
		return out
	}
	spaces, err := h.aid.Namespaces()
	if err == nil { // a name that is not found is said to be unknown
		for _, n := range spaces {
			out[n.Inode] = n.Name
		}
	}
	return out
}

// netnsNames gives the names in /run/netns by inode, and "host" for the namespace of process 1.
func netnsNames() map[uint64]string {
	out := map[uint64]string{}
	entries, err := os.ReadDir("/run/netns")
	if err == nil { // absent where nobody named a namespace
		for _, e := range entries {
			if ino, err := linkOrStat(filepath.Join("/run/netns", e.Name())); err == nil {
				out[ino] = e.Name()
			}
		}
	}
	if ino, err := netnsInode("/proc/1/ns/net"); err == nil {
		out[ino] = "host"
	}
	return out
}

// pids lists the processes of a proc tree, sorted.
func pids(proc string) []int {
	dir, err := os.Open(proc)
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil && len(names) == 0 {
		return nil
	}
	var out []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			out = append(out, pid)
		}
	}
	sort.Ints(out)
	return out
}

func comm(proc string, pid int) string {
	text, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "comm"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

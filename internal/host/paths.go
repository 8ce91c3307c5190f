package host

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// The roots of the methods. They are compiled in: a catalogue file names paths below them.
const (
	sysctlRoot  = "/proc/sys"
	sysfsRoot   = "/sys"
	debugfsRoot = "/sys/kernel/debug"
)

// deniedSysctl are paths below /proc/sys that no catalogue entry may reach, with all below them: they
// start programs, load code, or take a protection away. A star matches within one segment.
var deniedSysctl = []string{
	"kernel/core_pattern", "kernel/core_pipe_limit", "kernel/modprobe", "kernel/modules_disabled", "kernel/hotplug",
	"kernel/uevent_helper", "kernel/kexec_load_*", "kernel/randomize_va_space", "kernel/sysrq",
	"kernel/kptr_restrict", "kernel/dmesg_restrict", "kernel/yama", "kernel/usermodehelper", "kernel/poweroff_cmd",
	"kernel/unprivileged_bpf_disabled", "kernel/panic*", "kernel/ns_last_pid", "kernel/cad_pid",
	"fs/protected_*", "fs/suid_dumpable", "fs/binfmt_misc", "net/core/bpf_jit_*", "vm/mmap_min_addr", "vm/drop_caches",
}

// deniedSysfs are paths below /sys: other filesystems mounted there have methods of their own, and
// these files power off, detach or run something.
var deniedSysfs = []string{
	"kernel/uevent_helper", "kernel/debug", "kernel/tracing", "kernel/security", "kernel/config", "kernel/kexec_*",
	"kernel/livepatch", "fs/cgroup", "fs/bpf", "fs/selinux", "fs/pstore", "firmware", "hypervisor",
	"power/state", "power/disk", "power/resume", "power/reserved_size",
}

// deniedNames are files below /sys that act instead of holding a value, wherever they lie.
var deniedNames = map[string]bool{
	"bind": true, "unbind": true, "remove": true, "rescan": true, "reset": true, "uevent": true, "delete": true,
	"new_id": true, "remove_id": true, "driver_override": true, "drivers_probe": true, "sriov_numvfs": true,
}

// deniedCgroup are cgroup files that move or stop processes instead of holding a value.
var deniedCgroup = []string{
	"cgroup.procs", "cgroup.threads", "cgroup.kill", "cgroup.freeze", "cgroup.type", "cgroup.subtree_control",
	"cgroup.clone_children", "tasks", "release_agent", "notify_on_release", "devices.*", "freezer.*",
	"memory.reclaim", "memory.force_empty",
}

// processFiles are the files of /proc/PID that hold a value. All others act, show, or open memory.
var processFiles = []string{"oom_score_adj", "timerslack_ns"}

// place is a file below a method's root. links allows symbolic links that stay inside the root, which
// /sys is made of.
type place struct {
	root   string
	rel    string
	links  bool
	denied func(rel string) bool
}

func (p place) String() string { return filepath.Join(p.root, p.rel) }

func deniedBy(list []string) func(string) bool {
	return func(rel string) bool {
		segs := strings.Split(rel, "/")
		for _, pattern := range list {
			n := strings.Count(pattern, "/") + 1
			if n > len(segs) {
				continue
			}
			if ok, err := path.Match(pattern, strings.Join(segs[:n], "/")); ok || err != nil {
				return true
			}
		}
		return false
	}
}

func deniedInSysfs(rel string) bool {
	return deniedNames[path.Base(rel)] || deniedBy(deniedSysfs)(rel)
}

// cleanRel checks that rel is what it seems: relative, without empty, "." or ".." segments.
func cleanRel(rel string) error {
	if rel == "" || strings.ContainsRune(rel, 0) {
		return fmt.Errorf("path %q: %w", rel, tune.ErrDenied)
	}
	for _, seg := range strings.Split(rel, "/") {
		if seg == "" || seg == "." || seg == ".." || strings.ContainsAny(seg, "{}") {
			return fmt.Errorf("path %q: %w", rel, tune.ErrDenied)
		}
	}
	return nil
}

// placeOf finds the file of t on target. Nothing is opened, except that a cgroup's hierarchy is looked for.
func (h *Host) placeOf(t *tune.Tunable, target string) (place, error) {
	rel := t.PathOf(target)
	if t.Templated() && len(strings.Split(target, "/")) != strings.Count(t.Path, "{") {
		return place{}, &tune.Error{Op: "find", Subject: t.Name, Err: fmt.Errorf("target %q: %w", target, tune.ErrUsage),
			Hint: "name the instance in full, as `semantos tunables` lists it"}
	}
	var p place
	switch t.Method {
	case tune.MethodSysctl:
		p = place{root: h.Path(sysctlRoot), rel: rel, denied: deniedBy(deniedSysctl)}
	case tune.MethodSysfs, tune.MethodChoice:
		p = place{root: h.Path(sysfsRoot), rel: rel, links: true, denied: deniedInSysfs}
	case tune.MethodDebugfs:
		root, err := h.debugfs()
		if err != nil {
			return place{}, err
		}
		p = place{root: root, rel: rel, denied: func(rel string) bool { return !strings.HasPrefix(rel, "sched/") }}
	case tune.MethodCgroup:
		return h.cgroupPlace(rel, target)
	case tune.MethodProcess:
		of, err := resolveProcess(target)
		if err != nil {
			return place{}, err
		}
		p = place{root: h.Path("/proc", strings.TrimPrefix(of, "pid:")), rel: rel,
			denied: func(rel string) bool { return !slices.Contains(processFiles, rel) }}
	}
	return p, p.check()
}

func (p place) check() error {
	if err := cleanRel(p.rel); err != nil {
		return err
	}
	if p.denied(p.rel) {
		return fmt.Errorf("%s: %w", p, tune.ErrDenied)
	}
	return nil
}

// open opens the place without ever leaving its root, and checks the deny list again on the file that
// was really reached. It never creates.
func (p place) open(flags int) (int, error) {
	if err := p.check(); err != nil {
		return -1, err
	}
	root, err := unix.Open(p.root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(root)
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC | unix.O_NOCTTY | unix.O_NONBLOCK),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	}
	if !p.links {
		how.Resolve |= unix.RESOLVE_NO_SYMLINKS
	}
	fd, err := openat2(root, p.rel, &how)
	if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.ELOOP) {
		return -1, fmt.Errorf("%s leads out of %s: %w", p, p.root, tune.ErrDenied)
	}
	if err != nil {
		return -1, err
	}
	if err := p.checkOpened(root, fd); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// openat2 repeats EAGAIN: with RESOLVE_BENEATH the kernel gives it when something was renamed meanwhile.
func openat2(dir int, rel string, how *unix.OpenHow) (int, error) {
	for try := 0; ; try++ {
		fd, err := unix.Openat2(dir, rel, how)
		if (errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR)) && try < 16 {
			continue
		}
		return fd, err
	}
}

func (p place) checkOpened(root, fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("%s is no plain file: %w", p, tune.ErrDenied)
	}
	if !p.links {
		return nil
	}
	base, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", root))
	if err != nil {
		return err
	}
	reached, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return err
	}
	rel, inside := strings.CutPrefix(reached, strings.TrimSuffix(base, "/")+"/")
	if !inside || p.denied(rel) {
		return fmt.Errorf("%s is %s: %w", p, reached, tune.ErrDenied)
	}
	return nil
}

// exists reports whether the place can be seen.
func (p place) exists() bool {
	_, err := os.Stat(p.String())
	return err == nil
}

package kb

import (
	"path"
	"slices"
	"strings"

	"semantos/internal/tune"
)

// roots are the folders below each method's mount where a tunable may lie. They are compiled in: no
// catalogue file can add one. A method that reaches no file has none.
func roots() map[tune.Method][]string {
	sysfs := []string{"block", "class/net", "kernel/mm", "module", "devices/system/cpu", "devices/system/node"}
	return map[tune.Method][]string{
		tune.MethodSysctl:  {"vm", "net", "kernel", "fs", "dev"},
		tune.MethodSysfs:   sysfs,
		tune.MethodChoice:  sysfs,
		tune.MethodDebugfs: {"sched"},
	}
}

// cgroupPrefixes are the controllers whose files are limits and weights. Others move or kill
// processes, or run a program (release_agent).
func cgroupPrefixes() []string {
	return []string{"cpu.", "memory.", "io.", "blkio.", "pids.", "cpuset.", "hugetlb."}
}

// processFiles are the files of /proc/PID that hold a value; all others act, show, or open memory.
func processFiles() []string { return []string{"oom_score_adj", "timerslack_ns"} }

// denied are paths that hold or lead to code execution, an information leak or a dead machine; "*" ends
// a prefix of one segment, and a shorter path denies all below it.
func denied(m tune.Method) []string {
	switch m {
	case tune.MethodSysctl:
		return []string{
			"kernel/core_pattern", "kernel/modprobe", "kernel/modules_disabled", "kernel/hotplug",
			"kernel/uevent_helper", "kernel/kexec_load_disabled", "kernel/randomize_va_space", "kernel/sysrq",
			"kernel/kptr_restrict", "kernel/yama", "kernel/usermodehelper", "kernel/poweroff_cmd",
			"kernel/unprivileged_bpf_disabled", "kernel/panic*",
			"fs/protected_*", "fs/suid_dumpable", "fs/binfmt_misc", "net/core/bpf_jit_*", "vm/mmap_min_addr",
		}
	case tune.MethodSysfs, tune.MethodChoice:
		return []string{"module/module", "module/apparmor", "module/ima", "module/kernel", "module/firmware_class"}
	}
	return nil
}

// checkPath says why a tunable's path is not allowed, or "".
func checkPath(m tune.Method, p string) (what string, err error) {
	if !fileMethod(m) {
		if p != "" {
			return "this method reaches no file: leave path out", tune.ErrUsage
		}
		return "", nil
	}
	if p == "" {
		return "missing", tune.ErrUsage
	}
	segs := strings.Split(p, "/")
	if slices.Contains(segs, "..") || slices.Contains(segs, ".") || path.Clean(p) != p || path.IsAbs(p) {
		return "must be a clean path below the method's root, without .. or a leading slash", tune.ErrDenied
	}
	for _, d := range denied(m) {
		if covers(d, segs) {
			return "denied: semantos never touches " + d, tune.ErrDenied
		}
	}
	switch m {
	case tune.MethodCgroup:
		return checkCgroupFile(p)
	case tune.MethodProcess:
		if !slices.Contains(processFiles(), p) {
			return "is not one of " + strings.Join(processFiles(), " "), tune.ErrDenied
		}
		return "", nil
	}
	allowed := roots()[m]
	for _, r := range allowed {
		if below(r, segs) {
			return "", nil
		}
	}
	return "lies outside the method's roots (" + strings.Join(allowed, ", ") + ")", tune.ErrDenied
}

func checkCgroupFile(p string) (string, error) {
	if strings.Contains(p, "/") {
		return "a cgroup path is the file's name alone", tune.ErrDenied
	}
	for _, prefix := range cgroupPrefixes() {
		if strings.HasPrefix(p, prefix) {
			return "", nil
		}
	}
	return "is not a file of " + strings.Join(cgroupPrefixes(), " "), tune.ErrDenied
}

func fileMethod(m tune.Method) bool {
	switch m {
	case tune.MethodDMALatency, tune.MethodBacklog, tune.MethodRcvbuf, tune.MethodSndbuf:
		return false
	}
	return true
}

// below reports whether the path has more segments than root and begins with them. A {word} in place
// of a root's segment is refused: it could name anything.
func below(root string, segs []string) bool {
	r := strings.Split(root, "/")
	return len(segs) > len(r) && slices.Equal(segs[:len(r)], r)
}

// covers reports whether a denied path could be this path, taking every {word} for any name.
func covers(deny string, segs []string) bool {
	d := strings.Split(deny, "/")
	if len(segs) < len(d) {
		return false
	}
	for i, want := range d {
		got := segs[i]
		if strings.Contains(got, "{") || got == want {
			continue
		}
		if prefix, ok := strings.CutSuffix(want, "*"); !ok || !strings.HasPrefix(got, prefix) {
			return false
		}
	}
	return true
}

// templateWords lists the {words} of a name or path, in order.
func templateWords(s string) []string {
	var out []string
	for _, seg := range strings.Split(s, "/") {
		if strings.ContainsAny(seg, "{}") {
			out = append(out, seg)
		}
	}
	return out
}

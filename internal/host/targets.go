package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"

	"semantos/internal/tune"
)

// Resolve gives the full text of a target from what a person wrote: "" or "self" for the obvious one,
// "tcp:8088" for a socket, a name in /run/netns, a pid. A full text comes back as it is, present or not.
func (h *Host) Resolve(t *tune.Tunable, target string) (string, error) {
	switch t.Scope {
	case tune.ScopeNetns:
		return h.resolveNetns(target)
	case tune.ScopeSocket:
		return h.resolveSocket(t, target)
	case tune.ScopeCgroup:
		if target == "self" {
			return h.ownCgroup(t.Path)
		}
		return target, checkCgroup(target)
	case tune.ScopeProcess:
		return resolveProcess(target)
	case tune.ScopeDevice:
		if target != "" || !t.Templated() {
			return target, nil
		}
		return h.onlyDevice(t)
	}
	if target != "" && target != "host" && target != "self" && !t.Templated() {
		return "", &tune.Error{Op: "find", Subject: fmt.Sprintf("%s on %q", t.Name, target), Err: tune.ErrUsage,
			Hint: "it holds for the whole host; leave the target out"}
	}
	if t.Templated() {
		return target, nil
	}
	return "host", nil
}

func (h *Host) resolveNetns(target string) (string, error) {
	if target == "" || target == "self" || target == "host" && !h.real() {
		own, err := h.ownNetns()
		return NetnsTarget(own), err
	}
	if _, err := parseNetns(target); err == nil {
		return target, nil
	}
	if pid, ok := strings.CutPrefix(target, "pid:"); ok {
		if _, err := strconv.ParseUint(pid, 10, 31); err == nil {
			ino, err := netnsInode(h.Path("/proc", pid, "ns/net"))
			if errors.Is(err, os.ErrPermission) {
				return "", &tune.Error{Op: "find", Subject: "network namespace of " + target, Err: tune.ErrNotPermitted,
					Hint: "name it as netns:<inode>"}
			}
			if err != nil {
				return "", &tune.Error{Op: "find", Subject: "network namespace of " + target, Err: tune.ErrGone}
			}
			return NetnsTarget(ino), nil
		}
	}
	if h.real() {
		for ino, name := range h.namedSpaces() {
			if name == target {
				return NetnsTarget(ino), nil
			}
		}
	}
	_, err := parseNetns(target)
	return "", err
}

func (h *Host) resolveSocket(t *tune.Tunable, target string) (string, error) {
	if s, err := ParseSocketTarget(target); err == nil {
		return s.String(), nil
	}
	wish, err := parseSocketWish(target)
	if err != nil {
		return "", err
	}
	if !h.real() {
		return "", subject("find", t, target, fmt.Errorf("sockets below a root: %w", tune.ErrUnsupported))
	}
	all, err := h.socketsLike(t.Method, wish.netns)
	if err != nil {
		return "", err
	}
	var fit []SocketTarget
	for _, s := range all {
		if wish.fits(s) {
			fit = append(fit, s)
		}
	}
	own, err := h.ownNetns()
	if err != nil {
		return "", err
	}
	if inOwn := slices.DeleteFunc(slices.Clone(fit), func(s SocketTarget) bool { return s.Netns != own }); len(inOwn) > 0 {
		fit = inOwn
	}
	switch len(fit) {
	case 0:
		return "", &tune.Error{Op: "find", Subject: fmt.Sprintf("socket %q", target), Err: tune.ErrGone,
			Hint: "look with `ss -lntu` whether it is there"}
	case 1:
		return fit[0].String(), nil
	}
	names := make([]string, len(fit))
	for i, s := range fit {
		names[i] = s.String()
	}
	sort.Strings(names)
	return "", &tune.Error{Op: "find", Subject: fmt.Sprintf("socket %q", target),
		Err:  fmt.Errorf("%d sockets fit: %w", len(fit), tune.ErrUsage),
		Hint: "name one of: " + strings.Join(names[:min(len(names), 4)], "  ")}
}

func resolveProcess(target string) (string, error) {
	if target == "self" {
		return fmt.Sprintf("pid:%d", os.Getpid()), nil
	}
	text := strings.TrimPrefix(target, "pid:")
	pid, err := strconv.ParseUint(text, 10, 31)
	if err != nil || pid == 0 {
		return "", &tune.Error{Op: "find", Subject: fmt.Sprintf("process %q", target), Err: tune.ErrUsage, Hint: "name it as pid:<n>"}
	}
	return fmt.Sprintf("pid:%d", pid), nil
}

func (h *Host) onlyDevice(t *tune.Tunable) (string, error) {
	all, err := h.Targets(t)
	if err != nil {
		return "", err
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return "", &tune.Error{Op: "find", Subject: t.Name, Err: fmt.Errorf("%d devices have it: %w", len(all), tune.ErrUsage),
		Hint: "name one of: " + strings.Join(all[:min(len(all), 8)], ", ")}
}

// Targets lists where t can be reached now, sorted: "host", namespaces, devices, cgroups or sockets.
// None is an empty list, not an error.
func (h *Host) Targets(t *tune.Tunable) ([]string, error) {
	switch {
	case t.Scope == tune.ScopeNetns:
		spaces, err := h.Namespaces()
		out := make([]string, len(spaces))
		for i, n := range spaces {
			out[i] = n.Target
		}
		sort.Strings(out)
		return out, err
	case t.Scope == tune.ScopeSocket:
		sockets, err := h.socketsLike(t.Method, 0)
		out := make([]string, len(sockets))
		for i, s := range sockets {
			out[i] = s.String()
		}
		sort.Strings(out)
		return out, err
	case t.Scope == tune.ScopeCgroup:
		out, err := h.cgroupsWith(t.Path)
		if errors.Is(err, tune.ErrUnsupported) {
			return nil, nil
		}
		return out, err
	case t.Scope == tune.ScopeProcess:
		return h.programs(), nil
	case t.Templated():
		return h.templateTargets(t)
	}
	if !h.Probe(t, "").Present {
		return nil, nil
	}
	return []string{"host"}, nil
}

// templateTargets walks the directories that the words of the path's template stand for.
func (h *Host) templateTargets(t *tune.Tunable) ([]string, error) {
	root, err := h.templateRoot(t)
	if err != nil {
		return nil, nil // the method has no root here: no instances
	}
	type partial struct {
		dir   string
		words []string
	}
	segs := strings.Split(t.Path, "/")
	live := []partial{{dir: root}}
	for _, seg := range segs {
		var next []partial
		for _, p := range live {
			if !strings.HasPrefix(seg, "{") {
				next = append(next, partial{filepath.Join(p.dir, seg), p.words})
				continue
			}
			entries, err := os.ReadDir(p.dir)
			if err != nil {
				continue
			}
			for _, e := range entries {
				next = append(next, partial{filepath.Join(p.dir, e.Name()), append(slices.Clone(p.words), e.Name())})
			}
		}
		live = next
	}
	var out []string
	for _, p := range live {
		if st, err := os.Stat(p.dir); err == nil && st.Mode().IsRegular() {
			out = append(out, strings.Join(p.words, "/"))
		}
	}
	sort.Strings(out)
	return slices.Compact(out), nil
}

func (h *Host) templateRoot(t *tune.Tunable) (string, error) {
	switch t.Method {
	case tune.MethodSysctl:
		return h.Path(sysctlRoot), nil
	case tune.MethodDebugfs:
		return h.debugfs()
	case tune.MethodSysfs, tune.MethodChoice:
		return h.Path(sysfsRoot), nil
	}
	return "", tune.ErrUnsupported
}

// Probe finds by trying what can be done with t on target: it reads, and opens for writing. It writes
// nothing, not even the same value: for several tunables that alone changes something (writing
// min_free_kbytes marks it as chosen by a person, writing a socket's buffer pins it).
func (h *Host) Probe(t *tune.Tunable, target string) tune.Capability {
	if h.aid != nil { // who writes for us says what can be written
		full, err := h.Resolve(t, target)
		if err != nil {
			return tune.Capability{Reason: reason(err)}
		}
		return h.aid.Probe(t.Name, full)
	}
	var c tune.Capability
	err := h.with(t, target, func(a access) error {
		_, readErr := a.read()
		c.Readable = readErr == nil
		c.Present = c.Readable || !errors.Is(readErr, tune.ErrUnsupported) && !errors.Is(readErr, tune.ErrGone)
		if !c.Present {
			return readErr
		}
		writeErr := a.probe()
		c.Writable = writeErr == nil && c.Readable && t.Forbidden(target) == nil
		if readErr != nil {
			return readErr
		}
		return writeErr
	})
	switch {
	case err != nil:
		c.Reason = reason(err)
	case t.Protected:
		c.Reason = "explained only, never written"
	case t.ShieldOf(target) != "":
		c.Reason = "PROTECTED has " + t.ShieldOf(target)
	}
	return c
}

// reason drops the operator's frame: what was tried on which tunable stands beside it anyway.
func reason(err error) string {
	var e *tune.Error
	for errors.As(err, &e) {
		err = e.Err
	}
	return err.Error()
}

// programs are the processes that run a program; the kernel's own threads have no command line.
func (h *Host) programs() []string {
	var out []string
	for _, pid := range pids(h.Path("/proc")) {
		line, err := os.ReadFile(h.Path("/proc", strconv.Itoa(pid), "cmdline"))
		if err == nil && len(line) > 0 {
			out = append(out, fmt.Sprintf("pid:%d", pid))
		}
	}
	return out
}

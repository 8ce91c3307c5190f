package host

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// Identity gives what tells this target from a later one of the same name; target is a full text
// (see Resolve). A vanished one is tune.ErrGone.
//
// Keys: netns {ino, cookie}; device {diskseq} or {ifindex}, none for a CPU; cgroup {id} in v2 and
// {id.<controllers>} in v1; process {pid, start}; socket {cookie, netns, netns_cookie}.
func (h *Host) Identity(scope tune.Scope, target string) (tune.Identity, error) {
	switch scope {
	case tune.ScopeHost:
		return tune.Identity{}, nil
	case tune.ScopeNetns:
		return h.netnsIdentity(target)
	case tune.ScopeDevice:
		return h.deviceIdentity(target)
	case tune.ScopeCgroup:
		return h.cgroupIdentity(target)
	case tune.ScopeProcess:
		return h.processIdentity(target)
	case tune.ScopeSocket:
		return h.socketIdentity(target)
	}
	return nil, &tune.Error{Op: "identify", Subject: target, Err: fmt.Errorf("scope %q: %w", scope, tune.ErrUsage)}
}

func (h *Host) netnsIdentity(target string) (tune.Identity, error) {
	target, err := h.resolveNetns(target)
	if err != nil {
		return nil, err
	}
	id := tune.Identity{"ino": strings.TrimPrefix(target, "netns:")}
	err = h.InNetns(target, func() error {
		if !h.real() {
			return nil
		}
		if cookie := netnsCookie(); cookie != 0 {
			id["cookie"] = strconv.FormatUint(cookie, 10)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return id, nil
}

// deviceIdentity knows disks and network devices; other devices (CPUs, nodes) keep their name for a
// boot, so they only have to be there, which each access finds out.
func (h *Host) deviceIdentity(target string) (tune.Identity, error) {
	device, _, _ := strings.Cut(target, "/")
	if err := cleanRel(device); err != nil {
		return nil, err
	}
	for _, src := range []struct{ dir, file string }{{"sys/block", "diskseq"}, {"sys/class/net", "ifindex"}} {
		dir := h.Path(src.dir, device)
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, src.file))
		if err != nil { // diskseq is new in Linux 5.15
			return tune.Identity{}, nil
		}
		return tune.Identity{src.file: strings.TrimSpace(string(text))}, nil
	}
	return tune.Identity{}, nil
}

func (h *Host) cgroupIdentity(target string) (tune.Identity, error) {
	if err := checkCgroup(target); err != nil {
		return nil, err
	}
	trees, err := h.hierarchies()
	if err != nil {
		return nil, err
	}
	id := tune.Identity{}
	for _, g := range trees {
		dir, ok := g.dir(target)
		var st unix.Stat_t
		if !ok || unix.Stat(dir, &st) != nil {
			continue
		}
		key := "id"
		if !g.v2 {
			key += "." + filepath.Base(g.point)
		}
		id[key] = strconv.FormatUint(st.Ino, 10)
	}
	if len(id) == 0 {
		return nil, &tune.Error{Op: "identify", Subject: "cgroup " + target, Err: tune.ErrGone}
	}
	return id, nil
}

func (h *Host) processIdentity(target string) (tune.Identity, error) {
	target, err := resolveProcess(target)
	if err != nil {
		return nil, err
	}
	pid := strings.TrimPrefix(target, "pid:")
	text, err := os.ReadFile(h.Path("/proc", pid, "stat"))
	if err != nil {
		return nil, &tune.Error{Op: "identify", Subject: target, Err: tune.ErrGone}
	}
	start, err := startTime(string(text))
	if err != nil {
		return nil, &tune.Error{Op: "identify", Subject: target, Err: err}
	}
	return tune.Identity{"pid": pid, "start": start}, nil
}

// startTime finds field 22 of /proc/<pid>/stat.
func startTime(stat string) (string, error) {
	_, fields, err := statFields(stat)
	if err != nil {
		return "", err
	}
	return fields[19], nil
}

// statFields splits /proc/<pid>/stat into the command's name, which may hold anything, and the twenty or more
// fields behind it: the state is the first of them, the parent the second, the start the twentieth.
func statFields(stat string) (comm string, fields []string, err error) {
	from, to := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	if from < 0 || to < from {
		return "", nil, fmt.Errorf("process state %q: %w", stat, tune.ErrCorrupt)
	}
	if fields = strings.Fields(stat[to+1:]); len(fields) < 20 {
		return "", nil, fmt.Errorf("process state has %d fields: %w", len(fields)+2, tune.ErrCorrupt)
	}
	return stat[from+1 : to], fields, nil
}

func (h *Host) socketIdentity(target string) (tune.Identity, error) {
	s, err := ParseSocketTarget(target)
	if err != nil {
		return nil, err
	}
	if _, err := h.findSocket(s); err != nil {
		return nil, &tune.Error{Op: "identify", Subject: target, Err: err}
	}
	id := tune.Identity{"cookie": strconv.FormatUint(s.Cookie, 16), "netns": strconv.FormatUint(s.Netns, 10)}
	space, err := h.netnsIdentity(NetnsTarget(s.Netns))
	if err != nil {
		return nil, err
	}
	if cookie, ok := space["cookie"]; ok {
		id["netns_cookie"] = cookie
	}
	return id, nil
}

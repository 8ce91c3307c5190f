package cli

import (
	"fmt"
	"path"
	"regexp"
	"strings"

	"semantos/internal/tune"
)

// place says how a person reaches a tunable without semantos.
type place struct {
	Sysctl string // its sysctl name with dots, "" when it is none
	File   string // its file, "" when it has none
	Why    string // why there is neither
}

// placeOf finds the sysctl name or the file of a tunable on a target of this namespace.
func placeOf(t *tune.Tunable, target string, cgroupMount func(file string) string) place {
	rel := t.PathOf(target)
	switch t.Method {
	case tune.MethodSysctl:
		return place{Sysctl: sysctlName(rel), File: path.Join("/proc/sys", rel)}
	case tune.MethodSysfs, tune.MethodChoice:
		return place{File: path.Join("/sys", rel)}
	case tune.MethodDebugfs:
		return place{File: path.Join("/sys/kernel/debug", rel)}
	case tune.MethodCgroup:
		return place{File: path.Join(cgroupMount(rel), target, rel)}
	case tune.MethodProcess:
		return place{File: path.Join("/proc", strings.TrimPrefix(target, "pid:"), rel)}
	case tune.MethodDMALatency:
		return place{Why: "is held by an open descriptor and ends with the process that holds it"}
	}
	return place{Why: "lives in a running process' socket, which only semantos rollback reaches"}
}

// sysctlName turns a path below /proc/sys into what sysctl(8) takes. A dot inside a segment (a VLAN
// interface "eth0.1") stands as a slash there.
func sysctlName(rel string) string {
	return strings.NewReplacer("/", ".", ".", "/").Replace(strings.Trim(rel, "/"))
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_.,:=/@+-]+$`)

// quote makes a word safe for sh.
func quote(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// undoLines are the plain shell lines of writes that put tunables back, in their order.
func undoLines(changes []tune.Change, lookup func(name string) (*tune.Tunable, error), cgroupMount func(file string) string, enter func(target string) string) []string {
	var lines []string
	for _, c := range changes {
		t, err := lookup(c.Tunable)
		if err != nil {
			lines = append(lines, fmt.Sprintf("# %s: %v", c.Tunable, err))
			continue
		}
		p := placeOf(t, c.Target, cgroupMount)
		prefix := ""
		if c.Scope == tune.ScopeNetns {
			prefix = enter(c.Target)
		}
		switch {
		case p.Sysctl != "":
			lines = append(lines, prefix+"sysctl -w "+quote(p.Sysctl+"="+string(c.Proposed)))
		case p.File != "":
			lines = append(lines, fmt.Sprintf("echo %s > %s", quote(string(c.Proposed)), quote(p.File)))
		default:
			lines = append(lines, fmt.Sprintf("# %s on %s %s", c.Tunable, oneLine(c.Target), p.Why))
		}
	}
	return lines
}

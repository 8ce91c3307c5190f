package probe

import (
	"fmt"
	"strings"

	"semantos/internal/tune"
)

// Scope narrows what a probe counts; zero fields do not narrow. What several fields name must all hold.
type Scope struct {
	Cgroup uint64 // id of the cgroup (its inode) in the unified hierarchy
	Netns  uint32 // inode of the network namespace
	TGID   uint32 // process
	Port   uint16 // local port of a socket
	Comm   string // name of a thread or of its process, at most 15 bytes
}

// The flags of struct scope in headers/probe.h.
const (
	scopeCgroup = 1 << iota
	scopeNetns
	scopeComm
	scopePort
	scopeTGID
)

// rawScope is struct scope.
type rawScope struct {
	Cgroup uint64
	Flags  uint32
	Netns  uint32
	TGID   uint32
	Port   uint16
	_      uint16
	Comm   [16]byte
}

func (s Scope) raw() (rawScope, error) {
	r := rawScope{Cgroup: s.Cgroup, Netns: s.Netns, TGID: s.TGID, Port: s.Port}
	set := func(on bool, flag uint32) {
		if on {
			r.Flags |= flag
		}
	}
	set(s.Cgroup != 0, scopeCgroup)
	set(s.Netns != 0, scopeNetns)
	set(s.Comm != "", scopeComm)
	set(s.Port != 0, scopePort)
	set(s.TGID != 0, scopeTGID)
	if len(s.Comm) > 15 || strings.ContainsRune(s.Comm, 0) {
		return r, fmt.Errorf("process name %q: %w: the kernel keeps 15 bytes of it", s.Comm, tune.ErrOutOfRange)
	}
	copy(r.Comm[:], s.Comm)
	return r, nil
}

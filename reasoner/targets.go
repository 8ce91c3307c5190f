package reasoner

import (
	"fmt"
	"slices"
	"strings"

	"semantos/internal/tune"
)

// maxInstances bounds how many queues or CPUs one template is spread over.
const maxInstances = 64

// reaches reports whether an entity of a kind carries the target of a tunable.
func reaches(kind string, t *tune.Tunable) bool {
	switch t.Scope {
	case tune.ScopeHost:
		return true
	case tune.ScopeNetns:
		return slices.Contains([]string{tune.EntityNetns, tune.EntityListener, tune.EntityUDPSocket, tune.EntityNetdev, tune.EntityProcess}, kind)
	case tune.ScopeDevice:
		if perCPU(t) {
			return true
		}
		if strings.HasPrefix(t.Name, "net/") {
			return kind == tune.EntityNetdev
		}
		return kind == tune.EntityDevice
	case tune.ScopeCgroup:
		return kind == tune.EntityCgroup || kind == tune.EntityProcess
	case tune.ScopeProcess:
		return kind == tune.EntityProcess
	case tune.ScopeSocket:
		return kind == tune.EntityListener || kind == tune.EntityUDPSocket
	}
	return false
}

func perCPU(t *tune.Tunable) bool { return strings.HasPrefix(t.Name, "cpu/{") }

// targets lists the instances of a tunable that belong to an entity. A template with a queue covers
// every queue of the device, one per CPU covers every CPU.
func (s *session) targets(t *tune.Tunable, e *tune.Entity) []string {
	switch {
	case t.Scope == tune.ScopeHost:
		return []string{"host"}
	case perCPU(t):
		return s.instances(t, func(i int) string { return fmt.Sprintf("cpu%d", i) })
	case e == nil:
		return nil
	}
	label := e.Labels[string(t.Scope)]
	if label == "" {
		return nil
	}
	if strings.Contains(t.Name, "{queue}") {
		queue := "/rx-%d"
		if strings.Contains(t.Name, "xps") {
			queue = "/tx-%d"
		}
		return s.instances(t, func(i int) string { return label + fmt.Sprintf(queue, i) })
	}
	return []string{label}
}

func (s *session) instances(t *tune.Tunable, name func(i int) string) []string {
	var out []string
	for i := range maxInstances {
		target := name(i)
		if _, err := s.read(t, target); err != nil {
			break
		}
		out = append(out, target)
	}
	return out
}

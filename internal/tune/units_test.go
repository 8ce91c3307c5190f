package tune

import (
	"fmt"
	"testing"
)

func TestUnits(t *testing.T) {
	t.Parallel()
	at := func(scope Scope, tunable, target, to string) Change {
		return Change{Tunable: tunable, Scope: scope, Target: target, Proposed: Value(to)}
	}
	socket := func(n int) string { return fmt.Sprintf("tcp:0.0.0.0:80;netns=%d;cookie=f", n) }
	for name, tc := range map[string]struct {
		changes []Change
		want    string
	}{
		"namespaces": {[]Change{at(ScopeNetns, "a", "netns:1", "5"), at(ScopeNetns, "a", "netns:2", "5")},
			"[{netns:1 [0]} {netns:2 [1]}]"},
		"sockets of their namespaces": {[]Change{at(ScopeNetns, "a", "netns:1", "5"), at(ScopeSocket, "b", socket(1), "6"),
			at(ScopeNetns, "a", "netns:2", "5"), at(ScopeSocket, "b", socket(2), "6"), at(ScopeSocket, "b", socket(2)+"0", "6")},
			"[{netns:1 [0 1]} {netns:2 [2 3 4]}]"},
		"sockets alone":    {[]Change{at(ScopeSocket, "b", socket(1), "6"), at(ScopeSocket, "b", socket(1)+"0", "6")}, "[{" + socket(1) + " [0]} {" + socket(1) + "0 [1]}]"},
		"queues of a disk": {[]Change{at(ScopeDevice, "net/eth0/queues/rx-0/rps_cpus", "eth0/rx-0", "3"), at(ScopeDevice, "net/eth0/queues/rx-1/rps_cpus", "eth0/rx-1", "3")}, "[]"},
		"disks":            {[]Change{at(ScopeDevice, "block/vda/queue/nr_requests", "vda", "64"), at(ScopeDevice, "block/vdb/queue/nr_requests", "vdb", "64")}, "[{vda [0]} {vdb [1]}]"},
		"cpus":             {[]Change{at(ScopeDevice, "cpu/cpu0/x", "cpu0", "1"), at(ScopeDevice, "cpu/cpu1/x", "cpu1", "1")}, "[]"},
		"one":              {[]Change{at(ScopeNetns, "a", "netns:1", "5"), at(ScopeNetns, "b", "netns:1", "5")}, "[]"},
		"with the host":    {[]Change{at(ScopeNetns, "a", "netns:1", "5"), at(ScopeNetns, "a", "netns:2", "5"), at(ScopeHost, "h", "host", "1")}, "[]"},
		"not alike":        {[]Change{at(ScopeNetns, "a", "netns:1", "5"), at(ScopeNetns, "b", "netns:2", "5")}, "[]"},
		"other values":     {[]Change{at(ScopeNetns, "a", "netns:1", "5"), at(ScopeNetns, "a", "netns:2", "6")}, "[]"},
		"of two scopes":    {[]Change{at(ScopeCgroup, "a", "/x", "5"), at(ScopeProcess, "a", "pid:2", "5")}, "[]"},
		"nothing":          {nil, "[]"},
	} {
		if got := fmt.Sprint(Units(tc.changes)); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

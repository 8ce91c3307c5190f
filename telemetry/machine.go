package telemetry

import (
	"semantos/internal/host"
	"semantos/internal/tune"
)

// Machine is what telemetry needs of internal/host.
type Machine interface {
	Path(parts ...string) string
	BootID() (string, error)
	Facts() (tune.Facts, error)
	NetMachine
}

// NetMachine is its part that knows network namespaces and who holds a socket.
type NetMachine interface {
	Namespaces() ([]host.Netns, error)
	InNetns(target string, fn func() error) error
	Owners(inodes []uint64) map[uint64]host.Owner
}

// Aid looks at what this process has no right to: other processes, other network namespaces.
type Aid interface {
	Read(name, target string) (tune.Value, error) // a catalogued tunable
	ProcessUse(pid int, start uint64, want host.UseWanted) (host.ProcessUse, error)
	DiagSocket(netns string) (int, error)
}

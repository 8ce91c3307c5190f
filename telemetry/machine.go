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

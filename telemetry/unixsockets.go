package telemetry

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"semantos/internal/tune"
)

// The parts of linux/unix_diag.h used here.
const (
	unixRequestLen  = 24
	unixMessageLen  = 16
	unixShowQueue   = 0x10
	attrUnixQueue   = 4
	maxUnixSockets  = 2048 // looked at per namespace
	unixStatesAll   = ^uint32(0)
	unixStateOffset = 4
)

// UnixSocket is what the kernel tells of one local socket.
type UnixSocket struct {
	Type    uint8
	Waiting uint32 // bytes that wait to be read; of a listener, connections
}

// UnixSource answers for the local sockets of the calling thread's namespace. A [SocketSource] without it
// has no data on them.
type UnixSource interface {
	DumpUnix(max int, visit func(UnixSocket)) error
}

// unixsocketsCollector watches datagram sockets alone: of a stream the kernel keeps no count of messages,
// and no tunable bounds it.
type unixsocketsCollector struct{ *env }

func newUnixSockets(e *env) collector { return &unixsocketsCollector{e} }

func (c *unixsocketsCollector) Name() string { return "unixsockets" }

func (c *unixsocketsCollector) Signals() []tune.Signal {
	return table(tune.EntityNetns, "sock_diag, UNIX_DIAG", `
unix.dgram_sockets | sockets | local datagram sockets
unix.dgram_waiting | sockets | local datagram sockets with something waiting to be read`)
}

func (c *unixsocketsCollector) Collect(_ context.Context, f *frame) error {
	source, ok := c.sockets.source.(UnixSource)
	if !ok {
		return fileError("sock_diag", errNotExist)
	}
	return c.eachNamespace(f, c.Name(), func(n nsview) error {
		sockets, waiting := 0.0, 0.0
		visit := func() error {
			return source.DumpUnix(maxUnixSockets, func(s UnixSocket) {
				if s.Type == unix.SOCK_DGRAM {
					sockets++
					waiting += boolean(s.Waiting > 0)
				}
			})
		}
		if err := c.inside(n, visit); err != nil {
			return err
		}
		e := n.entry(f)
		e.gauge("unix.dgram_sockets", sockets)
		e.gauge("unix.dgram_waiting", waiting)
		return nil
	})
}

// DumpUnix implements [UnixSource].
func (k *kernelSockets) DumpUnix(most int, visit func(UnixSocket)) error {
	seen := 0
	err := k.ask(unixRequestBytes(), func(payload []byte) error {
		s, err := parseUnixDiag(payload)
		if err != nil {
			return err
		}
		if seen++; seen > most {
			return errCut
		}
		visit(s)
		return nil
	})
	if errors.Is(err, errCut) {
		return nil
	}
	return err
}

func unixRequestBytes() []byte {
	b := make([]byte, unix.SizeofNlMsghdr+unixRequestLen)
	ne := binary.NativeEndian
	ne.PutUint32(b[0:], uint32(len(b)))
	ne.PutUint16(b[4:], sockDiagByFamily)
	ne.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	ne.PutUint32(b[8:], 1)
	r := b[unix.SizeofNlMsghdr:]
	r[0] = unix.AF_UNIX
	ne.PutUint32(r[unixStateOffset:], unixStatesAll)
	ne.PutUint32(r[12:], unixShowQueue)
	return b
}

// parseUnixDiag reads a unix_diag_msg and its queue.
func parseUnixDiag(b []byte) (UnixSocket, error) {
	if len(b) < unixMessageLen {
		return UnixSocket{}, fmt.Errorf("local socket message of %d bytes: %w", len(b), tune.ErrCorrupt)
	}
	ne := binary.NativeEndian
	s := UnixSocket{Type: b[1]}
	for rest := b[unixMessageLen:]; len(rest) >= unix.SizeofRtAttr; {
		size, kind := int(ne.Uint16(rest)), ne.Uint16(rest[2:])
		if size < unix.SizeofRtAttr || size > len(rest) {
			return UnixSocket{}, fmt.Errorf("local socket attribute of %d bytes: %w", size, tune.ErrCorrupt)
		}
		if p := rest[unix.SizeofRtAttr:size]; kind == attrUnixQueue && len(p) >= 8 {
			s.Waiting = ne.Uint32(p)
		}
		rest = rest[min(len(rest), (size+3)&^3):]
	}
	return s, nil
}

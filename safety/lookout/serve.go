package lookout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"semantos/internal/host"
	"semantos/internal/tune"
	"semantos/safety/pace"
)

// Machine is what is looked at; internal/host is one.
type Machine interface {
	Read(t *tune.Tunable, target string) (tune.Value, error)
	Probe(t *tune.Tunable, target string) tune.Capability
	ProcessUse(pid int, start uint64, want host.UseWanted) (host.ProcessUse, error)
	Kills() ([]host.Kill, error)
	NetMachine
}

// NetMachine is its part that knows namespaces and sockets.
type NetMachine interface {
	Namespaces() ([]host.Netns, error)
	Owners(inodes []uint64) map[uint64]host.Owner
	DiagSocket(netns string) (int, error)
}

// Catalogue says what has a name; kb has it.
type Catalogue interface {
	Lookup(name string) (t *tune.Tunable, target string, err error)
}

// Config of the answering side.
type Config struct {
	Socket    *os.File // inherited, SOCK_SEQPACKET
	Machine   Machine
	Catalogue Catalogue
	Now       func() time.Time
}

// The pace of requests. A tick with a hundred namespaces and thirty processes takes some three hundred.
const (
	perSecond = 1000
	burst     = 3000
)

// Serve answers until the other side or ctx ends. It is run by the guard process beside its own work.
func Serve(ctx context.Context, cfg Config) error {
	conn, err := connect(cfg.Socket)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer func() { _ = conn.Close() }()
	bucket := pace.New(perSecond, burst)
	buf := make([]byte, maxPacket)
	for {
		n, _, flags, _, err := conn.ReadMsgUnix(buf, nil)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.Is(err, syscall.ECONNRESET), err == nil && n == 0:
			return nil
		case err != nil:
			return fmt.Errorf("read request to look: %w", err)
		case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
			return fmt.Errorf("read request to look: it is longer than %d bytes: %w", maxPacket, tune.ErrUsage)
		}
		var q request
		if err := strict(buf[:n], &q); err != nil {
			return fmt.Errorf("read request to look: %w: %w", tune.ErrUsage, err)
		}
		r, fd := reply{ID: q.ID}, -1
		err = q.check()
		if err == nil && !bucket.Take(cfg.Now()) {
			err = fmt.Errorf("more than %d requests a second: %w", perSecond, tune.ErrBusy)
		}
		if err == nil {
			fd, err = cfg.look(q, &r)
		}
		if err != nil {
			r.Error = newFault(err)
		}
		if err := send(conn, r, fd); err != nil {
			return err
		}
	}
}

// look answers one request; fd is what goes with the answer, or -1. A fault of ours ends the look alone: the
// guard beside it holds what must be put back.
func (c Config) look(q request, r *reply) (fd int, err error) {
	fd = -1
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("look for %s: %v", q.Verb, fault)
		}
	}()
	switch q.Verb {
	case verbRead, verbProbe:
		err = c.tunable(q, r)
	case verbNamespaces:
		r.Namespaces, err = c.Machine.Namespaces()
	case verbOwners:
		r.Owners = c.Machine.Owners(q.Inodes)
		for ino, o := range r.Owners {
			o.Pids = o.Pids[:min(len(o.Pids), maxPids)]
			r.Owners[ino] = o
		}
	case verbProcess:
		var use host.ProcessUse
		use, err = c.Machine.ProcessUse(q.Pid, q.Start, *q.Want)
		r.Use = &use
	case verbDiag:
		if !strings.HasPrefix(q.Target, "netns:") {
			return fd, fmt.Errorf("namespace %q: %w", q.Target, tune.ErrUsage)
		}
		fd, err = c.Machine.DiagSocket(q.Target)
	case verbStatistics:
		fd, err = statistics()
	case verbKills:
		r.Kills, err = c.Machine.Kills()
	}
	return fd, err
}

// tunable reads or probes what the catalogue knows by this name, on a target in full: shorthands would
// mean the guard's own.
func (c Config) tunable(q request, r *reply) error {
	t, inName, err := c.Catalogue.Lookup(q.Name)
	if err != nil {
		return err
	}
	target := q.Target
	if inName != "" && !strings.Contains(inName, "{") {
		target = inName
	}
	if target == "self" || t.Scope == tune.ScopeNetns && !strings.HasPrefix(target, "netns:") {
		return fmt.Errorf("target %q of %s: %w", target, q.Name, tune.ErrUsage)
	}
	if q.Verb == verbProbe {
		can := c.Machine.Probe(t, target)
		r.Capability = &can
		return nil
	}
	r.Value, err = c.Machine.Read(t, target)
	return err
}

// statistics switches BPF_ENABLE_STATS on for as long as the descriptor is open. That is all there is to
// it: the descriptor cannot be read, written or mapped.
func statistics() (int, error) {
	const enableStats, runTime = 32, 0 // enum bpf_cmd, enum bpf_stats_type of linux/bpf.h
	attr := struct{ kind uint32 }{runTime}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, enableStats, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	if errno != 0 {
		return -1, fmt.Errorf("switch statistics of BPF on: %w (%w)", tune.ErrNotPermitted, errno)
	}
	return int(fd), nil
}

func send(conn *net.UnixConn, r reply, fd int) error {
	var oob []byte
	if fd >= 0 {
		defer unix.Close(fd)
		oob = unix.UnixRights(fd)
	}
	b, err := json.Marshal(r)
	if err == nil && len(b) > maxPacket {
		b, err = json.Marshal(reply{ID: r.ID, Error: newFault(fmt.Errorf("answer of %d bytes: %w", len(b), tune.ErrUnsupported))})
	}
	if err != nil {
		return fmt.Errorf("answer a request to look: %w", err)
	}
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second)) // one who does not read is not waited for
	if _, _, err := conn.WriteMsgUnix(b, oob, nil); err != nil {
		if errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed) {
			return nil
		}
		return fmt.Errorf("answer a request to look: %w", err)
	}
	return nil
}

// Pair makes the two ends: packets, so that an answer and its descriptor stay together.
func Pair() (ours, theirs *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket to look: %w", err)
	}
	for _, fd := range pair {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 2*maxPacket) // the kernel's own is long enough for all but the longest
	}
	return os.NewFile(uintptr(pair[0]), "look"), os.NewFile(uintptr(pair[1]), "look"), nil
}

func connect(f *os.File) (*net.UnixConn, error) {
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("use socket to look: %w", err)
	}
	_ = f.Close() // conn has a descriptor of its own
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("use socket to look: %w: it is no unix socket", tune.ErrUsage), conn.Close())
	}
	return u, nil
}

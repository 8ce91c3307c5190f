package guard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"semantos/internal/tune"
)

// Config is what the guard process needs from internal/cli.
type Config struct {
	Socket    *os.File // descriptor 3, inherited
	Actuator  Actuator
	Catalogue Catalogue
	DataDir   string
	RunDir    string // /run/semantos, below Root
	Root      string // where persist writes; "" is the machine itself
	BootID    string
	InitNetns string        // target of the machine's own namespace; read from pid 1 when empty
	Lease     time.Duration // 0: DefaultLease
	LockWait  time.Duration // 0: DefaultLockWait
	Pace      float64       // writing requests a second, three times as many at once; 0: DefaultPace
	Now       func() time.Time

	Witness Witness // who else writes; nil: nobody looks

	AuditKeep  time.Duration // how long the log of decisions and writes is kept; 0: whatever its age
	AuditBytes int64         // how much of it; 0: no bound
}

// DefaultLease is how long a parent may be silent; [Client] renews five times as often.
const DefaultLease = 700 * time.Millisecond

// DefaultPace bounds applies and persists: a rollout makes a few a second, one gone wild thousands. What
// puts back is never counted.
const DefaultPace = 20

// DefaultLockWait covers the time a guard needs to restore after its parent died.
const DefaultLockWait = 1500 * time.Millisecond

// Run serves one parent until it says goodbye or dies, and leaves every tunable committed or as
// before. It is the whole of `semantos guard`.
func Run(ctx context.Context, cfg Config) error {
	conn, err := inherited(cfg.Socket)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	terminated, stopSignals := ownSignals()
	defer stopSignals()
	s := &guardServer{cfg: cfg, conn: conn, frames: make(chan wireRequest, maxQueued), start: time.Now(), lapse: make(chan struct{}, 1), pace: cfg.pace()}
	weak := harden()
	hello, err := s.greet()
	if err != nil {
		return told(err)
	}
	lock, err := lockHost(cfg.RunDir, cfg.LockWait)
	if err != nil {
		return s.refuse(hello.ID, err)
	}
	written := true
	defer func() {
		if written { // else the kernel drops it, once no file of ours can come late into the next guard's
			lock.release()
		}
	}()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stopFiles, err := s.open()
	if err != nil {
		return s.refuse(hello.ID, err)
	}
	defer func() { written = stopFiles() }()
	s.seen.Store(int64(time.Since(s.start)))
	if err := s.reply(wireReply{ID: hello.ID, Version: protocolVersion, Pid: os.Getpid(), Notes: s.notes, Weak: weak}); err != nil {
		return nil // the parent went while we recovered: nothing is held
	}
	s.engine.beginWitness(cfg.Witness)
	go s.receive(cancel)
	go s.watch(ctx, terminated, cancel)
	return s.serve(ctx)
}

// Refuse answers a parent's greeting with an error, for a guard that cannot start (a malformed
// catalogue): the parent then has the reason, not only a dead child.
func Refuse(socket *os.File, cause error) error {
	conn, err := inherited(socket)
	if err != nil {
		return errors.Join(cause, err)
	}
	defer func() { _ = conn.Close() }()
	s := &guardServer{conn: conn}
	hello, err := s.greet()
	if err != nil {
		return errors.Join(cause, told(err))
	}
	return s.refuse(hello.ID, cause)
}

// refuse gives an error to the parent, which prints it. It is returned only when the parent is gone:
// reported twice on one terminal it would look like two.
func (s *guardServer) refuse(id uint64, err error) error {
	if lost := s.reply(wireReply{ID: id, Error: toWire(err)}); lost != nil {
		return err
	}
	return nil
}

// told drops the error of a parent that is gone: there is nothing to do and nobody to tell.
func told(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	return err
}

func inherited(socket *os.File) (net.Conn, error) {
	if socket != nil {
		conn, err := net.FileConn(socket)
		if err == nil {
			_ = socket.Close() // conn has a descriptor of its own, and only it may keep the pair open
			return conn, nil
		}
	}
	return nil, &tune.Error{Op: "start guard", Err: fmt.Errorf("%w: no socket was handed over", tune.ErrUsage),
		Hint: "the guard is started by semantos itself, never by hand"}
}

// ownSignals makes the guard survive its terminal: only SIGTERM ends it, after it has restored. SIGPIPE
// must not kill it while it reports to a parent that is gone.
func ownSignals() (<-chan os.Signal, func()) {
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE)
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	return c, func() { signal.Stop(c) }
}

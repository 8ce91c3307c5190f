package safety

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"semantos/internal/tune"
)

// GuardConfig is what the guard process needs from internal/cli.
type GuardConfig struct {
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
	Now       func() time.Time
}

// DefaultLease is how long a parent may be silent; [Client] renews five times as often.
const DefaultLease = 700 * time.Millisecond

// DefaultLockWait covers the time a guard needs to restore after its parent died.
const DefaultLockWait = 1500 * time.Millisecond

// RunGuard serves one parent until it says goodbye or dies, and leaves every tunable committed or as
// before. It is the whole of `semantos guard`.
func RunGuard(ctx context.Context, cfg GuardConfig) error {
	conn, err := inherited(cfg.Socket)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	terminated, stopSignals := ownSignals()
	defer stopSignals()
	s := &guardServer{cfg: cfg, conn: conn, frames: make(chan wireRequest, maxQueued), start: time.Now(), lapse: make(chan struct{}, 1)}
	s.notes = harden()
	hello, err := s.greet()
	if err != nil {
		return told(err)
	}
	lock, err := lockHost(cfg.RunDir, cfg.LockWait)
	if err != nil {
		return s.refuse(hello.ID, err)
	}
	defer lock.release()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stopQueue, err := s.open()
	if err != nil {
		return s.refuse(hello.ID, err)
	}
	defer stopQueue()
	s.seen.Store(int64(time.Since(s.start)))
	if err := s.reply(wireReply{ID: hello.ID, Version: protocolVersion, Pid: os.Getpid(), Notes: s.notes}); err != nil {
		return nil // the parent went while we recovered: nothing is held
	}
	go s.receive(cancel)
	go s.watch(ctx, terminated, cancel)
	return s.serve(ctx)
}

// RefuseGuard answers a parent's greeting with an error, for a guard that cannot start (a malformed
// catalogue): the parent then has the reason, not only a dead child.
func RefuseGuard(socket *os.File, cause error) error {
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

// guardServer ties the engine to one parent's socket.
type guardServer struct {
	cfg    GuardConfig
	conn   net.Conn
	engine *engine
	notes  []string
	frames chan wireRequest
	lapse  chan struct{}
	start  time.Time    // monotonic zero of seen
	seen   atomic.Int64 // when the parent last said anything

	mu     sync.Mutex
	cancel context.CancelFunc // of the verb under way
}

// greet waits for the parent's hello.
func (s *guardServer) greet() (wireRequest, error) {
	_ = s.conn.SetReadDeadline(time.Now().Add(10 * time.Second)) // a socket takes deadlines
	var hello wireRequest
	if err := readFrame(s.conn, &hello); err != nil {
		return hello, fmt.Errorf("greet parent: %w", err)
	}
	_ = s.conn.SetReadDeadline(time.Time{})
	if err := hello.check(); err != nil || hello.Verb != verbHello || hello.Version != protocolVersion {
		err = errors.Join(err, &tune.Error{Op: "greet parent", Err: fmt.Errorf("%w: version %d, the guard speaks %d", errProtocol, hello.Version, protocolVersion),
			Hint: "the binary was replaced while it ran: start again"})
		return hello, errors.Join(err, s.refuse(hello.ID, err))
	}
	return hello, nil
}

// open reads the journals and recovers before anything is served. A journal that cannot be read or
// written does not stop recovery; it stops new changes, each with the reason.
func (s *guardServer) open() (func(), error) {
	dataDir := absolute(s.cfg.DataDir)
	copies, err := readCopies(osDisk{}, s.cfg.RunDir)
	if err != nil {
		return nil, err
	}
	b, found := newBook(osDisk{}, dataDir, s.cfg.RunDir)
	q := newQueue(b)
	stop := func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		q.stop(ctx)
	}
	s.engine = &engine{act: s.cfg.Actuator, cat: s.cfg.Catalogue, log: q, disk: osDisk{}, root: s.cfg.Root, boot: s.cfg.BootID,
		now: s.cfg.Now, state: loadState(found, copies, dataDir), initNetns: s.cfg.initNetns()}
	if found.torn > 0 {
		s.notes = append(s.notes, fmt.Sprintf("journal %s ended in %d bytes of an unfinished record: dropped", b.main.path, found.torn))
	}
	rec, err := s.engine.recoverAll(copies, dataDir, s.cfg.RunDir)
	s.notes = append(s.notes, rec.Notes...)
	if err != nil {
		s.notes = append(s.notes, "recovery is not complete: "+err.Error())
	}
	if err := q.usable(); err != nil {
		s.notes = append(s.notes, "no change is accepted: "+err.Error())
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := b.main.compact(s.engine.state); err != nil {
		s.notes = append(s.notes, "journal was not compacted: "+err.Error())
	}
	return stop, nil
}

func (c GuardConfig) initNetns() string {
	if c.InitNetns != "" || c.Root != "" {
		return c.InitNetns
	}
	link, err := os.Readlink("/proc/1/ns/net") // net:[4026531840]
	var inode uint64
	if err != nil {
		return ""
	}
	if _, err := fmt.Sscanf(link, "net:[%d]", &inode); err != nil {
		return ""
	}
	return fmt.Sprintf("netns:%d", inode)
}

// receive reads frames until the socket ends; each one renews the lease.
func (s *guardServer) receive(gone context.CancelCauseFunc) {
	for {
		var q wireRequest
		if err := readFrame(s.conn, &q); err != nil {
			if !errors.Is(err, io.EOF) {
				err = fmt.Errorf("read from parent: %w", err)
			}
			gone(err)
			return
		}
		s.seen.Store(int64(time.Since(s.start)))
		if q.Verb == verbLease {
			continue
		}
		select {
		case s.frames <- q:
		default: // reading must go on, or the end of the parent would not be seen
			gone(fmt.Errorf("%w: more than %d requests wait", errProtocol, maxQueued))
			return
		}
	}
}

// maxQueued bounds the requests a parent may have waiting.
const maxQueued = 64

// watch interrupts a verb that waits when the parent falls silent or the guard is told to end.
func (s *guardServer) watch(ctx context.Context, terminated <-chan os.Signal, end context.CancelCauseFunc) {
	tick := time.NewTicker(s.cfg.lease() / 20)
	defer tick.Stop()
	for late := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-terminated:
			end(errTerminated)
			return
		case <-tick.C:
		}
		if time.Since(s.start)-time.Duration(s.seen.Load()) < s.cfg.lease() {
			late = 0
			continue
		}
		if late++; late < 2 {
			continue // we may have been stopped ourselves: let the reader catch up first
		}
		s.interrupt()
		select {
		case s.lapse <- struct{}{}:
		default:
		}
	}
}

var errTerminated = errors.New("guard was told to end")

func (c GuardConfig) lease() time.Duration {
	if c.Lease > 0 {
		return c.Lease
	}
	return DefaultLease
}

func (s *guardServer) interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel != nil {
		s.cancel()
	}
}

// serve answers verbs one after the other. Whatever ends it, uncommitted changes are put back first.
func (s *guardServer) serve(ctx context.Context) error {
	for {
		if ctx.Err() != nil {
			_, err := s.engine.undoUncommitted(ended(context.Cause(ctx)))
			s.leave()
			return err
		}
		select {
		case <-ctx.Done():
		case <-s.lapse:
			if s.engine.uncommitted() {
				_, _ = s.engine.undoUncommitted("the command stopped renewing its lease") // what failed stays open, and is tried again at the end
			}
		case q := <-s.frames:
			if bye, err := s.answer(ctx, q); bye || err != nil {
				s.leave()
				return err
			}
		}
	}
}

func ended(cause error) string {
	if errors.Is(cause, io.EOF) {
		return "the command ended without committing"
	}
	return fmt.Sprintf("the command is lost: %v", cause)
}

// leave ends what only this process's descriptors hold.
func (s *guardServer) leave() {
	for _, ro := range s.engine.state.open() {
		_ = s.engine.dropDescriptors(ro) // the descriptor closes with us either way
	}
}

// answer performs one verb and replies. The boolean says that the parent said goodbye.
func (s *guardServer) answer(ctx context.Context, q wireRequest) (bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	s.cancel = cancel
	s.mu.Unlock()
	r := wireReply{ID: q.ID}
	err := q.check()
	if err == nil {
		err = s.perform(ctx, q, &r)
	}
	r.Error = toWire(err)
	bye := err == nil && q.Verb == verbBye
	if err := s.reply(r); err != nil && !bye {
		_, undoErr := s.engine.undoUncommitted("the command is lost: " + err.Error())
		return true, errors.Join(told(err), undoErr)
	}
	return bye, nil
}

func (s *guardServer) perform(ctx context.Context, q wireRequest, r *wireReply) (err error) {
	g := s.engine
	switch q.Verb {
	case verbApply:
		r.Applied, err = g.apply(ctx, q.Rollout, q.Changes, q.Actor)
	case verbRevert:
		r.Restored, err = g.revert(q.Rollout)
	case verbCommit:
		err = g.commit(ctx, q.Rollout)
	case verbRollback:
		r.Restored, err = g.rollback(q.Rollout, q.Actor)
	case verbPersist:
		r.Files, err = g.persist(ctx, q.Rollout)
	case verbManaged:
		r.Managed = g.state.managed(g.boot, false)
	case verbBye:
		r.Restored, err = g.undoUncommitted("the command ended without committing")
	default:
		err = fmt.Errorf("%w: %s out of turn", errProtocol, q.Verb)
	}
	return err
}

func (s *guardServer) reply(r wireReply) error {
	_ = s.conn.SetWriteDeadline(time.Now().Add(500 * time.Millisecond)) // a parent that does not read must not hold us
	return writeFrame(s.conn, r)
}

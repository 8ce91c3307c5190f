package guard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"semantos/internal/tune"
	"semantos/safety/journal"
	"semantos/safety/pace"
)

// guardServer ties the engine to one parent's socket.
type guardServer struct {
	cfg    Config
	conn   net.Conn
	engine *engine
	queue  *queue
	noted  notes
	notes  []string
	frames chan wireRequest
	lapse  chan struct{}
	pace   *pace.Bucket
	start  time.Time    // monotonic zero of seen
	seen   atomic.Int64 // when the parent last said anything

	mu       sync.Mutex
	cancel   context.CancelFunc // of the verb under way
	under    string             // its rollout
	restores []string           // rollouts of the requests to put back that wait behind it, "" for all
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
//
// The function it gives ends what it began, and reports whether every file is written: what still waits for a disk
// is written when that answers, also by a process that is ending.
func (s *guardServer) open() (stop func() bool, err error) {
	dataDir := absolute(s.cfg.DataDir)
	copies, err := journal.ReadCopies(journal.HostDisk{}, s.cfg.RunDir)
	if err != nil {
		return nil, err
	}
	b, found := journal.OpenBook(journal.HostDisk{}, dataDir, s.cfg.RunDir)
	q := newQueue(b)
	q.audit = s.cfg.newAuditor(dataDir, found)
	q.said(beganEntry())
	s.queue = q
	files := newLanes()
	stop = func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), flushTime)
		defer cancel()
		written := files.stop(ctx)
		s.engine.settle()
		q.stop(ctx)
		return written
	}
	s.engine = &engine{act: s.cfg.Actuator, cat: s.cfg.Catalogue, log: q, disk: journal.HostDisk{}, run: s.cfg.RunDir, data: dataDir, root: s.cfg.Root, boot: s.cfg.BootID,
		now: s.cfg.Now, state: journal.Load(found, copies, dataDir), initNetns: s.cfg.initNetns(),
		said: q.said, files: files}
	if found.Torn > 0 {
		s.notes = append(s.notes, fmt.Sprintf("journal %s ended in %d bytes of an unfinished record: dropped", b.Path(), found.Torn))
	}
	rec, err := s.engine.recoverAll(copies, dataDir, s.cfg.RunDir)
	s.notes = append(s.notes, rec.Notes...)
	s.engine.adoptFreeze()
	if err != nil {
		s.notes = append(s.notes, "recovery is not complete: "+err.Error())
	}
	if err := q.prepare(s.engine.state, startWait); err != nil {
		s.notes = append(s.notes, "journal was not compacted: "+err.Error())
	}
	if err := q.Usable(); err != nil {
		s.notes = append(s.notes, "no change is accepted: "+err.Error())
	}
	return stop, nil
}

// startWait is how long the start of a guard waits for the journal's disk once everything is put back: what
// was committed can be rolled back also while that hangs.
const startWait = 2 * time.Second

// flushTime is how long the end of a guard waits for a busy disk to take the records of what it has
// already put back. Flushing gigabytes of other people's dirty pages can take seconds.
const flushTime = 10 * time.Second

func (c Config) initNetns() string {
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
		if err := q.check(); err != nil { // before it waits: a frame can spell far more than its verb takes
			q = wireRequest{ID: q.ID, bad: err}
		}
		s.announce(q)
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
	timer := time.NewTimer(s.cfg.lease())
	defer timer.Stop()
	for late := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-terminated:
			end(errTerminated)
			return
		case <-timer.C:
		}
		// A renewed lease is not looked at again before it could run out: an idle guard sleeps.
		if left := s.cfg.lease() - time.Since(s.start) + time.Duration(s.seen.Load()); left > 0 {
			late = 0
			timer.Reset(left)
			continue
		}
		timer.Reset(s.cfg.lease() / 20)
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

func (c Config) lease() time.Duration {
	if c.Lease > 0 {
		return c.Lease
	}
	return DefaultLease
}

// writes reports whether a verb changes something that stands as it was.
func (v verb) writes() bool { return v == verbApply || v == verbPersist }

var errTooFast = errors.New("too many requests")

func (c Config) pace() *pace.Bucket {
	rate := c.Pace
	if rate <= 0 {
		rate = DefaultPace
	}
	return pace.New(rate, 3*rate)
}

// restores reports whether a verb puts something back.
func (v verb) restores() bool {
	return v == verbRevert || v == verbRollback || v == verbFreeze || v == verbBye
}

// announce notes a request to put something back before its turn comes: what waits for the disk in
// front of it makes way.
func (s *guardServer) announce(q wireRequest) {
	if !q.Verb.restores() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.restores = append(s.restores, q.Rollout)
	s.makeWay()
}

// begin takes a verb as the one under way.
func (s *guardServer) begin(q wireRequest, cancel context.CancelFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.restores, q.Rollout); i >= 0 && q.Verb.restores() {
		s.restores = slices.Delete(s.restores, i, i+1)
	}
	s.cancel, s.under = cancel, q.Rollout
	s.makeWay()
}

// makeWay ends the wait of the verb under way: at once when its own rollout is to be put back, else
// when it takes longer than a healthy disk does.
func (s *guardServer) makeWay() {
	switch {
	case s.cancel == nil || len(s.restores) == 0:
	case slices.Contains(s.restores, s.under) || slices.Contains(s.restores, ""):
		s.cancel()
	default:
		time.AfterFunc(makeWayAfter, s.cancel)
	}
}

// makeWayAfter is what a change of another rollout still gets.
const makeWayAfter = 25 * time.Millisecond

func (s *guardServer) interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel != nil {
		s.cancel()
	}
}

// serve answers verbs one after the other. Whatever ends it, uncommitted changes are put back first: also a
// fault of our own, which is told after that.
func (s *guardServer) serve(ctx context.Context) (err error) {
	defer func() {
		if fault := recover(); fault != nil {
			_, undoErr := s.engine.undoUncommitted("the guard failed")
			err = errors.Join(fmt.Errorf("the guard failed: %v\n%s", fault, debug.Stack()), undoErr)
		}
	}()
	for {
		if ctx.Err() != nil {
			_, err := s.engine.undoUncommitted(ended(context.Cause(ctx)))
			s.leave()
			return err
		}
		var look <-chan time.Time // an idle guard sleeps
		if s.engine.uncommitted() {
			look = time.After(freezeLook)
		}
		select {
		case <-ctx.Done():
		case <-look:
			s.engine.obeyFreeze()
		case <-s.engine.files.woke:
			s.engine.settle()
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

// freezeLook is how soon a guard sees that a command of another data folder froze the host.
const freezeLook = 200 * time.Millisecond

func ended(cause error) string {
	if errors.Is(cause, io.EOF) {
		return "the command ended without committing"
	}
	return fmt.Sprintf("the command is lost: %v", cause)
}

// leave ends what only this process's descriptors hold.
func (s *guardServer) leave() {
	for _, ro := range s.engine.state.Open() {
		_ = s.engine.dropDescriptors(ro) // the descriptor closes with us either way
	}
}

// answer performs one verb and replies. The boolean says that the parent said goodbye.
func (s *guardServer) answer(ctx context.Context, q wireRequest) (bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.begin(q, cancel)
	r := wireReply{ID: q.ID}
	err := q.bad
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
	g.settle()
	g.actor = q.Actor
	if q.Verb.writes() && !s.pace.Take(s.cfg.Now()) {
		err = &tune.Error{Op: string(q.Verb), Subject: q.Rollout, Err: fmt.Errorf("%w: the guard takes no more writes for now", errTooFast),
			Hint: "what stands is put back; report it, for no rollout asks so often"}
		if s.noted.take(time.Now()) {
			g.sayRefused(q.Rollout, q.Changes, err)
		}
		return err
	}
	switch q.Verb {
	case verbApply:
		if r.Applied, err = g.apply(ctx, q.Rollout, q.Changes, q.Actor); err != nil && s.noted.take(time.Now()) {
			g.sayRefused(q.Rollout, q.Changes, err)
		}
	case verbRevert:
		r.Restored, err = g.revert(q.Rollout, q.Targets...)
	case verbCommit:
		err = g.commit(ctx, q.Rollout)
	case verbRollback:
		r.Restored, err = g.rollback(ctx, q.Rollout, q.Actor)
	case verbPersist:
		r.Files, err = g.persist(ctx, q.Rollout)
	case verbRelease:
		r.Restored, err = g.release(ctx, q.Rollout, q.Changes, q.Actor)
	case verbReopen:
		err = g.reopen(ctx, q.Rollout)
	case verbFreeze:
		r.Restored, err = g.freeze(ctx, tune.Freeze{By: q.Actor, Why: q.Why})
		g.sayFreeze(q.Actor, q.Why, true)
	case verbFrozen:
		r.Frozen = g.frozen(ctx, freezeAsk)
	case verbThaw:
		if err = g.thaw(ctx); err == nil {
			g.sayFreeze(q.Actor, "", false)
		}
	case verbManaged:
		r.Managed = g.state.Managed(g.boot, false)
	case verbWho:
		r.Told, err = g.tellWho(q.Changes)
	case verbNote:
		err = s.note(*q.Note)
	case verbAudit:
		r.Audit = s.standing(ctx)
	case verbBye:
		r.Restored, err = g.undoUncommitted("the command ended without committing")
	default:
		err = fmt.Errorf("%w: %s out of turn", errProtocol, q.Verb)
	}
	return err
}

func (s *guardServer) reply(r wireReply) error {
	frame, err := encodeFrame(maxReply, r)
	if errors.Is(err, errTooLong) { // no reason to end
		frame, err = encodeFrame(maxReply, wireReply{ID: r.ID, Error: toWire(err)})
	}
	if err != nil {
		return err
	}
	_ = s.conn.SetWriteDeadline(time.Now().Add(500 * time.Millisecond)) // a parent that does not read must not hold us
	_, err = s.conn.Write(frame)
	return err
}
